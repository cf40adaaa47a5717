"""Every plan of one small workload that could be cheaper than the best one known, by depth-first search.

Branches are cut where what is chosen so far, and the cheapest way to cover the rest, cost as much as the best plan.
Only plans that keep every constraint are looked for, so the best one known must keep them all.
"""

from __future__ import annotations

from math import ceil

from covey.fleet.placing.judge import EPSILON, TOLERANCE, Counts, Room, Score, better, judge
from covey.fleet.placing.rules import Entry
from covey.fleet.placing.search import Steps, unit_price

__all__ = ["SMALL", "enumerate_plans"]

SMALL = 10.0
"""Standard agents: a workload that needs no more is enumerated."""

NODES = 6000
"""Nodes of one enumeration; a node costs about 1 us, a leaf is a plan judged. What is not reached stays unknown: the
answer is then the best plan found, as after any local search."""


def enumerate_plans(
    entry: Entry, room: Room, useful: list[int], best: Counts, score: Score, steps: Steps
) -> tuple[Counts, Score]:
    """The best plan of `entry` in `room`, or `best` when no cheaper one was found."""
    return _Enumeration(entry, room, useful, best, score, steps).run()


class _Enumeration:
    def __init__(self, entry: Entry, room: Room, useful: list[int], best: Counts, score: Score, steps: Steps) -> None:
        self.entry, self.room, self.steps = entry, room, steps
        self.best, self.score = best, score
        options = entry.options
        order = {*useful, *best, *(j for j, option in enumerate(options) if option.low)}
        self.prices = {j: unit_price(options[j], room) - room.toll(options[j]) for j in order}
        self.order = sorted(order, key=lambda j: (self.prices[j] / options[j].speed, j))
        # From each place in the order on, the least that a standard agent costs.
        self.least = [self.prices[j] / options[j].speed for j in self.order] + [float("inf")]
        wanted = max(entry.minimum, entry.floor)
        doubled = 2 if entry.keep or entry.weights else 1
        self.most = {
            j: min(
                room.headroom(entry, j),
                max(wanted, doubled * ceil(entry.need / options[j].speed - TOLERANCE), options[j].low),
            )
            for j in self.order
        }
        self.nodes = min(NODES, steps.left)
        self.counts: Counts = {}

    def run(self) -> tuple[Counts, Score]:
        before = self.nodes
        self._visit(0, 0, 0.0, 0.0)
        # A node is a fraction of a plan judged.
        self.steps.left -= (before - self.nodes) // 4
        return self.best, self.score

    def _visit(self, at: int, agents: int, cover: float, cost: float) -> None:
        entry = self.entry
        if self.nodes <= 0:
            return
        self.nodes -= 1
        rest = entry.need - cover
        if cost + (rest * self.least[at] if rest > TOLERANCE else 0.0) >= self.score[-1] - EPSILON:
            return
        if at == len(self.order):
            self.nodes -= 8
            value = judge(entry, self.counts, self.room)
            if better(value, self.score):
                self.best, self.score = dict(self.counts), value
            return
        j = self.order[at]
        option = entry.options[j]
        for n in range(min(self.most[j], entry.maximum - agents), option.low - 1, -1):
            if n:
                self.counts[j] = n
            else:
                self.counts.pop(j, None)
            self._visit(at + 1, agents + n, cover + n * option.speed, cost + n * self.prices[j])
        self.counts.pop(j, None)
