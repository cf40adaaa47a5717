"""One workload takes what it wishes for out of full rooms; those who must give way for it do, one after the other.

Swaps of two do not find what needs three: room for ten that two others hold five each of, or one that can give way only
where a third gives way to it. What is contested has a toll meanwhile, so that nobody takes more of it than it is worth.
"""

from __future__ import annotations

from collections.abc import Sequence

from covey.fleet.placing.greedy import solve_entry
from covey.fleet.placing.judge import COST, EPSILON, Counts, Room, Score, better
from covey.fleet.placing.plan import Plan, close_pools, improves, total
from covey.fleet.placing.rules import Entry
from covey.fleet.placing.search import unit_price

__all__ = ["chains"]

TRIED = 6
"""Workloads that start a chain in one pass, those that wish for most first."""

PASSES = 2

LINKS = 8
"""Workloads that give way in one chain."""

TOLLS = (0.05, 0.5)
"""What a start in a full room costs meanwhile, of the price of the dearest agent that the workload has."""


def chains(plan: Plan, entries: Sequence[Entry]) -> None:
    """Keep every chain that makes all whom it moves better off together."""
    for _ in range(PASSES):
        improved = False
        for first in _wishing(plan, entries):
            if plan.steps.left <= 0:
                return
            improved = any(_chain(plan, first, entries, toll) for toll in TOLLS) or improved
        if not improved:
            return


def _wishing(plan: Plan, entries: Sequence[Entry]) -> list[Entry]:
    """Those that would be better off in empty rooms, and by how much most first."""
    found: list[tuple[Score, Entry]] = []
    for entry in entries:
        if plan.steps.left <= 0:
            break
        before = plan.score(entry)
        room = _elastic(plan, entry, frozenset(), 0.0)
        mine = plan.counts[entry.index]
        _, score = solve_entry(entry, room, plan.steps, starts=[mine], deep=False)
        if better(score, before):
            found.append((_minus(score, before), entry))
    found.sort(key=lambda pair: (pair[0], pair[1].index))
    return [entry for _, entry in found[:TRIED]]


def _minus(score: Score, before: Score) -> Score:
    a = [new - old if abs(new - old) > EPSILON else 0.0 for new, old in zip(score, before, strict=True)]
    return (a[0], a[1], a[2], a[3], a[4], a[5], a[6])


Slots = frozenset[tuple[str, int]]


def _full(plan: Plan) -> Slots:
    room = plan.room
    found = {("scope", slot) for slot, left in enumerate(room.scopes) if left <= 0}
    return frozenset(found | {("pool", slot) for slot, left in enumerate(room.pools) if left <= 0})


def _over(plan: Plan) -> Slots:
    room = plan.room
    found = {("scope", slot) for slot, left in enumerate(room.scopes) if left < 0}
    return frozenset(found | {("pool", slot) for slot, left in enumerate(room.pools) if left < 0})


def _elastic(plan: Plan, entry: Entry, hard: Slots, toll: float) -> Room:
    """The room of one workload, lifted or not, if all others gave way to it, but not in `hard`."""
    real = plan.room
    room = real.emptied(plan.model)
    mine = plan.counts[entry.index]
    room.money = real.money + sum(entry.options[j].money * n for j, n in mine.items())
    room.free = dict(real.free)
    for kind, slot in hard:
        if kind == "scope":
            room.scopes[slot] = real.scopes[slot]
        else:
            room.pools[slot] = real.pools[slot]
    if toll:
        for kind, slot in _full(plan) - hard:
            (room.toll_scopes if kind == "scope" else room.toll_pools)[slot] = toll
    return room


def _chain(plan: Plan, first: Entry, entries: Sequence[Entry], level: float) -> bool:
    """`first` takes what it wishes for, then whoever stands in its way gives way."""
    full = _full(plan)
    before: dict[int, Counts] = {first.index: plan.lift(first)}
    close_pools(plan, first)
    dearest = max((first.options[j].price for j in before[first.index]), default=0.0)
    # The toll of a room that was full before this one was lifted.
    room = _elastic(plan, first, frozenset(), 0.0)
    for kind, slot in full:
        (room.toll_scopes if kind == "scope" else room.toll_pools)[slot] = level * dearest
    counts, _ = solve_entry(first, room, plan.steps, starts=[before[first.index]], deep=False)
    plan.put(first, counts)
    whole = True
    for link in range(LINKS + 1):
        over = _over(plan)
        if not over:
            break
        giver = _giver(plan, entries, over, before) if link < LINKS and plan.steps.left > 0 else None
        if giver is None:
            whole = False
            break
        was = plan.score(giver)
        before[giver.index] = plan.lift(giver)
        close_pools(plan, giver)
        counts, score = solve_entry(giver, plan.room, plan.steps, starts=[before[giver.index]], deep=False)
        if better((*score[:COST], 0.0), (*was[:COST], 0.0)) or score[:COST] != was[:COST]:
            room = _elastic(plan, giver, over, level * dearest)
            other, value = solve_entry(giver, room, plan.steps, starts=[counts], deep=False)
            if better((*value[:COST], 0.0), (*score[:COST], 0.0)):
                counts = other
        plan.put(giver, counts)
    touched = [entry for entry in plan.model.entries if entry.index in before]
    if whole:
        judged = [*touched, *(entry for entry in plan.leaning(*touched) if entry.index not in before)]
        new = total(judged, [plan.score(entry) for entry in judged])
        after = _put(plan, touched, before)
        if not improves(new, total(judged, [plan.score(entry) for entry in judged])):
            return False
        _put(plan, touched, after)
        return True
    _put(plan, touched, before)
    return False


def _put(plan: Plan, entries: Sequence[Entry], counts: dict[int, Counts]) -> dict[int, Counts]:
    had = {entry.index: plan.lift(entry) for entry in entries}
    for entry in entries:
        plan.put(entry, counts[entry.index])
    return had


def _giver(plan: Plan, entries: Sequence[Entry], over: Slots, done: dict[int, Counts]) -> Entry | None:
    """Who gives way with the least regret: what a standard agent costs it more elsewhere."""
    best: tuple[float, int] | None = None
    found: Entry | None = None
    for entry in entries:
        if entry.index in done:
            continue
        options = entry.options
        there = [
            j
            for j, n in plan.counts[entry.index].items()
            if n > options[j].running
            and n > options[j].low
            and (("scope", options[j].scope_slot) in over or ("pool", options[j].pool_slot) in over)
        ]
        if not there:
            continue
        dearest = max(unit_price(options[j], plan.room) / options[j].speed for j in there)
        elsewhere = min(
            (
                unit_price(option, plan.room) / option.speed
                for k, option in enumerate(options)
                if ("scope", option.scope_slot) not in over
                and ("pool", option.pool_slot) not in over
                and plan.room.headroom(entry, k) > plan.counts[entry.index].get(k, 0)
            ),
            default=1e9,
        )
        regret = (elsewhere - dearest, entry.index)
        if best is None or regret < best:
            best, found = regret, entry
    return found
