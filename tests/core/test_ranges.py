from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.core.ranges import RangeSet

OPERATIONS = st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(-2, 20)), max_size=40)


def build(operations: list[tuple[bool, int, int]]) -> tuple[RangeSet, set[int]]:
    ranges, model = RangeSet(), set()
    for add, start, size in operations:
        if add:
            ranges.add(start, start + size)
            model |= set(range(start, start + size))
        else:
            ranges.remove(start, start + size)
            model -= set(range(start, start + size))
    return ranges, model


@given(OPERATIONS)
def test_ranges_hold_what_a_set_holds(operations: list[tuple[bool, int, int]]) -> None:
    ranges, model = build(operations)
    assert {value for start, stop in ranges for value in range(start, stop)} == model
    assert ranges.size() == len(model)
    assert bool(ranges) == bool(model)
    assert all((value in ranges) == (value in model) for value in range(-1, 90))


@given(OPERATIONS)
def test_ranges_are_sorted_and_never_touch(operations: list[tuple[bool, int, int]]) -> None:
    ranges, _ = build(operations)
    found = list(ranges)
    assert len(ranges) == len(found)
    assert all(start < stop for start, stop in found)
    assert all(stop < start for (_, stop), (start, _) in itertools.pairwise(found))


def test_ranges_that_touch_become_one() -> None:
    ranges = RangeSet()
    ranges.add(1, 3)
    ranges.add(5, 7)
    ranges.add(3, 5)
    assert list(ranges) == [(1, 7)]
    assert ranges.first == (1, 7)


def test_ranges_clear() -> None:
    ranges = RangeSet()
    ranges.add(1, 3)
    ranges.clear()
    assert not ranges
    with pytest.raises(IndexError):
        _ = ranges.first
