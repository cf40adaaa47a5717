"""What the controllers make of a line: full, fair, without a standing queue, in spite of losses and outages."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from covey.base.types import CongestionControl
from covey.core.bbr import Bbr
from covey.core.pacer import BURST_SECONDS
from covey.testing.bottleneck import Bottleneck, Flow, jain

RATE = 10e6
RTT = 0.04
BDP = RATE * RTT / 8
SIZE = 1452
BOTH = pytest.mark.parametrize("algorithm", ["cubic", "bbr"])


def line(queue: float = 1.0, *, loss: float = 0.0, rate: float = RATE, rtt: float = RTT) -> Bottleneck:
    """With a queue of so many bandwidth-delay products."""
    return Bottleneck(rate_bits_s=rate, queue_bytes=int(queue * rate * rtt / 8), loss=loss, seed=1)


def measured(path: Bottleneck, *flows: Flow, warm: float, seconds: float) -> list[float]:
    """The share of the line that each flow got."""
    path.run(warm)
    before = [flow.delivered for flow in flows]
    path.run(seconds)
    return [flow.rate_bits_s(since, seconds) / path.rate_bits_s for flow, since in zip(flows, before, strict=True)]


def alone(algorithm: CongestionControl, path: Bottleneck, *, warm: float = 2.0, seconds: float = 6.0) -> float:
    return measured(path, path.flow(algorithm, rtt_s=RTT), warm=warm, seconds=seconds)[0]


@BOTH
@pytest.mark.parametrize("queue", [0.25, 1.0, 8.0])
def test_line_is_full(algorithm: CongestionControl, queue: float) -> None:
    assert alone(algorithm, line(queue)) > 0.94


@pytest.mark.parametrize(("algorithm", "queue", "most"), [("bbr", 1.0, 1.3), ("bbr", 8.0, 1.3), ("cubic", 1.0, 2.1)])
def test_queue_stands_no_longer_than(algorithm: CongestionControl, queue: float, most: float) -> None:
    path = line(queue)
    flow = path.flow(algorithm, rtt_s=RTT)
    path.run(2.0)
    seen = len(flow.round_trips)
    path.run(5.0)
    later = flow.round_trips[seen:]
    assert sum(later) / len(later) < most * RTT


@pytest.mark.parametrize("loss", [0.001, 0.01, 0.05])
def test_cubic_gets_through_random_losses_what_theory_says(loss: float) -> None:
    """RFC 9438, 5.1: the average window is that of Reno with the same losses, or more where the curve is above it."""
    reno = math.sqrt(3 / (2 * loss))
    curve = (0.4 * 3.7 / 1.2) ** 0.25 * (RTT / loss) ** 0.75
    expected = max(reno, curve) * SIZE / RTT / (RATE / 8)
    assert alone("cubic", line(loss=loss), seconds=20.0) > 0.8 * expected


@pytest.mark.parametrize(("loss", "least"), [(0.001, 0.9), (0.01, 0.8)])
def test_bbr_holds_near_the_rate_of_the_line_in_spite_of_random_losses(loss: float, least: float) -> None:
    assert alone("bbr", line(loss=loss)) > least


@pytest.mark.slow
@pytest.mark.parametrize("queue", [0.25, 1.0, 2.0, 8.0])
@pytest.mark.parametrize("names", [("cubic", "cubic"), ("bbr", "bbr"), ("cubic", "bbr")])
def test_two_flows_share_fairly(names: tuple[CongestionControl, CongestionControl], queue: float) -> None:
    path = line(queue)
    flows = [path.flow(name, rtt_s=RTT, start_s=3.0 * number) for number, name in enumerate(names)]
    shares = measured(path, *flows, warm=30.0, seconds=120.0)
    assert sum(shares) > 0.94
    assert jain(shares) >= 0.95


@BOTH
def test_latecomer_gets_its_share(algorithm: CongestionControl) -> None:
    path = line(rate=RATE / 2)
    flows = [path.flow(algorithm, rtt_s=RTT), path.flow(algorithm, rtt_s=RTT, start_s=5.0)]
    assert jain(measured(path, *flows, warm=20.0, seconds=30.0)) >= 0.95


@pytest.mark.parametrize(("rate", "rtt"), [(10e6, 0.04), (100e6, 0.1)])
def test_slow_start_ends_before_the_queue_of_a_long_pipe_overflows(rate: float, rtt: float) -> None:
    """A queue of two bandwidth-delay products. As RFC 9406 has it one of four is not enough (`covey.core.cubic`)."""
    path = line(2.0, rate=rate, rtt=rtt)
    flow = path.flow("cubic", rtt_s=rtt)
    path.run(15 * rtt)
    before = flow.delivered
    path.run(rtt)
    assert flow.rate_bits_s(before, rtt) > 0.95 * rate
    assert path.dropped == 0


@BOTH
def test_flow_comes_back_after_an_outage(algorithm: CongestionControl) -> None:
    path = line()
    flow = path.flow(algorithm, rtt_s=RTT)
    path.run(3.0)
    path.down = True
    path.run(3.0)
    assert flow.congestion.window <= 4 * 1452
    path.down = False
    path.run(3.0)
    before = flow.delivered
    path.run(2.0)
    assert flow.rate_bits_s(before, 2.0) > 0.9 * RATE


@BOTH
def test_reordering_is_no_congestion(algorithm: CongestionControl) -> None:
    """Datagrams overtake each other by up to a fifth of a round trip: what is lost by three is found again."""
    path = line(4.0)
    flow = path.flow(algorithm, rtt_s=RTT, jitter_s=RTT / 5)
    path.run(4.0)
    before = flow.delivered
    path.run(4.0)
    assert flow.rate_bits_s(before, 4.0) > 0.85 * RATE


@BOTH
def test_bursts_are_two_milliseconds_of_the_rate_at_most(algorithm: CongestionControl) -> None:
    """And what came meanwhile, if the sender slept a millisecond. At 200 Mbit/s 2 ms are more than ten datagrams."""
    path = line(1.0, rate=200e6)
    flow = path.flow(algorithm, rtt_s=RTT)
    worst, left = 0.0, 0
    for _ in range(400):
        path.run(0.001)
        burst = sum(size for _, size in list(flow.bursts)[left:])
        left = len(flow.bursts)
        worst = max(worst, burst / max(flow.congestion.rate * (BURST_SECONDS + 0.001), 12 * SIZE))
    assert worst <= 1.05
    assert isinstance(flow.congestion, Bbr) == (algorithm == "bbr")


@BOTH
def test_trains_do_not_wait_long_for_the_pacer(algorithm: CongestionControl) -> None:
    """While data waits and the window is open, something leaves every few milliseconds: what the rate gives in one."""
    path = line(8.0, rate=100e6)
    flow = path.flow(algorithm, rtt_s=RTT)
    path.run(1.0)
    flow.bursts.clear()
    path.run(0.3)
    gaps = [after - before for (before, _), (after, _) in pairwise(flow.bursts)]
    assert max(gaps) < 0.004
