"""A plan for all workloads while it is made: who has what, and what room that leaves."""

from __future__ import annotations

from collections.abc import Iterable

from covey.fleet.placing.greedy import solve_entry
from covey.fleet.placing.judge import DEMAND, EPSILON, WEIGHTS, Counts, Room, Score, better, judge
from covey.fleet.placing.rules import Entry, Model
from covey.fleet.placing.search import LOOKED, LOOKED_IN_TICKS, Steps

__all__ = ["Plan", "Total", "close_pools", "each", "improves", "total"]

STEPS_EACH = 25_000
STEPS_MOST = 300_000
"""Plans judged for each workload that changed, and in all: about 8 us each on one core of 2026."""

STEPS_FEW, FEW = 450_000, 30
"""With no more workloads than this, each can gain from each other one, and there is time to look."""

Total = tuple[float, ...]
"""The score of a whole plan: broken, `min`, budget, `survive`, then for each priority, highest first, the largest and
the summed share of demand that is missing, then `weights` and cost."""


class Plan:
    """Counts for all workloads, and the room they leave."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.room = Room(model)
        self.counts: list[Counts] = [{} for _ in model.entries]
        changed = sum(entry.item.changed for entry in model.entries)
        looked = LOOKED if changed == len(model.entries) else LOOKED_IN_TICKS
        self.steps = Steps(min(STEPS_EACH * (1 + changed), STEPS_FEW if changed <= FEW else STEPS_MOST), looked)
        self._tied = [{*entry.item.workload.place.near, *entry.item.workload.place.avoid} for entry in model.entries]
        self._leaners = [entry for entry in model.entries if self._tied[entry.index]]
        self.apart: list[list[Entry]] = [[] for _ in model.entries]
        """By workload: those in whose pools it may not be."""
        self.beside: list[list[Entry]] = [[] for _ in model.entries]
        """By workload: those outside whose pools it may not be."""
        self._tie(model)
        self.assumed: dict[int, set[str]] = {}
        """By workload: where it will stand again, while it is lifted for another to be solved first."""
        self.barred: dict[int, frozenset[str]] = {}
        """By workload: pools that it keeps out of while something is tried."""
        self._clock = 0
        self._changed = [0] * len(model.entries)
        self._settled: dict[tuple[int, bool], int] = {}
        self._last: dict[int, Counts] = {}

    def _tie(self, model: Model) -> None:
        names = {entry.name: entry for entry in model.entries}
        for entry in model.entries:
            place = entry.item.workload.place
            for name in place.avoid:
                other = names.get(name)
                if other is not None and other is not entry:
                    self.apart[entry.index].append(other)
                    self.apart[other.index].append(entry)
            for name in place.near:
                other = names.get(name)
                if other is not None and other is not entry:
                    self.beside[entry.index].append(other)

    def put(self, entry: Entry, counts: Counts) -> None:
        self.counts[entry.index] = counts
        self.room.take(entry, counts)
        if self._last.get(entry.index) != counts:
            self._clock += 1
            self._changed[entry.index] = self._clock
            self._last[entry.index] = counts

    def settle(self, entry: Entry, deep: bool) -> None:
        """This workload is solved as things stand."""
        self._settled[entry.index, deep] = self._clock
        if deep:
            self._settled[entry.index, False] = self._clock

    def settled(self, entry: Entry, deep: bool) -> bool:
        """Whether nothing changed since, neither around this workload nor in it."""
        return self._settled.get((entry.index, deep), -1) == self._clock

    def unsettle(self) -> None:
        """What is asked for changed."""
        self._clock += 1

    def lift(self, entry: Entry) -> Counts:
        counts = self.counts[entry.index]
        self.room.give(entry, counts)
        self.counts[entry.index] = {}
        return counts

    def score(self, entry: Entry) -> Score:
        """The score of what one workload has, beside all others."""
        counts = self.lift(entry)
        close_pools(self, entry)
        value = judge(entry, counts, self.room)
        self.put(entry, counts)
        return value

    def pools(self, entry: Entry) -> set[str]:
        """Where one workload is."""
        return {entry.options[j].pool for j in self.counts[entry.index]}

    def leaning(self, *entries: Entry) -> list[Entry]:
        """Those that must be near, or apart from, any of `entries`."""
        names = {entry.name for entry in entries}
        return [entry for entry in self._leaners if names & self._tied[entry.index]]

    def copy(self) -> Plan:
        """The same plan, to be changed."""
        other = Plan(self.model)
        other.steps = self.steps
        for entry in self.model.entries:
            other.put(entry, dict(self.counts[entry.index]))
        return other

    def scores(self) -> list[Score]:
        return [self.score(entry) for entry in self.model.entries]

    def total(self) -> Total:
        """The score of all workloads together."""
        return total(self.model.entries, self.scores())


def total(entries: Iterable[Entry], scores: Iterable[Score]) -> Total:
    """The score of some workloads together."""
    broken = minimum = excess = survive = weights = cost = 0.0
    worst: dict[int, float] = {}
    whole: dict[int, float] = {}
    for entry, score in zip(entries, scores, strict=True):
        broken += score[0]
        minimum += score[1]
        excess = max(excess, score[2])
        survive += score[3]
        worst[entry.priority] = max(worst.get(entry.priority, 0.0), score[DEMAND])
        whole[entry.priority] = whole.get(entry.priority, 0.0) + score[DEMAND]
        weights += score[WEIGHTS]
        cost += score[6]
    levels: list[float] = []
    for priority in sorted(worst, reverse=True):
        levels += (worst[priority], whole[priority])
    return (broken, minimum, excess, survive, *levels, weights, cost)


def improves(new: Total, old: Total) -> bool:
    """Whether a total is better by more than rounding, in the first part where they differ."""
    for a, b in zip(new, old, strict=True):
        if a < b - EPSILON:
            return True
        if a > b + EPSILON:
            return False
    return False


def close_pools(plan: Plan, entry: Entry) -> None:
    """Forbid the pools that affinity with the present places of the others rules out. A workload that is placed after
    the one it must be near sees its places; one that others depend on keeps the pools they are in."""
    closed = set(plan.barred.get(entry.index, ()))
    for other in plan.apart[entry.index]:
        closed |= plan.pools(other)
    for other in plan.beside[entry.index]:
        there = plan.pools(other) | plan.assumed.get(other.index, set())
        closed |= {option.pool for option in entry.options if option.pool not in there}
    if closed:
        plan.room.closed[entry.index] = frozenset(closed)
    else:
        plan.room.closed.pop(entry.index, None)


def each(plan: Plan, order: Iterable[Entry], *, deep: bool = True) -> bool:
    """Solve each workload beside the others; whether any got better. One whose surroundings are what they were when it
    was solved last is left."""
    improved = False
    for entry in order:
        before = plan.counts[entry.index]
        if plan.settled(entry, deep):
            continue
        leaning = plan.leaning(entry) if before else []
        old = total(leaning, [plan.score(other) for other in leaning])
        plan.lift(entry)
        close_pools(plan, entry)
        counts, score = solve_entry(entry, plan.room, plan.steps, starts=[before] if before else (), deep=deep)
        if before and not better(score, judge(entry, before, plan.room)):
            plan.put(entry, before)
        else:
            plan.put(entry, counts)
            if leaning and improves(old, total(leaning, [plan.score(other) for other in leaning])):
                # Others stand where it stood.
                plan.lift(entry)
                plan.put(entry, before)
            else:
                improved = True
        plan.settle(entry, deep)
    return improved
