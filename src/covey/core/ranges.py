"""A set of integers kept as disjoint, sorted, half-open ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

__all__ = ["RangeSet"]


class RangeSet:
    """Ranges never touch: adding [3, 5) to [1, 3) gives [1, 5). Costs O(log n) plus what is merged or cut."""

    __slots__ = ("_stops", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        """To look at only: on the hot path its truth is that of the set, without a call."""
        self._stops: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.starts)

    def __len__(self) -> int:
        """How many ranges, not how many integers."""
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self._stops, strict=True)

    def __contains__(self, value: int) -> bool:
        at = bisect_right(self.starts, value) - 1
        return at >= 0 and value < self._stops[at]

    @property
    def first(self) -> tuple[int, int]:
        """The lowest range. IndexError when empty."""
        return self.starts[0], self._stops[0]

    def size(self) -> int:
        """How many integers."""
        return sum(self._stops) - sum(self.starts)

    def add(self, start: int, stop: int) -> None:
        """Adds [start, stop); an empty range is allowed and changes nothing."""
        if start >= stop:
            return
        low = bisect_left(self._stops, start)
        high = bisect_right(self.starts, stop)
        if low < high:
            start = min(start, self.starts[low])
            stop = max(stop, self._stops[high - 1])
        self.starts[low:high] = [start]
        self._stops[low:high] = [stop]

    def remove(self, start: int, stop: int) -> None:
        """Takes [start, stop) out; an empty range changes nothing."""
        if start >= stop:
            return
        low = bisect_right(self._stops, start)
        high = bisect_left(self.starts, stop)
        if low >= high:
            return
        left, right = self.starts[low], self._stops[high - 1]
        starts, stops = [], []
        if left < start:
            starts.append(left)
            stops.append(start)
        if stop < right:
            starts.append(stop)
            stops.append(right)
        self.starts[low:high] = starts
        self._stops[low:high] = stops

    def clear(self) -> None:
        self.starts.clear()
        self._stops.clear()
