"""What every controller promises, whatever the network does."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.types import CongestionControl
from covey.core.bbr import Bbr
from covey.core.congestion import Congestion, controller
from covey.core.cubic import Cubic
from covey.core.recovery import Recovery, Sent

SIZE = 1200
BOTH = pytest.mark.parametrize("algorithm", ["cubic", "bbr"])


def made(algorithm: CongestionControl, seed: int = 0) -> Congestion:
    return controller(algorithm, SIZE, random.Random(seed).randbytes)


def run(first: int, count: int, time: float) -> Sent:
    return Sent(first, count, time, SIZE, SIZE, items=[("ping",)])


def test_controllers_are_chosen_by_name() -> None:
    assert isinstance(made("cubic"), Cubic)
    assert isinstance(made("bbr"), Bbr)


class Abused:
    """Recovery with one controller, driven without sense: what leaves, arrives and is lost has no pattern."""

    def __init__(self, algorithm: CongestionControl, seed: int) -> None:
        self.congestion = made(algorithm, seed)
        self.recovery = Recovery(self.congestion)
        self.now = 1000.0
        self.next = 0
        self.delivered = 0
        self.flying: set[int] = set()

    def send(self, count: int) -> None:
        self.recovery.on_sent(run(self.next, count, self.now))
        self.flying |= set(range(self.next, self.next + count))
        self.next += count

    def acknowledge(self, low: int, high: int) -> None:
        acked, lost = self.recovery.on_ack(self.now, [(low, high)], 0.0)
        self.forget(acked + lost)

    def expire(self) -> None:
        at = self.recovery.deadline()
        if at is not None:
            self.now = max(self.now, at)
            self.forget(self.recovery.on_deadline(self.now))

    def forget(self, runs: list[Sent]) -> None:
        for each in runs:
            self.flying -= set(range(each.first, each.first + each.count))

    def check(self) -> None:
        congestion = self.congestion
        assert congestion.in_flight == SIZE * len(self.flying)
        assert 2 * SIZE <= congestion.window < 1 << 50
        assert math.isfinite(congestion.rate)
        assert congestion.rate > 0
        if isinstance(congestion, Bbr):
            assert congestion.window >= 4 * SIZE
            assert congestion.delivered >= self.delivered
            assert not math.isnan(congestion.min_rtt)
            assert 0 <= congestion.max_bw < math.inf
            self.delivered = congestion.delivered


@BOTH
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["send", "ack", "ack", "expire", "abandon", "limited", "wait"]),
            st.integers(1, 60),
            st.floats(0.0, 3.0),
        ),
        max_size=60,
    ),
    seed=st.integers(0, 1000),
)
def test_controllers_stay_sane_whatever_happens(
    algorithm: CongestionControl, steps: list[tuple[str, int, float]], seed: int
) -> None:
    abused = Abused(algorithm, seed)
    for action, count, wait in steps:
        match action:
            case "send":
                abused.send(count)
            case "ack" if abused.next:
                high = min(abused.next - 1, int(abused.next * wait / 3))
                abused.acknowledge(max(0, high - count), high)
            case "expire":
                abused.expire()
            case "abandon":
                abused.forget(abused.recovery.abandon())
            case "limited":
                abused.recovery.limited = count % 2 == 0
            case _:
                abused.now += wait
        abused.check()


@BOTH
def test_controllers_forget_nothing_in_flight_when_everything_was_late(algorithm: CongestionControl) -> None:
    abused = Abused(algorithm, 0)
    window = abused.congestion.window
    abused.recovery.limited = True
    abused.send(10)
    abused.now += 0.05
    abused.acknowledge(5, 9)
    abused.now += 0.01
    abused.recovery.on_ack(abused.now, [(0, 4)], 0.0)
    abused.check()
    assert abused.congestion.window >= window


@BOTH
def test_controllers_close_the_window_when_nothing_comes_through(algorithm: CongestionControl) -> None:
    abused = Abused(algorithm, 0)
    abused.send(20)
    for _ in range(3):
        abused.expire()
    assert abused.congestion.window <= 4 * SIZE


@BOTH
def test_measured_round_trip_sets_the_rate(algorithm: CongestionControl) -> None:
    recovery = Recovery(made(algorithm))
    before = recovery.congestion.rate
    recovery.on_round_trip(0.0333)
    assert recovery.congestion.rate == pytest.approx(10 * before)
    recovery.on_round_trip(0.0)
    assert math.isfinite(recovery.congestion.rate)
