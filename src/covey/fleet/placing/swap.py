"""Two workloads that meet in something contested are solved again together."""

from __future__ import annotations

from collections.abc import Sequence

from covey.fleet.placing.affinity import bound, keep_one
from covey.fleet.placing.greedy import solve_entry
from covey.fleet.placing.judge import Counts, better
from covey.fleet.placing.plan import Plan, close_pools, improves, total
from covey.fleet.placing.rules import Entry
from covey.fleet.placing.search import LOOKED_IN_TICKS

__all__ = ["contested", "swap", "users", "wish"]

PASSES = 4

TRIED_IN_TICKS = 4
"""Pairs solved again when only some workloads changed: a tick has 250 ms."""

Thing = tuple[str, int | str]
"""Something that workloads share: kind, and its slot or its offering."""


def swap(plan: Plan, entries: Sequence[Entry]) -> None:
    """Two workloads that meet in something contested are solved again together, the one that would like more of it
    first."""
    could = {entry.index: _things(entry, dict.fromkeys(range(len(entry.options)), 1)) for entry in entries}
    whole = plan.steps.looked > LOOKED_IN_TICKS
    tried = 0
    for _ in range(PASSES if whole else 1):
        improved = False
        for one in entries:
            scarce = _scarce(plan) & could[one.index]
            rivals = [other for other in entries if other is not one and users(plan, other) & scarce]
            wishes = wish(plan, one) if rivals else set()
            for other in rivals:
                if plan.steps.left <= 0 or (tried >= TRIED_IN_TICKS and not whole):
                    return
                if not wishes & users(plan, other):
                    continue
                tried += 1
                if _resolve(plan, one, other):
                    improved = True
                    wishes = wish(plan, one)
        if not improved:
            return


def _scarce(plan: Plan) -> set[Thing]:
    """What is used up, or paid for already and taken by somebody."""
    room = plan.room
    found: set[Thing] = {("scope", slot) for slot, left in enumerate(room.scopes) if left <= 0}
    found |= {("pool", slot) for slot, left in enumerate(room.pools) if left <= 0}
    return found | {("free", key) for _, key in room.granted}


def contested(plan: Plan) -> bool:
    """Whether anything that workloads share is used up."""
    room = plan.room
    return min(room.scopes, default=1) <= 0 or min(room.pools, default=1) <= 0 or bool(room.granted)


def wish(plan: Plan, entry: Entry) -> set[Thing]:
    """The contested things of which one workload would take more than it has, were they free."""
    had = plan.counts[entry.index]
    before = plan.score(entry)
    mine = plan.lift(entry)
    close_pools(plan, entry)
    room = plan.room.emptied(plan.model)
    plan.put(entry, mine)
    dream, score = solve_entry(entry, room, plan.steps, starts=[mine], deep=False)
    if not better(score, before):
        return set()
    granted = plan.room.granted

    def wished(j: int, n: int) -> bool:
        # Also what it has and pays for, though there is room that is paid for already.
        option = entry.options[j]
        return n > had.get(j, 0) or granted.get((entry.index, option.key), n) < min(n, option.whole)

    more = {j: n for j, n in dream.items() if wished(j, n)}
    return _things(entry, more)


def users(plan: Plan, entry: Entry) -> set[Thing]:
    return _things(entry, plan.counts[entry.index])


def _things(entry: Entry, counts: Counts) -> set[Thing]:
    found: set[Thing] = set()
    for j in counts:
        option = entry.options[j]
        if option.scope_slot >= 0:
            found.add(("scope", option.scope_slot))
        if option.pool_slot >= 0:
            found.add(("pool", option.pool_slot))
        if option.whole:
            found.add(("free", option.key))
    return found


def _resolve(plan: Plan, first: Entry, second: Entry) -> bool:
    """Solve two workloads again, `first` with the first pick; keep it if both together are better off."""
    if _resolved(plan, first, second, anchored=False):
        return True
    # Where the first must be near the second, the second may have to stay for it.
    return second.name in first.item.workload.place.near and _resolved(plan, first, second, anchored=True)


def _resolved(plan: Plan, first: Entry, second: Entry, *, anchored: bool) -> bool:
    pair = (first, second)
    judged = (first, second, *(entry for entry in plan.leaning(first, second) if entry not in (first, second)))
    old = total(judged, [plan.score(entry) for entry in judged])
    plan.assumed[second.index] = plan.pools(second)
    before = plan.lift(first), plan.lift(second)
    for entry, counts in zip(pair, before, strict=True):
        close_pools(plan, entry)
        pools = sorted(plan.pools(first)) if anchored and entry is second else []
        held = [option for pool in pools if (option := keep_one(plan, entry, pool)) is not None]
        found, _ = solve_entry(entry, plan.room, plan.steps, starts=[counts], deep=False)
        for option in held:
            bound(entry, option, 0)
        plan.put(entry, found)
    plan.assumed.clear()
    if improves(total(judged, [plan.score(entry) for entry in judged]), old):
        return True
    plan.lift(first)
    plan.lift(second)
    plan.put(first, before[0])
    plan.put(second, before[1])
    return False
