"""All workloads together: who gets what they share.

Without scarcity each workload is solved beside the others, in order of priority. When something is missing, the shared
room and the budget are given out in the order in which constraints win: everybody's `min`, everybody's `survive`, then
demand by priority and, inside one priority, in small equal shares, so that nobody falls further behind than the rest.
Passes over all workloads follow while they improve anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from covey.fleet.placing.greedy import Steps, solve_entry
from covey.fleet.placing.judge import WEIGHTS, Counts, Room, Score, better, judge
from covey.fleet.placing.rules import Entry, Model

__all__ = ["Plan", "solve"]

STEPS = 600_000
"""Plans judged in one call at most, about 10 us each."""

PASSES = 4
"""Passes over all workloads after the first."""

SHARES = 10
"""Into how many shares scarce demand is cut, so that workloads of one priority fall short alike."""


class Plan:
    """Counts for all workloads, and the room they leave."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.room = Room(model)
        self.counts: list[Counts] = [{} for _ in model.entries]
        self.steps = Steps(STEPS)

    def put(self, entry: Entry, counts: Counts) -> None:
        self.counts[entry.index] = counts
        self.room.take(entry, counts)

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

    def missing(self) -> bool:
        """Whether any constraint above cost is not kept."""
        return any(any(self.score(entry)[:WEIGHTS]) for entry in self.model.entries)


def solve(model: Model) -> Plan:
    """The best plan found."""
    plan = Plan(model)
    order = _order(model)
    for entry in model.entries:
        if not entry.item.changed:
            plan.put(entry, {j: option.running for j, option in enumerate(entry.options) if option.running})
    free = [entry for entry in order if entry.item.changed]
    _each(plan, free)
    if not shared(model):
        return plan
    if plan.missing():
        _ration(plan, order)
        free = order
    for _ in range(PASSES):
        if not _each(plan, free):
            break
    return plan


def shared(model: Model) -> bool:
    """Whether anything ties the workloads together."""
    if len(model.entries) < 2:
        return False
    return bool(
        model.scope_room
        or model.pool_room
        or model.problem.budget
        or any(entry.item.workload.place.near or entry.item.workload.place.avoid for entry in model.entries)
        or any(option.offering.marginal_room for entry in model.entries for option in entry.options)
    )


def _order(model: Model) -> list[Entry]:
    """Those that others must be near to first, then by priority, then those with the least choice."""
    names = {entry.name: entry for entry in model.entries}
    depth: dict[str, int] = {}

    def deep(name: str, seen: frozenset[str]) -> int:
        if name in seen or name not in names:
            return 0
        if name not in depth:
            near = names[name].item.workload.place.near
            depth[name] = max((1 + deep(other, seen | {name}) for other in near), default=0)
        return depth[name]

    return sorted(
        model.entries,
        key=lambda entry: (deep(entry.name, frozenset()), -entry.priority, len(entry.options), -entry.need, entry.name),
    )


def close_pools(plan: Plan, entry: Entry) -> None:
    """Forbid the pools that affinity with the present places of the others rules out. A workload that is placed after
    the one it must be near sees its places; one that others depend on keeps the pools they are in."""
    closed: set[str] = set()
    place = entry.item.workload.place
    tied = [
        other
        for other in plan.model.entries
        if other is not entry and (other.name in place.avoid or entry.name in other.item.workload.place.avoid)
    ]
    for other in tied:
        closed |= _pools(plan, other)
    for other in plan.model.entries:
        if other.name in place.near and other is not entry:
            there = _pools(plan, other)
            closed |= {option.pool for option in entry.options if option.pool not in there}
    if closed:
        plan.room.closed[entry.index] = frozenset(closed)
    else:
        plan.room.closed.pop(entry.index, None)


def _pools(plan: Plan, entry: Entry) -> set[str]:
    return {entry.options[j].pool for j in plan.counts[entry.index]}


def _each(plan: Plan, order: Iterable[Entry], *, deep: bool = True) -> bool:
    """Solve each workload beside the others; whether any got better."""
    improved = False
    for entry in order:
        before = plan.lift(entry)
        if before and any(entry.name in other.item.workload.place.near for other in plan.model.entries):
            plan.put(entry, before)  # others stand where it stands
            continue
        close_pools(plan, entry)
        counts, score = solve_entry(entry, plan.room, plan.steps, starts=[before] if before else (), deep=deep)
        if not before or better(score, judge(entry, before, plan.room)):
            improved = True
        else:
            counts = before
        plan.put(entry, counts)
    return improved


def _ration(plan: Plan, order: list[Entry]) -> None:
    """Give out what is scarce in the order in which constraints win."""
    full = [(entry.need, entry.floor, entry.keep, entry.weights) for entry in plan.model.entries]

    def ask(entries: Iterable[Entry], share: float, *, keep: bool) -> None:
        for entry in entries:
            need, floor, kept, weights = full[entry.index]
            entry.need = need * share
            entry.floor = int(floor * share)
            entry.keep = kept if keep else 0.0
            entry.weights = [weight * share for weight in weights]

    for entry in order:
        if plan.counts[entry.index]:
            plan.lift(entry)
    ask(order, 0.0, keep=False)
    _each(plan, order, deep=False)
    if any(kept for _, _, kept, _ in full):
        ask(order, 0.0, keep=True)
        _each(plan, order, deep=False)
    for priority in sorted({entry.priority for entry in order}, reverse=True):
        level = [entry for entry in order if entry.priority == priority]
        for share in range(1, SHARES + 1):
            ask(level, share / SHARES, keep=True)
            _each(plan, level, deep=False)
    ask(order, 1.0, keep=True)
