"""All workloads together: who gets what they share.

Without scarcity each workload is solved beside the others, in order of priority. When something is missing, the shared
room and the budget are given out in the order in which constraints win: everybody's `min`, everybody's `survive`, then
demand by priority and, inside one priority, in small equal shares, so that nobody falls further behind than the rest.
Passes over all workloads follow while they improve anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from covey.fleet.placing.greedy import Steps, solve_entry
from covey.fleet.placing.judge import WEIGHTS, Counts, Room, Score, better, judge
from covey.fleet.placing.rules import Entry, Model
from covey.fleet.placing.share import bargain_tolls

__all__ = ["Plan", "solve"]

STEPS = 300_000
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
        self._clock = 0
        self._changed = [0] * len(model.entries)
        self._settled: dict[tuple[int, bool], int] = {}
        self._last: dict[int, Counts] = {}

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
    if not shared(model):
        each(plan, free)
        return plan
    alone = bargain(plan, free)
    for entry in free:
        close_pools(plan, entry)
        counts, _ = solve_entry(entry, plan.room, plan.steps, starts=[alone[entry.index]], deep=False)
        plan.put(entry, counts)
    plan.room.no_tolls()
    if plan.missing():
        _ration(plan, order)
        free = order
    for _ in range(PASSES):
        if not each(plan, free):
            break
    swap(plan, free)
    return plan


Thing = tuple[str, int | str]
"""Something that workloads share: kind, and its slot or its offering."""


def bargain(plan: Plan, entries: Sequence[Entry]) -> dict[int, Counts]:
    """What each workload takes under tolls; the tolls stay in the plan's room."""
    return bargain_tolls(plan.model, plan.room, entries, plan.steps)


def swap(plan: Plan, entries: Sequence[Entry]) -> None:
    """Two workloads that meet in something contested are solved again together, the one that would like more of it
    first."""
    for _ in range(PASSES):
        improved = False
        for one in entries:
            wish = _wish(plan, one)
            if not wish:
                continue
            for other in entries:
                if plan.steps.left <= 0:
                    return
                if other is not one and wish & _uses(plan, other) and _resolve(plan, one, other):
                    improved = True
                    wish = _wish(plan, one)
        if not improved:
            return


def _wish(plan: Plan, entry: Entry) -> set[Thing]:
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
    more = {j: n for j, n in dream.items() if n > had.get(j, 0)}
    return _things(entry, more)


def _uses(plan: Plan, entry: Entry) -> set[Thing]:
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
    names = {first.name, second.name}
    if any(names & set(other.item.workload.place.near) for other in plan.model.entries):
        return False
    old = [plan.score(first), plan.score(second)]
    before = plan.lift(first), plan.lift(second)
    new: list[Score] = []
    for entry, counts in ((first, before[0]), (second, before[1])):
        close_pools(plan, entry)
        found, _ = solve_entry(entry, plan.room, plan.steps, starts=[counts], deep=False)
        plan.put(entry, found)
    new = [plan.score(first), plan.score(second)]
    if better(_both(new), _both(old)):
        return True
    plan.lift(first)
    plan.lift(second)
    plan.put(first, before[0])
    plan.put(second, before[1])
    return False


def _both(scores: Sequence[Score]) -> Score:
    broken, minimum, excess, survive, demand, weights, cost = (sum(parts) for parts in zip(*scores, strict=True))
    return (broken, minimum, excess, survive, demand, weights, cost)


def shared(model: Model) -> bool:
    """Whether anything ties the workloads together."""
    if len(model.entries) < 2:
        return False
    return bool(
        model.scope_room
        or model.pool_room
        or model.problem.budget
        or any(entry.item.workload.place.near or entry.item.workload.place.avoid for entry in model.entries)
        or any(option.whole for entry in model.entries for option in entry.options)
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


def each(plan: Plan, order: Iterable[Entry], *, deep: bool = True) -> bool:
    """Solve each workload beside the others; whether any got better. One whose surroundings are what they were when it
    was solved last is left."""
    improved = False
    leaned = {name for entry in plan.model.entries for name in entry.item.workload.place.near}
    for entry in order:
        before = plan.counts[entry.index]
        if plan.settled(entry, deep) or (before and entry.name in leaned):  # others stand where it stands
            continue
        plan.lift(entry)
        close_pools(plan, entry)
        counts, score = solve_entry(entry, plan.room, plan.steps, starts=[before] if before else (), deep=deep)
        if not before or better(score, judge(entry, before, plan.room)):
            improved = True
        else:
            counts = before
        plan.put(entry, counts)
        plan.settle(entry, deep)
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
        plan.unsettle()

    for entry in order:
        if plan.counts[entry.index]:
            plan.lift(entry)
    ask(order, 0.0, keep=False)
    each(plan, order, deep=False)
    if any(kept for _, _, kept, _ in full):
        ask(order, 0.0, keep=True)
        each(plan, order, deep=False)
    for priority in sorted({entry.priority for entry in order}, reverse=True):
        level = [entry for entry in order if entry.priority == priority]
        for share in range(1, SHARES + 1):
            ask(level, share / SHARES, keep=True)
            each(plan, level, deep=False)
    ask(order, 1.0, keep=True)
