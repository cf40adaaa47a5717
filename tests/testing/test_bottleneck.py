from __future__ import annotations

import pytest

from covey.testing.bottleneck import Bottleneck, jain


@pytest.mark.parametrize(
    ("shares", "index"), [([1, 1], 1.0), ([1, 0], 0.5), ([1, 1, 1, 0], 0.75), ([3, 1], 0.8), ([0, 0], 1.0)]
)
def test_jain_is_one_for_equal_shares(shares: list[float], index: float) -> None:
    assert jain(shares) == pytest.approx(index)


def test_line_takes_its_time_and_the_queue_its_bytes() -> None:
    path = Bottleneck(rate_bits_s=8e6, queue_bytes=5000)
    assert path.carry(1000) == pytest.approx(path.now + 0.001)
    assert path.carry(1000) == pytest.approx(path.now + 0.002)
    assert path.backlog == pytest.approx(2000)
    assert [path.carry(1000) is None for _ in range(4)] == [False, False, False, True]
    assert path.dropped == 1
    path.run(0.001)
    assert path.carry(1000) is not None


def test_line_that_is_down_or_lossy_carries_nothing() -> None:
    path = Bottleneck(rate_bits_s=8e6, queue_bytes=10_000, loss=0.5, seed=1)
    lost = 0
    for _ in range(1000):
        lost += path.carry(100) is None
        path.run(0.001)
    assert 430 < lost < 570
    path.loss, path.down = 0.0, True
    assert path.carry(100) is None


def test_flow_delivers_what_it_sends_and_begins_when_told() -> None:
    path = Bottleneck(rate_bits_s=10e6, queue_bytes=100_000)
    flow = path.flow("cubic", rtt_s=0.02, start_s=1.0)
    path.run(0.99)
    assert flow.sent == 0
    path.run(1.0)
    flow.hungry = False
    path.run(1.0)
    assert flow.delivered == flow.sent > 500_000
    assert min(flow.round_trips) >= 0.02
    assert flow.rate_bits_s(flow.delivered, 1.0) == 0


def test_runs_repeat() -> None:
    def once() -> tuple[int, int]:
        path = Bottleneck(rate_bits_s=10e6, queue_bytes=20_000, loss=0.01, seed=5)
        flows = [path.flow("cubic", rtt_s=0.02), path.flow("bbr", rtt_s=0.03, jitter_s=0.001)]
        path.run(3.0)
        return flows[0].delivered, flows[1].delivered

    assert once() == once()
