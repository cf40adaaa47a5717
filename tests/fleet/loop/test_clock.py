from __future__ import annotations

from covey.fleet.loop.clock import SteadyClock


class Clocks:
    def __init__(self) -> None:
        self.wall = 1000.0
        self.monotonic = 5.0

    def run(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def steady() -> tuple[SteadyClock, Clocks]:
    clocks = Clocks()
    return SteadyClock(lambda: clocks.wall, lambda: clocks.monotonic), clocks


def test_clock_that_is_set_forward_makes_nothing_late() -> None:
    clock, clocks = steady()
    clocks.wall += 3600.0
    clocks.run(1.0)
    assert 1000.9 < clock() < 1001.1


def test_clock_that_is_set_back_does_not_stand_still() -> None:
    clock, clocks = steady()
    clocks.run(10.0)
    first = clock()
    clocks.wall -= 3600.0
    clocks.run(10.0)
    assert 9.0 < clock() - first < 10.0


def test_clock_follows_the_time_of_day_in_the_end() -> None:
    clock, clocks = steady()
    clocks.wall += 60.0
    for _ in range(2000):
        clocks.run(1.0)
        now = clock()
    assert abs(now - clocks.wall) < 0.001
