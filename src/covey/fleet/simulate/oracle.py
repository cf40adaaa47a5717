"""The cheapest schedule with zero violations, found offline: what no scaler that cannot see the future reaches.

It knows every second beforehand, orders each agent a cold start ahead, and pays like everybody else: an agent costs
from its order to the end of its drain, so one that pauses for less than a cold start and a drain is cheaper kept.

How: (1) going through the trace in blocks, the fewest agents that end each block with no violation and the queue no
deeper than half its bound; (2) local search: one fewer in a block, or in a run of equal blocks, where the whole still
has no violation and gets cheaper, until a pass finds nothing. The result is checked second by second. It is a schedule,
so its cost is what can be had; that nothing is cheaper is not proven.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from covey.fleet.simulate.world import BACKLOG_LIMIT, DRAIN

__all__ = ["oracle"]

PASSES = 6
DEEP = 0.5
"""Part of the bound up to which the first schedule lets a block's queue grow."""


def oracle(
    arrivals: array[int], *, rate_per_agent: float, least: int, most: int, start: int, cold_start: float, block: int
) -> list[int]:
    """Agents that must be ready in each block of `block` seconds. `start` of them are there at the beginning, as for
    everybody; before the first cold start is over there can be no more."""
    blocks = [arrivals[at : at + block] for at in range(0, len(arrivals), block)]
    search = _Search(blocks, rate_per_agent, least, most, start, cold_start + DRAIN, block)
    first = min(len(blocks), math.ceil(cold_start / block))
    search.first_schedule(first)
    for _ in range(PASSES):
        if not search.improve(first):
            break
    return search.sizes


class _Search:
    """Sizes by block, and the queue at the beginning of each."""

    def __init__(
        self, blocks: list[array[int]], rate: float, least: int, most: int, start: int, change: float, block: int
    ) -> None:
        self.blocks = blocks
        self.rate = rate
        self.least = max(least, 0)
        self.most = most
        self.start = start
        self.change = change / block
        """What starting one agent and ending it costs, in blocks of one agent."""
        self.sizes = [0] * len(blocks)
        self.queues = [0.0] * (len(blocks) + 1)

    def first_schedule(self, first: int) -> None:
        queue = 0.0
        for index, counts in enumerate(self.blocks):
            if index < first:
                size = min(self.most, max(self.start, self.least))
                _, after = self._serve(counts, size, queue)
            else:
                size, after = self._fewest(counts, queue)
            self.sizes[index] = size
            self.queues[index] = queue
            queue = after
        self.queues[-1] = queue
        self._close()

    def _fewest(self, counts: array[int], queue: float) -> tuple[int, float]:
        mean = (sum(counts) + queue) / len(counts) / self.rate
        size = max(self.least, min(self.most, math.floor(mean * 0.8)))
        while True:
            fine, after = self._serve(counts, size, queue)
            if size >= self.most or (fine and after <= DEEP * BACKLOG_LIMIT * size * self.rate):
                return size, after
            size += 1

    def _close(self) -> None:
        """Fill pauses that are shorter than what a restart costs, level by level: closing with a window."""
        width = math.floor(self.change)
        if width < 1:
            return
        high = _sliding(self.sizes, width)
        self.sizes = [max(a, b) for a, b in zip(self.sizes, _sliding_back(high, width), strict=True)]
        self._settle(0)

    def improve(self, first: int) -> bool:
        """One pass over all runs of equal blocks: one fewer in all of a run, else in its halves, else block by
        block."""
        found = False
        index = first
        while index < len(self.sizes):
            end = index
            while end < len(self.sizes) and self.sizes[end] == self.sizes[index]:
                end += 1
            if self.sizes[index] > self.least and self._lower(index, end):
                found = True
                continue
            index = end
        return found

    def _lower(self, begin: int, end: int) -> bool:
        middle = (begin + end) // 2
        spans = [(begin, end)]
        if end - begin > 1:
            spans += [(begin, middle), (middle, end)]
        if end - begin > 3:
            spans += [(begin, begin + 1), (end - 1, end)]
        return any(self._gain(a, b) > 1e-9 and self._try(a, b) for a, b in spans)

    def _gain(self, begin: int, end: int) -> float:
        """Blocks of one agent saved by one fewer in this span; a new pause in a level costs a restart."""
        size = self.sizes[begin]
        left = self.sizes[begin - 1] >= size if begin else False
        right = self.sizes[end] >= size if end < len(self.sizes) else False
        changes = (1 if left and right else 0) - (0 if left or right else 1)
        return (end - begin) - changes * self.change

    def _try(self, begin: int, end: int) -> bool:
        """Simulate the span and what follows, until the queue is again what it was; undo at the first violation."""
        sizes, queues = self.sizes, self.queues
        old = sizes[begin:end]
        sizes[begin:end] = [size - 1 for size in old]
        changed: list[tuple[int, float]] = []
        queue = queues[begin]
        for index in range(begin, len(sizes)):
            if index >= end and abs(queue - queues[index]) < 1e-9:
                return True
            if index > begin:
                changed.append((index, queues[index]))
                queues[index] = queue
            fine, queue = self._serve(self.blocks[index], sizes[index], queue)
            if not fine:
                sizes[begin:end] = old
                for at, before in changed:
                    queues[at] = before
                return False
        queues[-1] = queue
        return True

    def _settle(self, index: int) -> None:
        queue = self.queues[index]
        for at in range(index, len(self.sizes)):
            self.queues[at] = queue
            _, queue = self._serve(self.blocks[at], self.sizes[at], queue)
        self.queues[-1] = queue

    def _serve(self, counts: array[int], size: int, queue: float) -> tuple[bool, float]:
        """Whether nobody was violated, and the queue after it."""
        capacity = size * self.rate
        limit = BACKLOG_LIMIT * capacity
        fine = True
        for count in counts:
            if count and (queue > limit or capacity <= 0):
                fine = False
            queue += count
            queue = queue - capacity if queue > capacity else 0.0
        return fine, queue


def _sliding(values: Sequence[int], width: int) -> list[int]:
    """The highest of each value and the `width` before it."""
    best: list[int] = []
    kept: list[int] = []
    head = 0
    for index, value in enumerate(values):
        while len(kept) > head and values[kept[-1]] <= value:
            kept.pop()
        kept.append(index)
        if kept[head] < index - width:
            head += 1
        best.append(values[kept[head]])
    return best


def _sliding_back(values: Sequence[int], width: int) -> list[int]:
    """The lowest of each value and the `width` after it; the end counts as nothing."""
    lowest = _sliding([-value for value in (*values, *[0] * width)][::-1], width)
    return [-value for value in lowest[::-1]][: len(values)]
