"""One turn of the loop, pure: from what was seen and what is remembered to what to do and why.

::

    follow (what was ordered: seen, failed, to be ordered again) -> block what failed
      -> judge health -> demand -> place -> sift -> route -> a record for each workload

No clock, no randomness, no I/O: equal arguments give equal results, so that the simulator, `plan` and the controller
run the very same code, and a recorded turn can be played again. The caller writes what comes out (state, decisions,
steps) in one transaction before it acts on any of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from covey.fleet.filtering import Sifted, SiftInput, SiftState, sift
from covey.fleet.health import Health, HealthState, judge
from covey.fleet.loop.blocks import stillborn, update
from covey.fleet.loop.consent import agreed, consented
from covey.fleet.loop.flight import Flights, Launch, Launches, Settled, follow, launched
from covey.fleet.loop.posing import Posed, pose
from covey.fleet.loop.record import record
from covey.fleet.loop.retired import left_over, whole_spec
from covey.fleet.loop.rollout import rolling
from covey.fleet.loop.wanting import WorkloadState, want
from covey.fleet.model import (
    Block,
    Decision,
    InFlight,
    Orders,
    Placement,
    PoolView,
    Reading,
    Route,
    Step,
)
from covey.fleet.placing import Problem, place
from covey.fleet.routing import EjectionState, RouteInput, eject, routes
from covey.fleet.spec.types import Pool, Spec, Workload

__all__ = ["TURN_SECONDS", "Seen", "TurnState", "Turned", "WorkloadState", "turn", "with_retired"]

TURN_SECONDS: Final = 5.0
"""Between turns, unless an event asks for one sooner (FLEET 2); a spec's `controller.tick` says otherwise."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that came from outside since the last turn, and what stands."""

    views: dict[str, PoolView]
    """By pool, the newest look at each; a pool without one was never reached."""
    readings: dict[str, tuple[dict[str, Reading], ...]] = {}
    """By workload: for each of its targets, in order, the newest reading of each part."""
    orders: Orders = Orders()
    in_flight: tuple[InFlight, ...] = ()
    """What was ordered and not settled by an earlier turn, oldest first."""


class Solved(msgspec.Struct, frozen=True, kw_only=True):
    """The last problem and its placement: an equal problem is not solved again."""

    problem: Problem
    placement: Placement


class TurnState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is remembered between turns; `loop.memory` makes JSON of it."""

    turn: int = 0
    at: float = 0.0
    """When it was."""
    workloads: dict[str, WorkloadState] = {}
    health: HealthState = HealthState()
    sift: SiftState = SiftState()
    ejections: dict[str, EjectionState] = {}
    """By workload whose agents report failures."""
    blocks: tuple[Block, ...] = ()
    known: dict[str, Workload] = {}
    """Workloads that had agents or were in the spec, as last applied: what is taken out of a spec must still end."""
    pools: dict[str, Pool] = {}
    solved: Solved | None = None
    """Only a saving of time: not stored, and found again by solving."""


class Turned(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn decided."""

    state: TurnState
    decisions: tuple[Decision, ...]
    steps: tuple[Step, ...] = ()
    """To be carried out, in this order; workloads that only observe have none here."""
    settled: tuple[Settled, ...] = ()
    again: tuple[int, ...] = ()
    """Intents to be ordered again unchanged: it is not known that they took effect, and they are still wanted."""
    routes: dict[str, Route] = {}
    health: Health
    placement: Placement
    next_at: float
    """When to turn again if nothing happens."""


def with_retired(state: TurnState, spec: Spec) -> Spec:
    """What a turn works on: the spec, and what it no longer names and is still there. Whoever looks and acts must know
    those too."""
    return whole_spec(spec, state.known, state.pools)


def turn(state: TurnState, seen: Seen, spec: Spec, now: float) -> Turned:
    """One turn at `now`. Never raises for anything that is in `seen`."""
    asked, spec = spec, with_retired(state, spec)
    orders = _with_closing(seen.orders, asked, spec)
    flights = follow(_launches(state), seen.in_flight, seen.views, now)
    views = _without_leaving(seen.views, flights)
    blocks = update(state.blocks, flights.failures, seen.views, now)
    health, health_state = judge(views, state.health, now, spec, stillborn(blocks, views, now))
    posed, remembered = want(state.workloads, seen.readings, spec, views, health, flights.launches, orders, now)
    if agents := rolling({name: each.rollout for name, each in remembered.items()}):
        orders = replace(orders, rolling=agents)
    problem = pose(posed.values(), views, spec, health, orders, blocks, flights.launches, now)
    solved = _solve(state.solved, problem)
    placement = solved.placement
    again, given_up = _again(flights, posed, placement, problem, orders)
    launches = {place: launch for place, launch in flights.launches.items() if place not in given_up}
    sifted, sift_state = sift(
        _sift_input(spec, posed, placement, problem, health, launches, flights.leaving, orders, views, now), state.sift
    )
    steps = _agreed(sifted.steps, posed, orders)
    for step in steps:
        if step.kind == "scale":
            launches = launched(launches, step, views[step.pool].agents, now)
    ejected, ejections = _eject(state, posed, now)
    route = _route(spec, posed, health, placement, flights.leaving, ejected, steps, now)
    known, pools = left_over(
        asked, state.known, state.pools, seen.views, frozenset(workload for workload, _ in launches)
    )
    number = state.turn + 1
    return Turned(
        state=replace(
            state,
            turn=number,
            at=now,
            workloads=_with_orders(remembered, launches, placement),
            health=health_state,
            sift=sift_state,
            ejections=ejections,
            blocks=blocks,
            known=known,
            pools=pools,
            solved=solved,
        ),
        decisions=_decisions(posed, health, placement, sifted, route, number, now),
        steps=tuple(steps),
        settled=flights.settled + tuple(given_up.values()),
        again=again,
        routes=route,
        health=health,
        placement=placement,
        next_at=now + spec.controller.tick,
    )


def _agreed(steps: Iterable[Step], posed: Mapping[str, Posed], orders: Orders) -> list[Step]:
    found = []
    for step in steps:
        each = posed[step.workload]
        allowed = agreed(each.workload, step, orders, each.running.get(step.offering, 0))
        if allowed is not None:
            found.append(allowed)
    return found


def _again(
    flights: Flights, posed: Mapping[str, Posed], placement: Placement, problem: Problem, orders: Orders
) -> tuple[tuple[int, ...], dict[tuple[str, str], Settled]]:
    """Of the orders that are due to be called again: those still wanted, and by workload and offering the rest, which
    is given up."""
    again: list[int] = []
    given_up: dict[tuple[str, str], Settled] = {}
    for order in flights.again:
        name, key = order.step.workload, order.step.offering
        each = posed.get(name)
        offering = None if each is None else next((one for one in each.offerings if one.key == key), None)
        if each is None or offering is None:
            why = "it is no longer offered"
        elif not consented(each.workload, order.step, orders):
            why = f"{name} is in mode {each.workload.mode}"
        elif name in orders.paused or "*" in orders.paused:
            why = "paused by order"
        elif (offering.scope, offering.shape) in problem.blocked or (offering.scope, "") in problem.blocked:
            why = "there is no room there now"
        elif offering.pool in problem.frozen:
            continue  # asked again when its control answers
        elif placement.counts.get(name, {}).get(key, 0) < each.running.get(key, 0):
            why = "so many are no longer wanted there"
        else:
            again.append(order.intent)
            continue
        given_up[name, key] = Settled(intent=order.intent, outcome="superseded", detail=why)
    return tuple(again), given_up


def _sift_input(
    spec: Spec,
    posed: Mapping[str, Posed],
    placement: Placement,
    problem: Problem,
    health: Health,
    launches: Launches,
    leaving: frozenset[str],
    orders: Orders,
    views: Mapping[str, PoolView],
    now: float,
) -> SiftInput:
    return SiftInput(
        now=now,
        spec=replace(spec, workloads={name: each.workload for name, each in posed.items()}),
        placement=placement,
        health=health,
        wanted={name: each.wanted for name, each in posed.items()},
        offerings={name: each.offerings for name, each in posed.items()},
        coming={
            (name, key): count - each.standing.running.get(key, 0)
            for name, each in posed.items()
            for key, count in each.running.items()
            if (name, key) in launches and count > each.standing.running.get(key, 0)
        },
        leaving=leaving,
        orders=orders,
        removable={(pool, name): count for pool, view in views.items() for name, count in view.removable.items()},
        stale_prices=problem.stale_prices,
        labels={name: pool.labels for name, pool in spec.pools.items()},
    )


def _route(
    spec: Spec,
    posed: Mapping[str, Posed],
    health: Health,
    placement: Placement,
    leaving: frozenset[str],
    ejected: frozenset[str],
    steps: Iterable[Step],
    now: float,
) -> dict[str, Route]:
    """Where requests go from now on; whoever is told to go this turn gets none any more."""
    going = {f"{step.pool}/{agent}" for step in steps if step.kind != "scale" for agent in step.ids}
    return routes(
        RouteInput(
            now=now,
            spec=spec,
            health=health,
            counts=placement.counts,
            offerings={name: each.offerings for name, each in posed.items()},
            wanted={name: each.wanted for name, each in posed.items()},
            leaving=leaving | going,
            ejected=ejected,
        )
    )


def _eject(state: TurnState, posed: Mapping[str, Posed], now: float) -> tuple[frozenset[str], dict[str, EjectionState]]:
    """`POOL/ID` of agents that fail too often to get requests, and what is remembered of it."""
    ejected: frozenset[str] = frozenset()
    kept: dict[str, EjectionState] = {}
    for name, each in posed.items():
        out, left = eject(each.standing, state.ejections.get(name), now - state.at, now)
        ejected |= out
        if left is not None:
            kept[name] = left
    return ejected, kept


def _decisions(
    posed: Mapping[str, Posed],
    health: Health,
    placement: Placement,
    sifted: Sifted,
    route: Mapping[str, Route],
    number: int,
    now: float,
) -> tuple[Decision, ...]:
    proposed: dict[str, list[Step]] = {}
    for step in sifted.steps:
        proposed.setdefault(step.workload, []).append(step)
    return tuple(
        record(
            each,
            health,
            placement,
            tuple(proposed.get(name, ())),
            sifted.held.get(name, ()),
            route.get(name),
            number,
            now,
        )
        for name, each in posed.items()
    )


def _launches(state: TurnState) -> Launches:
    return {
        (name, offering): launch
        for name, known in state.workloads.items()
        for offering, launch in known.launches.items()
    }


def _with_orders(
    remembered: dict[str, WorkloadState], launches: Launches, placement: Placement
) -> dict[str, WorkloadState]:
    """With what is now on its way, and how many were planned."""
    by_workload: dict[str, dict[str, Launch]] = {}
    for (name, offering), launch in launches.items():
        by_workload.setdefault(name, {})[offering] = launch
    found: dict[str, WorkloadState] = {}
    for name, each in remembered.items():
        under_way = by_workload.get(name, {})
        planned = sum(placement.counts[name].values()) if name in placement.counts else None
        same = each.launches == under_way and each.planned == planned
        found[name] = each if same else replace(each, launches=under_way, planned=planned)
    return found


def _with_closing(orders: Orders, asked: Spec, spec: Spec) -> Orders:
    """Pools that the spec no longer names are drained."""
    if len(asked.pools) == len(spec.pools):
        return orders
    return replace(orders, draining_pools=orders.draining_pools | (spec.pools.keys() - asked.pools.keys()))


def _without_leaving(views: dict[str, PoolView], flights: Flights) -> dict[str, PoolView]:
    """What is being drained or removed counts as gone from the moment that was written."""
    if not flights.leaving:
        return views
    return {
        pool: replace(
            view,
            agents=tuple(
                replace(agent, state="draining") if f"{agent.pool}/{agent.id}" in flights.leaving else agent
                for agent in view.agents
            ),
        )
        for pool, view in views.items()
    }


def _solve(last: Solved | None, problem: Problem) -> Solved:
    """The placement of `problem`. Equal items of the last one that run as placed are not solved again."""
    if last is not None:
        if last.problem == problem:
            return last
        before = {item.workload.name: item for item in last.problem.items}
        items = tuple(
            replace(item, changed=False)
            if item == before.get(item.workload.name) and item.running == last.placement.counts.get(item.workload.name)
            else item
            for item in problem.items
        )
        same = (
            last.problem.suspended == problem.suspended
            and last.problem.frozen == problem.frozen
            and last.problem.closing == problem.closing
            and last.problem.blocked == problem.blocked
            and last.problem.budget == problem.budget
        )
        if same:
            placement = place(replace(problem, items=items))
            # What was not solved again has no new candidates: those of the last time still hold.
            candidates = {
                name: new or last.placement.candidates.get(name, ()) for name, new in placement.candidates.items()
            }
            premium = {name: usd for name, usd in last.placement.survive_premium.items() if name in placement.counts}
            premium |= placement.survive_premium
            placement = replace(placement, candidates=candidates, survive_premium=premium)
            return Solved(problem=problem, placement=placement)
    return Solved(problem=problem, placement=place(problem))
