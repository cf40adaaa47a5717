from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.core.received import _RANGES_LIMIT, REPLAY_WINDOW, ReceivedCounters


def take(received: ReceivedCounters, counter: int) -> bool:
    """As the session does: True if the packet is opened and counted."""
    if not received.fresh(counter):
        return False
    received.add(counter, float(counter))
    return True


@given(st.lists(st.integers(0, 300), max_size=200))
def test_received_takes_each_counter_once(counters: list[int]) -> None:
    received, seen = ReceivedCounters(), set()
    for counter in counters:
        assert take(received, counter) == (counter not in seen)
        seen.add(counter)
    covered = {value for low, high in received.ranges() for value in range(low, high + 1)}
    assert covered == seen
    assert received.highest == max(seen, default=-1)


@given(st.lists(st.integers(0, 300), max_size=200))
def test_received_ranges_are_newest_first_with_gaps(counters: list[int]) -> None:
    received = ReceivedCounters()
    for counter in counters:
        take(received, counter)
    ranges = received.ranges()
    assert all(low <= high for low, high in ranges)
    assert all(low > high + 1 for (low, _), (_, high) in itertools.pairwise(ranges))


@pytest.mark.parametrize("seed", range(5))
def test_received_never_takes_a_counter_twice_however_far_they_jump(seed: int) -> None:
    source = random.Random(seed)
    received, seen, base = ReceivedCounters(), set(), 0
    for _ in range(20_000):
        base += source.choice([0, 1, 1, 1, 2, 100, 5000]) if source.random() < 0.3 else 1
        counter = max(0, base - source.choice([0, 0, 1, 10, 5000, 20_000]))
        if take(received, counter):
            assert counter not in seen
            assert counter >= received.highest - REPLAY_WINDOW - 1
            seen.add(counter)
    assert len(received.lows) == len(received.highs) <= _RANGES_LIMIT


def test_received_refuses_what_lies_below_the_window() -> None:
    received = ReceivedCounters()
    assert take(received, 100)
    assert take(received, 100 + REPLAY_WINDOW)
    assert not received.fresh(99)
    assert not received.fresh(100)
    assert received.fresh(101)


def test_received_keeps_the_window_behind_an_unbroken_run() -> None:
    received = ReceivedCounters()
    for counter in range(1, 3 * REPLAY_WINDOW):
        assert take(received, counter)
    assert not received.fresh(0)
    assert not received.fresh(2 * REPLAY_WINDOW)
    assert received.ranges() == [(1, 3 * REPLAY_WINDOW - 1)]


def test_received_gives_up_the_lowest_gaps_when_there_are_too_many() -> None:
    received = ReceivedCounters()
    for counter in range(0, 4 * _RANGES_LIMIT, 2):
        assert take(received, counter)
    assert len(received.ranges()) == _RANGES_LIMIT
    assert not received.fresh(1)
    assert received.fresh(4 * _RANGES_LIMIT - 3)


@pytest.mark.parametrize(
    ("counters", "in_order"),
    [
        ([0, 1, 2], [True, True, True]),
        ([0, 2, 1], [True, False, False]),
        ([1, 0, 2], [True, False, True]),
        ([5], [True]),
    ],
)
def test_received_tells_what_came_in_order(counters: list[int], in_order: list[bool]) -> None:
    received = ReceivedCounters()
    assert [received.add(counter, 0.0) for counter in counters] == in_order


def test_received_notes_when_the_newest_came() -> None:
    received = ReceivedCounters()
    received.add(5, 1.0)
    received.add(3, 2.0)
    assert received.newest_at == 1.0
    received.add(6, 3.0)
    assert received.newest_at == 3.0
