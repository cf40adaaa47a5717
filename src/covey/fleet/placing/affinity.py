"""Workloads that must be near each other, or apart: other pools are tried for one of them, the rest follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from covey.fleet.placing.greedy import solve_entry
from covey.fleet.placing.judge import Counts
from covey.fleet.placing.plan import Plan, close_pools, improves, total
from covey.fleet.placing.rules import Entry, Option

__all__ = ["bound", "keep_one", "untangle"]


def untangle(plan: Plan, entries: Sequence[Entry]) -> None:
    """Keep whatever choice of a pool makes all workloads that it touches better off together."""
    free = {entry.index for entry in entries}
    for one, other, near in _ties(plan):
        group = [entry for entry in _group(plan, one, other) if entry.index in free]
        if one.index not in free or other.index not in free:
            continue
        for pool in sorted({option.pool for option in other.options}):
            if plan.steps.left <= 0:
                return
            if near:
                if pool not in plan.pools(other):
                    _try(plan, group, push=(other, pool))
            elif pool in plan.pools(one):
                _try(plan, group, bar=(one, pool))
            elif pool in plan.pools(other):
                _try(plan, group, bar=(other, pool))


def _ties(plan: Plan) -> Iterator[tuple[Entry, Entry, bool]]:
    names = {entry.name: entry for entry in plan.model.entries}
    for entry in plan.model.entries:
        place = entry.item.workload.place
        for name in (*place.near, *place.avoid):
            if name in names and name != entry.name:
                yield entry, names[name], name in place.near


def _group(plan: Plan, one: Entry, other: Entry) -> list[Entry]:
    """Both and all that stand near or apart from either; those that others lean on first."""
    tied = {one.index, other.index}
    for left, right, _ in _ties(plan):
        if {left.index, right.index} & {one.index, other.index}:
            tied |= {left.index, right.index}
    leaned = {name for entry in plan.model.entries for name in entry.item.workload.place.near}
    return sorted(
        (entry for entry in plan.model.entries if entry.index in tied),
        key=lambda entry: (entry.name not in leaned, -entry.priority, entry.name),
    )


def _try(
    plan: Plan, group: Sequence[Entry], *, bar: tuple[Entry, str] | None = None, push: tuple[Entry, str] | None = None
) -> bool:
    """Solve the group again with one pool barred from one of them, or with one of them pushed into a pool."""
    old = total(group, [plan.score(entry) for entry in group])
    before: list[Counts] = [plan.lift(entry) for entry in group]
    if bar:
        plan.barred[bar[0].index] = frozenset({bar[1]})
    for entry, had in zip(group, before, strict=True):
        close_pools(plan, entry)
        pushed = keep_one(plan, entry, push[1]) if push and entry is push[0] else None
        counts, _ = solve_entry(entry, plan.room, plan.steps, starts=[had])
        if pushed is not None:
            bound(entry, pushed, 0)
        plan.put(entry, counts)
    plan.barred.clear()
    if improves(total(group, [plan.score(entry) for entry in group]), old):
        return True
    for entry in group:
        plan.lift(entry)
    for entry, counts in zip(group, before, strict=True):
        plan.put(entry, counts)
    return False


def keep_one(plan: Plan, entry: Entry, pool: str) -> Option | None:
    """Hold one agent, the cheapest, in `pool`, unless one is held there."""
    inside = [option for j, option in enumerate(entry.options) if option.pool == pool and plan.room.headroom(entry, j)]
    if not inside or any(option.low for option in inside):
        return None
    pushed = min(inside, key=lambda option: (option.price, option.key))
    bound(entry, pushed, 1)
    return pushed


def bound(entry: Entry, option: Option, low: int) -> None:
    entry.low_total += low - option.low
    option.low = low
