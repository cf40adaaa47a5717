"""Work for strangers: bounded, metered, and fair between lanes."""

from __future__ import annotations

import pytest

from covey.core import limits
from covey.core.backlog import Backlog

NOW = 100.0


class Clock:
    """Moves on by `step` seconds for each piece of work."""

    def __init__(self, step: float = 0.0) -> None:
        self.at = 7.0
        self.step = step
        self.done: list[int] = []

    def __call__(self) -> float:
        return self.at

    def work(self, item: int) -> None:
        self.done.append(item)
        self.at += self.step


def served(clock: Clock, backlog: Backlog[int], runs: int) -> list[int]:
    for _ in range(runs):
        due = backlog.deadline()
        if due is not None:
            backlog.run(due, clock.work)
    return clock.done


def test_nothing_waiting_is_no_deadline_and_no_load() -> None:
    backlog: Backlog[int] = Backlog(Clock())
    assert backlog.deadline() is None
    assert not backlog.loaded(NOW)
    backlog.run(NOW, lambda item: pytest.fail("there was no work"))


def test_work_is_due_at_once() -> None:
    clock = Clock()
    backlog: Backlog[int] = Backlog(clock)
    backlog.put(NOW, 1, "direct", "x", key=1)
    assert backlog.deadline() == NOW
    backlog.run(NOW, clock.work)
    assert clock.done == [1]
    assert backlog.deadline() is None


@pytest.mark.parametrize(("step", "done"), [(0.0001, 20), (0.0004, 5), (0.01, 1)])
def test_run_stops_when_its_time_is_used_up(step: float, done: int) -> None:
    clock = Clock(step)
    backlog: Backlog[int] = Backlog(clock)
    for number in range(50):
        backlog.put(NOW, number, "direct", "x", key=number)
    backlog.run(NOW, clock.work)
    assert abs(len(clock.done) - done) <= 1
    assert backlog.deadline() == pytest.approx(NOW + len(clock.done) * step)


def test_clock_that_stands_still_counts_by_estimate() -> None:
    clock = Clock(0.0)
    backlog: Backlog[int] = Backlog(clock)
    for number in range(50):
        backlog.put(NOW, number, "direct", "x", key=number)
    backlog.run(NOW, clock.work)
    assert len(clock.done) == limits.WORK_SECONDS / limits.HANDSHAKE_COST
    assert backlog.deadline() == NOW + limits.WORK_SECONDS


def test_work_before_its_time_is_not_done() -> None:
    clock = Clock(0.0)
    backlog: Backlog[int] = Backlog(clock)
    for number in range(50):
        backlog.put(NOW, number, "direct", "x", key=number)
    backlog.run(NOW, clock.work)
    done = len(clock.done)
    backlog.run(NOW + limits.WORK_SECONDS / 2, clock.work)
    assert len(clock.done) == done
    backlog.run(NOW + limits.WORK_SECONDS, clock.work)
    assert len(clock.done) == 2 * done


def test_load_is_many_items_and_stays_for_a_second() -> None:
    clock = Clock()
    backlog: Backlog[int] = Backlog(clock)
    for number in range(limits.LOAD_ITEMS):
        backlog.put(NOW, number, "direct", "x", key=number)
    assert not backlog.loaded(NOW)
    backlog.put(NOW, 0, "direct", "x", key=limits.LOAD_ITEMS)
    assert backlog.loaded(NOW)
    assert len(served(clock, backlog, 100)) == limits.LOAD_ITEMS + 1
    assert backlog.loaded(NOW + limits.LOAD_STICKY - 0.001)
    assert not backlog.loaded(NOW + limits.LOAD_STICKY)


def test_load_is_also_little_that_takes_long() -> None:
    clock = Clock(0.02)
    backlog: Backlog[int] = Backlog(clock)
    for number in range(30):
        backlog.put(NOW + number, number, "direct", "x", key=number)
        backlog.run(NOW + number, clock.work)
    assert not backlog.loaded(NOW + 40)
    for number in range(3):
        backlog.put(NOW + 40, number, "direct", "x", key=number)
    assert backlog.loaded(NOW + 40)


def test_lanes_are_bounded_each_by_itself() -> None:
    backlog: Backlog[int] = Backlog(Clock())
    for number in range(1000):
        backlog.put(NOW, number, "direct", number % 7, key=number)
        backlog.put(NOW, number, "relayed", number, key=number)
    assert len(backlog) == 2 * limits.BACKLOG_LANE
    backlog.put(NOW, 1, "known", 1, key=1)
    assert len(backlog) == 2 * limits.BACKLOG_LANE + 1


def test_lanes_take_turns() -> None:
    clock = Clock(2 * limits.WORK_SECONDS)
    backlog: Backlog[int] = Backlog(clock)
    for number in range(100):
        backlog.put(NOW, number, "direct", "x", key=number)
        backlog.put(NOW, 1000 + number, "relayed", "x", key=1000 + number)
    for number in range(3):
        backlog.put(NOW, 2000 + number, "known", "x", key=2000 + number)
    served(clock, backlog, 12)
    assert sorted(item for item in clock.done if item >= 2000) == [2000, 2001, 2002]
    assert [item for item in clock.done if item < 1000] == list(range(len([i for i in clock.done if i < 1000])))
    assert abs(sum(item < 1000 for item in clock.done) - sum(1000 <= item < 2000 for item in clock.done)) <= 1


def test_sources_of_a_lane_take_turns() -> None:
    clock = Clock(2 * limits.WORK_SECONDS)
    backlog: Backlog[int] = Backlog(clock)
    for number in range(30):
        backlog.put(NOW, number, "relayed", "greedy", key=number)
    backlog.put(NOW, 100, "relayed", "modest", key=100)
    backlog.put(NOW, 200, "relayed", "other", key=200)
    backlog.put(NOW, 201, "relayed", "other", key=201)
    assert served(clock, backlog, 6) == [0, 100, 200, 1, 201, 2]


def test_full_lane_has_room_for_a_source_that_asks_rarely() -> None:
    clock = Clock(2 * limits.WORK_SECONDS)
    backlog: Backlog[int] = Backlog(clock)
    for number in range(10 * limits.BACKLOG_LANE):
        backlog.put(NOW, number, "relayed", number % 40, key=number)
    backlog.put(NOW, -1, "relayed", "modest", key=-1)
    assert len(backlog) == limits.BACKLOG_LANE
    assert -1 in served(clock, backlog, 41)


def test_full_lane_of_modest_sources_drops_the_latest() -> None:
    clock = Clock(2 * limits.WORK_SECONDS)
    backlog: Backlog[int] = Backlog(clock)
    for number in range(limits.BACKLOG_LANE + 10):
        backlog.put(NOW, number, "relayed", number, key=number)
    assert served(clock, backlog, limits.BACKLOG_LANE + 10) == list(range(limits.BACKLOG_LANE))


def test_full_lane_of_many_who_asked_a_lot_has_room_for_one_who_did_not() -> None:
    clock = Clock(2 * limits.WORK_SECONDS)
    backlog: Backlog[int] = Backlog(clock)
    for number in range(2 * limits.BACKLOG_LANE):
        backlog.put(NOW, number, "direct", number, 0.4 if number == 7 else 0.5, key=number)
    backlog.put(NOW, -1, "direct", "modest", 0.8, key=-1)
    done = served(clock, backlog, limits.BACKLOG_LANE)
    assert -1 in done
    assert 7 not in done
    assert len(done) == limits.BACKLOG_LANE


def test_less_work_is_done_while_much_arrives() -> None:
    """There is probably more in the socket, and packets of sessions are among it."""
    clock = Clock(limits.BUSY_WORK_SECONDS / 2)
    backlog: Backlog[int] = Backlog(clock)
    for number in range(50):
        backlog.put(NOW, number, "direct", number, key=number)
    for _ in range(limits.BUSY_ARRIVALS):
        backlog.arrived()
    assert 2 <= len(served(clock, backlog, 1)) <= 3
    assert len(served(clock, backlog, 1)) >= 8


def test_work_done_elsewhere_delays_what_waits_and_becomes_load() -> None:
    backlog: Backlog[int] = Backlog(Clock())
    backlog.charge(NOW, limits.LOAD_SECONDS / 2)
    backlog.put(NOW, 1, "direct", 1, key=1)
    assert backlog.deadline() == NOW + limits.LOAD_SECONDS / 2
    assert not backlog.loaded(NOW)
    backlog.charge(NOW, limits.LOAD_SECONDS)
    assert backlog.loaded(NOW)
    backlog.charge(NOW, 3600.0)
    assert backlog.deadline() == NOW + 2 * limits.LOAD_SECONDS


def test_who_asks_again_while_he_waits_asks_once() -> None:
    backlog: Backlog[int] = Backlog(lambda: 0.0)
    for number in range(3):
        backlog.put(NOW, number, "direct", "x", key="first")
        backlog.put(NOW, 10 + number, "direct", "x", key="second")
    backlog.put(NOW, 20, "direct", "y", key="first")
    done: list[int] = []
    for step in range(10):
        backlog.run(NOW + step, done.append)
    assert done == [2, 20, 12]
