"""All workloads together: who gets what they share.

First tolls tell who should have what is contested, and each workload is solved beside the others, in order of priority;
swaps between two of them set right what that left. When something is still missing, a second plan gives out the shared
room and the budget in the order in which constraints win: everybody's `min`, everybody's `survive`, then demand by
priority and, inside one priority, in small equal shares, so that nobody falls further behind than the rest. The better
plan wins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from msgspec.structs import replace

from covey.fleet.placing.affinity import untangle
from covey.fleet.placing.chain import chains
from covey.fleet.placing.greedy import solve_entry
from covey.fleet.placing.judge import DEMAND, MINIMUM, SURVIVE, WEIGHTS, Counts
from covey.fleet.placing.plan import Plan, Total, close_pools, each, improves, total
from covey.fleet.placing.problem import Problem
from covey.fleet.placing.rules import Entry, Model, compile_problem
from covey.fleet.placing.share import bargain, promise, raise_tolls
from covey.fleet.placing.swap import contested, swap, users, wish

__all__ = ["solve"]

RAISES = 8
"""How often tolls are raised when the first plan leaves something missing or is dear."""

CLOSE = 1.03
"""A plan that costs so many times what the bargain promised at best is not dear."""

PASSES = 4
"""Passes over all workloads after the first."""

SHARES = 10
"""Into how many shares scarce demand is cut, so that workloads of one priority fall short alike."""

HELPERS = 6
"""Unchanged workloads that may be moved for the sake of changed ones that fall short."""


def solve(model: Model, *, help_allowed: bool = True) -> Plan:
    """The best plan found. Its model is another one when unchanged workloads had to help."""
    order = _order(model)
    plan = Plan(model)
    for entry in model.entries:
        if not entry.item.changed:
            plan.put(entry, {j: option.running for j, option in enumerate(entry.options) if option.running})
    stuck = {entry.index for entry in model.entries if not entry.item.changed and _misses(plan, entry)}
    if stuck:
        # What it lacked may be there now: its own item does not tell.
        return solve(compile_problem(_changed(model.problem, stuck)), help_allowed=help_allowed)
    free = [entry for entry in order if entry.item.changed]
    if not shared(model):
        each(plan, free)
        return plan
    _sequence(plan, free)
    _polish(plan, free)
    short = _short(plan, free)
    if not short:
        return plan
    if len(free) < len(order) and help_allowed:
        helped = _with_helpers(plan, order, short)
        if helped is not None:
            return solve(compile_problem(helped), help_allowed=False)
    other = plan.copy()
    _ration(other, free)
    _polish(other, free)
    return other if improves(other.total(), plan.total()) else plan


def _sequence(plan: Plan, entries: Sequence[Entry]) -> None:
    """Each workload beside those before it, under the tolls that a bargain of all found. When the last of them find too
    little left, or the plan is far from what the bargain promised, again under higher tolls, which make everybody take
    less of what is full."""
    room = plan.room
    alone = bargain(plan.model, room, entries, plan.steps)
    promised = promise(room, entries, alone)
    best: Total | None = None
    found: list[Counts] = []
    for _ in range(RAISES + 1):
        for entry in entries:
            close_pools(plan, entry)
            counts, _ = solve_entry(entry, room, plan.steps, starts=[alone[entry.index]], deep=False)
            plan.put(entry, counts)
        tolls = room.no_tolls()
        reached = total(entries, [plan.score(entry) for entry in entries])
        if best is None or improves(reached, best):
            best, found = reached, [plan.counts[entry.index] for entry in entries]
        close = not any(reached[:-2]) and reached[-1] <= CLOSE * promised
        if close or plan.steps.left <= 0:
            break
        room.set_tolls(tolls)
        if not raise_tolls(plan):
            break
        for entry in entries:
            alone[entry.index] = plan.lift(entry)
    for entry in entries:
        plan.lift(entry)
    for entry, counts in zip(entries, found, strict=True):
        plan.put(entry, counts)
    room.no_tolls()


def _polish(plan: Plan, entries: Sequence[Entry]) -> None:
    """Passes over all workloads, then over pairs of them, while they improve anything."""
    for _ in range(PASSES):
        if not each(plan, entries):
            break
    untangle(plan, entries)
    if contested(plan):
        chains(plan, entries)
        swap(plan, entries)


def _short(plan: Plan, order: Sequence[Entry]) -> list[Entry]:
    """Those who miss more than they would miss alone."""
    return [entry for entry in order if any(plan.score(entry)[:WEIGHTS]) and wish(plan, entry)]


def _with_helpers(plan: Plan, order: Sequence[Entry], short: Sequence[Entry]) -> Problem | None:
    """The problem in which those unchanged workloads may move too that hold what the short ones wish for, the least
    important first; None when there are none."""
    wishes = set().union(*(wish(plan, entry) for entry in short))
    idle = (entry for entry in reversed(order) if not entry.item.changed and users(plan, entry) & wishes)
    helpers = {entry.index for entry in islice(idle, HELPERS)}
    if not helpers:
        return None
    return _changed(plan.model.problem, helpers)


def _changed(problem: Problem, which: Collection[int]) -> Problem:
    items = tuple(replace(item, changed=True) if i in which else item for i, item in enumerate(problem.items))
    return replace(problem, items=items)


def _misses(plan: Plan, entry: Entry) -> bool:
    score = plan.score(entry)
    return bool(score[MINIMUM] or score[SURVIVE] or score[DEMAND] or score[WEIGHTS])


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


def _ration(plan: Plan, order: Sequence[Entry]) -> None:
    """Give out what is scarce in the order in which constraints win."""
    full = {entry.index: (entry.need, entry.floor, entry.keep, entry.weights) for entry in order}

    def ask(entries: Iterable[Entry], share: float, *, keep: bool) -> None:
        for entry in entries:
            need, floor, kept, weights = full[entry.index]
            entry.need = need * share
            entry.floor = int(floor * share)
            entry.keep = kept if keep else 0.0
            entry.weights = [weight * share for weight in weights]
        plan.unsettle()

    for entry in order:
        plan.lift(entry)
    ask(order, 0.0, keep=False)
    each(plan, order, deep=False)
    if any(kept for _, _, kept, _ in full.values()):
        ask(order, 0.0, keep=True)
        each(plan, order, deep=False)
    for priority in sorted({entry.priority for entry in order}, reverse=True):
        level = [entry for entry in order if entry.priority == priority]
        for share in range(1, SHARES + 1):
            ask(level, share / SHARES, keep=True)
            each(plan, level, deep=False)
    ask(order, 1.0, keep=True)
