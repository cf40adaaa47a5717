"""The fluid queue, cold starts, drains, what is paid, what is a violation: worked out by hand."""

from __future__ import annotations

from array import array

import pytest

from covey.fleet.model import Offering
from covey.fleet.simulate.clock import run
from covey.fleet.simulate.pilots import FixedPilot, SchedulePilot
from covey.fleet.simulate.world import DRAIN, World

OFFERING = Offering(pool="p", shape="s", price=3600.0)
KEY = OFFERING.key


def world(cold_start: float = 10.0) -> World:
    return World([OFFERING], workload="w", rate_per_agent=2.0, cold_start=cold_start)


def test_a_fixed_size_serves_what_it_can_and_is_paid_all_the_time() -> None:
    at = world()
    at.start(KEY, 3, ready=True)
    figures = run(at, FixedPilot(KEY, 3), array("q", [6] * 100))
    assert (
        figures.requests, figures.violated, figures.agent_seconds, figures.cost_usd,
    ) == (600.0, 0.0, 300.0, 300.0)  # fmt: skip
    assert at.backlog == 0.0


def test_requests_that_find_more_than_five_seconds_of_backlog_are_violated() -> None:
    at = world()
    at.start(KEY, 1, ready=True)
    # 4 a second against 2: the backlog grows by 2 a second and is above 10 from the sixth second's end on.
    figures = run(at, FixedPilot(KEY, 1), array("q", [4] * 10))
    assert figures.violated == 4 * 4


def test_requests_that_find_nobody_ready_are_violated() -> None:
    at = world(cold_start=10.0)
    figures = run(at, FixedPilot(KEY, 1), array("q", [1] * 10 + [0] * 20))
    assert figures.violated == 10
    assert figures.agent_seconds == 30.0  # a starting agent is paid


def test_a_draining_agent_serves_nothing_and_is_paid_until_it_is_gone() -> None:
    at = world()
    at.start(KEY, 2, ready=True)
    figures = run(at, SchedulePilot(KEY, [2, 1], 10), array("q", [0] * 20))
    assert figures.agent_seconds == 10 * 2 + 10 + DRAIN
    assert (at.ready, at.capacity) == (1, 2.0)


def test_a_starting_agent_that_is_not_wanted_any_more_ends_at_once() -> None:
    at = world(cold_start=100.0)
    figures = run(at, SchedulePilot(KEY, [2, 0], 10), array("q", [0] * 20))
    assert figures.agent_seconds == 20.0


def test_reversals_are_changes_of_direction() -> None:
    at = world()
    for size in (5, 6, 6, 8, 7, 7, 6, 9, 9):
        at.aim(size)
    assert at.figures.reversals == 2


def test_room_limits_starts_and_counts_the_failure() -> None:
    at = world()
    at.room[KEY] = 2
    assert (at.start(KEY, 3), at.start(KEY, 1)) == (2, 0)
    assert at.figures.capacity_failures == 2


def test_a_sample_is_the_mean_since_the_last_one() -> None:
    at = world()
    at.start(KEY, 2, ready=True)
    run(at, FixedPilot(KEY, 2), array("q", [6] * 10))
    sample = at.sample()
    assert (sample.arrivals, sample.completions, sample.backlog, sample.utilisation) == (6.0, 4.0, 20.0, 1.0)


@pytest.mark.parametrize("step", [1, 7])
def test_what_comes_in_is_served_or_waits(step: int) -> None:
    at = world()
    at.start(KEY, 2, ready=True)
    arrivals = array("q", [(i * 7) % 11 for i in range(100)])
    run(at, SchedulePilot(KEY, [2, 4, 1, 3] * 20, step), arrivals)
    assert sum(arrivals) == pytest.approx(at.served + at.backlog)
