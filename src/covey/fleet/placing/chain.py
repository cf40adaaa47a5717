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
from covey.fleet.placing.search import LOOKED_IN_TICKS, unit_price

__all__ = ["chains"]

TRIED = 6
"""Workloads that start a chain in one pass, those that wish for most first."""

TRIED_IN_TICKS = 2

PASSES = 2

LINKS = 8
"""Workloads that give way in one chain."""

GIVERS = 3
"""Workloads that are tried for each link."""

FAR = 1e9
"""The regret of one that has nowhere else to go."""

TOLLS = (0.05, 0.5)
"""What a start in a full room costs meanwhile, of the price of the dearest agent that the workload has."""

MORE = (1, 2, 4, 8)
"""Starts more in one full room than it has, for a workload that misses something."""


def chains(plan: Plan, entries: Sequence[Entry]) -> None:
    """Keep every chain that makes all whom it moves better off together."""
    whole = plan.steps.looked > LOOKED_IN_TICKS
    for _ in range(PASSES if whole else 1):
        improved = False
        for first in _wishing(plan, entries)[: TRIED if whole else TRIED_IN_TICKS]:
            if plan.steps.left <= 0:
                return
            improved = any(_chain(plan, first, entries, toll) for toll in TOLLS) or improved
            if any(plan.score(first)[:COST]):
                improved = _mend(plan, first, entries) or improved
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
    return [entry for _, entry in found]


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


def _mend(plan: Plan, first: Entry, entries: Sequence[Entry]) -> bool:
    """A few starts more in one full room, for a workload that misses something."""
    slots = {("scope", option.scope_slot) for option in first.options}
    slots |= {("pool", option.pool_slot) for option in first.options}
    for kind, slot in sorted(_full(plan) & slots):
        for more in MORE:
            if plan.steps.left <= 0:
                return False
            was = plan.score(first)
            had = plan.lift(first)
            close_pools(plan, first)
            lefts = plan.room.scopes if kind == "scope" else plan.room.pools
            lefts[slot] += more
            counts, score = solve_entry(first, plan.room, plan.steps, starts=[had], deep=False)
            lefts[slot] -= more
            plan.put(first, had)
            if _misses_more(was, score) and _follow(plan, first, counts, entries, 0.0):
                return True
            if not any(score[:COST]):
                break
    return False


def _chain(plan: Plan, first: Entry, entries: Sequence[Entry], level: float) -> bool:
    """`first` takes what it wishes for."""
    full = _full(plan)
    had = plan.lift(first)
    close_pools(plan, first)
    toll = level * max((first.options[j].price for j in had), default=0.0)
    # The toll of a room that was full before this one was lifted.
    room = _elastic(plan, first, frozenset(), 0.0)
    for kind, slot in full:
        (room.toll_scopes if kind == "scope" else room.toll_pools)[slot] = toll
    counts, _ = solve_entry(first, room, plan.steps, starts=[had], deep=False)
    plan.put(first, had)
    return _follow(plan, first, counts, entries, toll)


def _follow(plan: Plan, first: Entry, counts: Counts, entries: Sequence[Entry], toll: float) -> bool:
    """Whoever stands in the way of what `first` takes gives way; keep it when all are better off together."""
    before: dict[int, Counts] = {first.index: plan.lift(first)}
    plan.put(first, counts)
    for _ in range(LINKS):
        over = _over(plan)
        if not over or plan.steps.left <= 0 or not _give(plan, entries, over, before, toll):
            break
    touched = [entry for entry in plan.model.entries if entry.index in before]
    if _over(plan):
        _put(plan, touched, before)
        return False
    judged = [*touched, *(entry for entry in plan.leaning(*touched) if entry.index not in before)]
    new = total(judged, [plan.score(entry) for entry in judged])
    after = _put(plan, touched, before)
    if not improves(new, total(judged, [plan.score(entry) for entry in judged])):
        return False
    _put(plan, touched, after)
    return True


def _give(plan: Plan, entries: Sequence[Entry], over: Slots, before: dict[int, Counts], toll: float) -> bool:
    """Somebody gives way: the first, by regret, who misses nothing more afterwards, else the one who misses least."""
    best: tuple[Score, int] | None = None
    chosen: tuple[Entry, Counts] | None = None
    for entry in _givers(plan, entries, over, before):
        was = plan.score(entry)
        had = plan.lift(entry)
        close_pools(plan, entry)
        counts, score = solve_entry(entry, plan.room, plan.steps, starts=[had], deep=False)
        if _misses_more(score, was):
            # Elsewhere others may give way to it.
            room = _elastic(plan, entry, over, toll)
            other, value = solve_entry(entry, room, plan.steps, starts=[counts], deep=False)
            if _misses_more(score, value):
                counts, score = other, value
        plan.put(entry, had)
        more = _minus(score, was)
        if best is None or (more, entry.index) < best:
            best, chosen = (more, entry.index), (entry, counts)
        if not _misses_more(score, was):
            break
    if chosen is None:
        return False
    entry, counts = chosen
    before[entry.index] = plan.lift(entry)
    plan.put(entry, counts)
    return True


def _misses_more(score: Score, than: Score) -> bool:
    return improves(than[:COST], score[:COST])


def _put(plan: Plan, entries: Sequence[Entry], counts: dict[int, Counts]) -> dict[int, Counts]:
    had = {entry.index: plan.lift(entry) for entry in entries}
    for entry in entries:
        plan.put(entry, counts[entry.index])
    return had


def _givers(plan: Plan, entries: Sequence[Entry], over: Slots, done: dict[int, Counts]) -> list[Entry]:
    """Who could give way, the one with the least regret first."""
    regrets = [
        (regret, entry)
        for entry in entries
        if entry.index not in done and (regret := _regret(plan, entry, over)) is not None
    ]
    regrets.sort(key=lambda pair: (pair[0], pair[1].index))
    return [entry for _, entry in regrets[:GIVERS]]


def _regret(plan: Plan, entry: Entry, over: Slots) -> float | None:
    """About what one start less in the overdrawn rooms costs a workload; None when it starts nothing there."""
    options, counts, room = entry.options, plan.counts[entry.index], plan.room

    def inside(j: int) -> bool:
        return ("scope", options[j].scope_slot) in over or ("pool", options[j].pool_slot) in over

    there = [j for j, n in counts.items() if n > options[j].running and n > options[j].low and inside(j)]
    if not there:
        return None
    prices = [unit_price(option, room) for option in options]
    least = FAR
    for k, other in enumerate(options):
        within = inside(k)
        if not within and room.headroom(entry, k) <= counts.get(k, 0):
            continue
        for j in there:
            speed = options[j].speed
            if not within:
                # As many standard agents elsewhere.
                least = min(least, prices[k] * speed / other.speed - prices[j])
            elif other.speed > speed:
                # Fewer, faster ones in the same room.
                fewer = speed / (other.speed - speed)
                least = min(least, fewer * prices[k] - (fewer + 1) * prices[j])
    return least
