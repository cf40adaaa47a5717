"""What could not be kept, which constraint stands in the way, and the nearest feasible plan.

Found by asking again: the workload is solved alone beside the others' plans with one rule lifted after the other. The
first that makes what is missing appear stands in the way; when none does alone, they are lifted together, one more each
time.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from covey.fleet.model import Shortfall
from covey.fleet.placing.greedy import solve_entry
from covey.fleet.placing.judge import DEMAND, EXCESS, MINIMUM, SURVIVE, WEIGHTS, Counts, Room, Score
from covey.fleet.placing.plan import Plan
from covey.fleet.placing.problem import Item, Problem
from covey.fleet.placing.rules import Entry, Model, compile_problem
from covey.fleet.placing.search import Steps
from covey.fleet.spec.types import Budget, SpotRules, Traffic, Workload

__all__ = ["shortfalls", "survive_premium", "words"]

EXPLAINED = 5
"""Shortfalls whose cause is looked for in one call; the rest of a long list say what is missing only."""

NAMED = 3
"""Scopes that a reason names, those with the least room first."""

LIFT_STEPS = 2000
"""Plans judged for one lifted rule."""

Asked = tuple[Problem, Item]
Lift = Callable[[Problem, Item], tuple[Asked, str]]
"""The problem without one rule, and the rule in words; "" when it was not there."""


def shortfalls(model: Model, plan: Plan) -> tuple[Shortfall, ...]:
    """All constraints that the plan does not keep, in the order in which constraints win."""
    found: list[tuple[int, Shortfall]] = []
    excess = 0.0
    for entry in model.entries:
        score = plan.score(entry)
        excess = max(excess, score[EXCESS])
        for part in (MINIMUM, SURVIVE, DEMAND, WEIGHTS):
            if score[part]:
                found.append((part, _shortfall(entry, plan, part, score, explain=len(found) < EXPLAINED)))
        for option in entry.options:
            why = entry.kept_forbidden.get(option.key)
            if why:
                missing = float(option.running)
                reason = f"{option.running} agents run at {option.key}: {why}; its pool is frozen, so they cannot leave"
                short = Shortfall(workload=entry.name, constraint="jurisdiction", missing=missing, reason=reason)
                found.append((0, short))
    budget = model.problem.budget
    if excess and budget is not None:
        spent = model.limit + excess + sum(entry.money_fixed for entry in model.entries)
        reason = f"`min` and agents that cannot go cost {spent:.2f} of {budget.hourly_usd:.2f} USD/h"
        nearest = "everything above `min` that may go is left out"
        short = Shortfall(workload="", constraint="budget", missing=excess, reason=reason, nearest=nearest)
        found.append((EXCESS, short))
    found.sort(key=lambda short: short[0])
    return tuple(short for _, short in found)


def survive_premium(model: Model, plan: Plan) -> dict[str, float]:
    """By workload, what `survive` costs more than the plan without it, USD/h."""
    found: dict[str, float] = {}
    for entry in model.entries:
        if entry.keep > 0 and entry.item.changed:
            problem, item = _alone(entry, plan)
            workload = replace(item.workload, place=replace(item.workload.place, survive=None))
            other, counts, _ = _solve(problem, replace(item, workload=workload))
            premium = known_cost(entry, plan.counts[entry.index]) - known_cost(other, counts)
            found[entry.name] = max(round(premium, 6), 0.0)
    return found


def known_cost(entry: Entry, counts: Counts) -> float:
    """The known parts of what counts cost, USD/h, without moves."""
    return sum(
        n * sum(part for part in entry.options[j].parts.values() if part is not None)
        - entry.options[j].free * min(n, entry.options[j].whole)
        for j, n in counts.items()
    )


def words(entry: Entry, counts: Counts) -> str:
    """One workload's plan in words."""
    if not counts:
        return "no agents"
    where = ", ".join(f"{n} at {entry.options[j].key}" for j, n in sorted(counts.items()))
    return f"{where} ({known_cost(entry, counts):.2f} USD/h)"


def _shortfall(entry: Entry, plan: Plan, part: int, score: Score, *, explain: bool) -> Shortfall:
    counts = plan.counts[entry.index]
    agents = sum(counts.values())
    cover = sum(entry.options[j].speed * n for j, n in counts.items())
    constraint, missing, what = {
        MINIMUM: ("min", score[MINIMUM], f"{agents} of at least {entry.minimum} agents"),
        SURVIVE: (
            "survive",
            score[SURVIVE],
            f"without one cloud {entry.keep - score[SURVIVE]:g} of {entry.keep:g} would be left"
            if entry.lose
            else f"degraded: {entry.keep - score[SURVIVE]:g} of {entry.keep:g} on-demand agents are left",
        ),
        DEMAND: (
            "demand",
            entry.need - cover if cover < entry.need else entry.floor - agents,
            f"{cover:g} of {entry.need:g} standard agents"
            if cover < entry.need
            else f"{agents} of the {entry.floor} agents that nothing may take away now",
        ),
        WEIGHTS: ("weights", score[WEIGHTS], f"{score[WEIGHTS]:g} standard agents are outside their cloud"),
    }[part]
    cause, mended = _cause(entry, plan, part) if explain else ("", "")
    reason = f"{what}; in the way: {cause}" if cause else what
    nearest = words(entry, counts)
    if mended:
        nearest += f"; without that: {mended}"
    return Shortfall(workload=entry.name, constraint=constraint, missing=missing, reason=reason, nearest=nearest)


def _cause(entry: Entry, plan: Plan, part: int) -> tuple[str, str]:
    """What stands in the way of one part, and the plan without it."""
    start = _alone(entry, plan)
    lifts: list[Lift] = [_max, _budget, _capacity, _room, _spot, _caps, _affinity, _down, _pools, _labels, _shapes]
    rules: list[tuple[Lift, str]] = []
    for lift in lifts:
        asked, name = lift(*start)
        if not name:
            continue
        rules.append((lift, name))
        other, counts, score = _solve(*asked)
        if not score[part]:
            return name, words(other, counts)
    asked, names = start, []
    for lift, name in rules:
        asked, _ = lift(*asked)
        names.append(name)
        other, counts, score = _solve(*asked)
        if not score[part]:
            return " and ".join(names), words(other, counts)
    return "no pool offers enough, whatever the rules", ""


def _alone(entry: Entry, plan: Plan) -> Asked:
    """The problem of one workload beside the others' plans: what they leave is all there is."""
    counts = plan.lift(entry)
    room, problem = plan.room, plan.model.problem
    rooms = dict(problem.room)
    pools = dict(problem.pool_room)
    for option in entry.options:
        if option.scope_slot >= 0:
            rooms[option.offering.scope] = max(room.scopes[option.scope_slot], 0)
        if option.pool_slot >= 0:
            pools[option.pool] = max(room.pools[option.pool_slot], 0)
    budget = None if problem.budget is None else Budget(hourly_usd=max(room.money, 0.0), reserve=0.0)
    closed = room.closed.get(entry.index, frozenset())
    plan.put(entry, counts)
    alone = replace(problem, items=(), room=rooms, pool_room=pools, budget=budget)
    if closed:
        alone = replace(alone, blocked={**alone.blocked, **{(_CLOSED, pool): "" for pool in closed}})
    return alone, entry.item


_CLOSED = "closed by affinity"
"""A scope that no offering has: how pools that affinity closes travel inside a problem."""


def _solve(problem: Problem, item: Item) -> tuple[Entry, Counts, Score]:
    model = compile_problem(replace(problem, items=(item,)))
    entry = model.entries[0]
    room = Room(model)
    closed = frozenset(pool for scope, pool in problem.blocked if scope == _CLOSED)
    if closed:
        room.closed[0] = closed
    counts, score = solve_entry(entry, room, Steps(LIFT_STEPS), deep=False)
    return entry, counts, score


# --- rules that can be lifted -----------------------------------------------------------------------------------------


def _with(item: Item, workload: Workload) -> Item:
    return replace(item, workload=workload)


def _max(problem: Problem, item: Item) -> tuple[Asked, str]:
    replicas = item.workload.replicas
    more = replace(item.workload, replicas=replace(replicas, max=10 * replicas.max + 100))
    return (problem, _with(item, more)), f"max = {replicas.max}"


def _budget(problem: Problem, item: Item) -> tuple[Asked, str]:
    if problem.budget is None:
        return (problem, item), ""
    return (replace(problem, budget=None), item), f"the budget, of which {problem.budget.hourly_usd:.2f} USD/h are left"


def _capacity(problem: Problem, item: Item) -> tuple[Asked, str]:
    blocked = {key: why for key, why in problem.blocked.items() if key[0] == _CLOSED}
    hit = sorted(
        {
            f"{offering.scope} ({problem.blocked[offering.scope, shape] or 'a start failed'})"
            for offering in item.offerings
            for shape in (offering.shape, "")
            if (offering.scope, shape) in problem.blocked
        }
    )
    return (replace(problem, blocked=blocked), item), f"no capacity in {', '.join(hit)}" if hit else ""


def _room(problem: Problem, item: Item) -> tuple[Asked, str]:
    scopes = {offering.scope for offering in item.offerings}
    pools = {offering.pool for offering in item.offerings}
    rooms = [(room, scope) for scope, room in problem.room.items() if scope in scopes]
    rooms += [(room, f"pool {pool}") for pool, room in problem.pool_room.items() if pool in pools]
    rooms += [(offering.room, offering.key) for offering in item.offerings if offering.room is not None]
    tight = [f"{name} ({room} left)" for room, name in sorted(rooms)[:NAMED]]
    tight += [f"{len(rooms) - NAMED} others"] if len(rooms) > NAMED else []
    offerings = tuple(replace(offering, room=None) for offering in item.offerings)
    lifted = replace(problem, room={}, pool_room={}), replace(item, offerings=offerings)
    return lifted, f"room for more agents in {', '.join(tight)}" if tight else ""


def _spot(problem: Problem, item: Item) -> tuple[Asked, str]:
    place = item.workload.place
    if not any(offering.spot for offering in item.offerings) or place.spot.max_share >= 1.0 > place.spot.base_on_demand:
        return (problem, item), ""
    free = replace(item.workload, place=replace(place, spot=SpotRules(max_share=1.0)))
    return (problem, _with(item, free)), f"the spot rules (max_share = {place.spot.max_share:g})"


def _caps(problem: Problem, item: Item) -> tuple[Asked, str]:
    place = item.workload.place
    free = replace(item.workload, place=replace(place, max_per_pool={}))
    named = ", ".join(f"{pool} = {cap}" for pool, cap in sorted(place.max_per_pool.items()))
    return (problem, _with(item, free)), f"max_per_pool ({named})" if named else ""


def _affinity(problem: Problem, item: Item) -> tuple[Asked, str]:
    closed = sorted(pool for scope, pool in problem.blocked if scope == _CLOSED)
    blocked = {key: why for key, why in problem.blocked.items() if key[0] != _CLOSED}
    lifted = replace(problem, blocked=blocked), item
    return lifted, f"affinity with other workloads, which closes {', '.join(closed)}" if closed else ""


def _down(problem: Problem, item: Item) -> tuple[Asked, str]:
    pools = {offering.pool for offering in item.offerings}
    clouds = {offering.cloud or item.labels.get(offering.pool, {}).get("cloud", "") for offering in item.offerings}
    names = [f"cloud {cloud} is suspended" for cloud in sorted(problem.suspended & clouds)]
    names += [f"pool {pool} is frozen" for pool in sorted(problem.frozen & pools)]
    names += [f"pool {pool} is being drained" for pool in sorted(problem.closing & pools)]
    free = replace(problem, suspended=frozenset(), frozen=frozenset(), closing=frozenset())
    return (free, item), ", ".join(names)


def _pools(problem: Problem, item: Item) -> tuple[Asked, str]:
    place = item.workload.place
    free = replace(item.workload, place=replace(place, pools=()), traffic=Traffic())
    return (problem, _with(item, free)), f"the list of pools ({', '.join(place.pools)})" if place.pools else ""


def _labels(problem: Problem, item: Item) -> tuple[Asked, str]:
    place = item.workload.place
    free = replace(item.workload, place=replace(place, jurisdictions=(), labels={}))
    names = [f"jurisdiction {' or '.join(place.jurisdictions)}"] if place.jurisdictions else []
    names += [f"label {label} = {value}" for label, value in sorted(place.labels.items())]
    return (problem, _with(item, free)), " and ".join(names)


def _shapes(problem: Problem, item: Item) -> tuple[Asked, str]:
    asked = item.workload.resources
    kinds = ("burstable", "bare-metal")
    free = replace(item.workload, resources=replace(asked, arch=("amd64", "arm64"), special=kinds))
    others = any(o.special or o.arch not in asked.arch for o in item.offerings)
    return (problem, _with(item, free)), f"shapes ({', '.join((*asked.arch, *asked.special))} only)" if others else ""
