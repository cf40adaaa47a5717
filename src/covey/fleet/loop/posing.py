"""From what is there to a placement problem. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from covey.fleet.health import Health, Standing
from covey.fleet.loop.blocks import blocked
from covey.fleet.loop.flight import LAUNCH_SECONDS, Launches
from covey.fleet.model import Block, Offering, Orders, PoolView, Wanted
from covey.fleet.placing.problem import Item, Problem
from covey.fleet.spec.types import Pool, Spec, Workload

__all__ = ["Posed", "offered", "pose", "running"]

_HORIZON: Final = 4.0
"""h over which a move must pay (FLEET 2, Filter)."""
_GRAIN: Final = 0.05
"""Standard agents: demand is rounded up to it, so that noise far below one agent makes no new plan."""


class Posed(msgspec.Struct, frozen=True, kw_only=True):
    """One workload as this turn found it."""

    workload: Workload
    """With a pin's numbers in place of its own."""
    standing: Standing
    wanted: Wanted
    offerings: tuple[Offering, ...]
    running: dict[str, int]
    """By offering: what counts and what is coming."""
    planned: int | None = None
    """Agents of the last placement."""
    pinned: int | None = None
    """So many agents by order, whatever their speed."""
    notes: tuple[str, ...] = ()
    """What its record is to say beside what the filter holds back: why it may not be acted on, how a rollout stands."""


def offered(
    workload: Workload, views: Mapping[str, PoolView], spec: Spec, speeds: Mapping[str, float]
) -> tuple[Offering, ...]:
    """Everything that any pool offers it, in the order of the spec's pools, with what the spec declares and what was
    learned."""
    found: list[Offering] = []
    for name, pool in spec.pools.items():
        view = views.get(name)
        if view is None:
            continue
        for offering in view.offerings.get(workload.name, ()):
            found.append(_declared(offering, workload, pool, speeds))  # noqa: PERF401 - two loops read better
    return tuple(found)


def _declared(offering: Offering, workload: Workload, pool: Pool, speeds: Mapping[str, float]) -> Offering:
    """Speed: the workload's word, the pool's, learned, else what the provider says."""
    speed = workload.speeds.get(offering.shape) or pool.speeds.get(offering.shape) or speeds.get(offering.key)
    changes: dict[str, object] = {}
    if speed is not None and speed != offering.speed:
        changes["speed"] = speed
    labels = pool.labels
    if not offering.cloud:
        changes["cloud"] = pool.cloud
    if not offering.region and "region" in labels:
        changes["region"] = labels["region"]
    if not offering.jurisdiction and "jurisdiction" in labels:
        changes["jurisdiction"] = labels["jurisdiction"]
    if pool.price is not None and not offering.spot and offering.price != pool.price:
        changes |= {"price": pool.price, "priced_at": None}
    if offering.shape in pool.reserved and not offering.marginal_room:
        changes["marginal_room"] = pool.reserved[offering.shape]
    return replace(offering, **changes) if changes else offering


def running(
    standing: Standing, name: str, launches: Launches, health: Health, spec: Spec, now: float
) -> dict[str, int]:
    """By offering: what counts and what is coming. Nothing is expected from a pool whose agents fell silent, from a
    cloud that is down, or from a pool that has not answered for a launch time-out; one missed look is no reason to
    order the same elsewhere."""
    counts = dict(standing.running)
    for (whose, offering), launch in launches.items():
        if whose != name:
            continue
        pool = offering.partition("/")[0]
        judged = health.pools.get(pool)
        if judged is not None:
            cloud = spec.pools[pool].cloud if pool in spec.pools else ""
            lost = judged.lost_since is not None and now - judged.lost_since > LAUNCH_SECONDS
            if judged.agents == "silent" or lost or cloud in health.suspended:
                continue
        counts[offering] = counts.get(offering, 0) + launch.coming
    return counts


def pose(
    posed: Iterable[Posed],
    views: Mapping[str, PoolView],
    spec: Spec,
    health: Health,
    orders: Orders,
    blocks: tuple[Block, ...],
    launches: Launches,
    now: float,
) -> Problem:
    """The problem of this turn. `now` in it is 0: a placement does not depend on the time, and equal problems are not
    solved again."""
    labels = {name: pool.labels for name, pool in spec.pools.items()}
    posed = tuple(posed)
    denied = {block.scope for block in blocks if block.until > now and block.scope in spec.pools}
    return Problem(
        now=0.0,
        items=tuple(_item(each, views, labels) for each in posed),
        budget=spec.budget,
        suspended=health.suspended,
        frozen=health.frozen | denied,
        closing=orders.draining_pools & spec.pools.keys(),
        blocked={place: why.partition(" (blocked for ")[0] for place, why in blocked(blocks, now).items()},
        room=_room(posed, launches),
        pool_room=_pool_room(posed, spec),
        stale_prices=frozenset(offering.key for each in posed for offering in each.offerings if offering.stale(now)),
    )


def _item(each: Posed, views: Mapping[str, PoolView], labels: dict[str, dict[str, str]]) -> Item:
    workload = each.workload
    total = sum(each.running.values())
    demand = math.ceil(max(0.0, each.wanted.agents) / _GRAIN - 1e-9) * _GRAIN
    if all(offering.speed == 1.0 for offering in each.offerings):
        demand = math.ceil(demand - 1e-9)
    return Item(
        workload=workload,
        demand=demand,
        offerings=each.offerings,
        running=each.running,
        ready=each.standing.ready,
        held=_held(each, views),
        floor=_floor(each, total),
        labels=labels,
        move_cost=_move_cost(workload, each.offerings),
        horizon=_HORIZON,
    )


def _floor(each: Posed, total: int) -> int:
    """What a hold keeps: what runs, without what runs only for the time of a move or came late. A floor that counted
    those would be higher after every turn that starts a replacement. A pin is a floor too."""
    if each.pinned is not None:
        return each.pinned
    if not each.wanted.hold_down:
        return 0
    kept = total if each.planned is None else min(total, each.planned)
    return min(kept, each.workload.replicas.max)


def _held(each: Posed, views: Mapping[str, PoolView]) -> dict[str, int]:
    """What a pool's disruption budget keeps."""
    held: dict[str, int] = {}
    for key, count in each.running.items():
        view = views.get(key.partition("/")[0])
        limit = view.removable.get(each.workload.name) if view is not None else None
        if limit is not None and count > limit:
            held[key] = count - limit
    return held


def _move_cost(workload: Workload, offerings: Iterable[Offering]) -> float:
    """Double running while the new one starts and the old one finishes, and what the spec says beyond that."""
    prices = [offering.price for offering in offerings if offering.price is not None]
    double = (workload.cold_start + workload.grace) / 3600.0 * (min(prices) if prices else 0.0)
    return double + (workload.move_cost or 0.0)


def _room(posed: Iterable[Posed], launches: Launches) -> dict[str, int]:
    """By scope: what was last seen free, less what was ordered and not seen since."""
    room: dict[str, int] = {}
    scopes: dict[str, str] = {}
    for each in posed:
        for offering in each.offerings:
            scopes[offering.key] = offering.scope
            if offering.room is not None:
                room[offering.scope] = min(room.get(offering.scope, offering.room), offering.room)
    if room:
        for (_, key), launch in launches.items():
            scope = scopes.get(key, "")
            if scope in room:
                room[scope] = max(0, room[scope] - launch.coming)
    return room


def _pool_room(posed: Iterable[Posed], spec: Spec) -> dict[str, int]:
    """By pool with a limit of its own: that, less what counts against it."""
    limited = {name: pool.max_agents for name, pool in spec.pools.items() if pool.max_agents is not None}
    if not limited:
        return {}
    for each in posed:
        for key, count in each.running.items():
            pool = key.partition("/")[0]
            if pool in limited:
                limited[pool] -= count
        for agents in (each.standing.draining, each.standing.leaving, each.standing.suspect, each.standing.dead):
            for agent in agents:
                if agent.pool in limited:
                    limited[agent.pool] -= 1
    return {name: max(0, room) for name, room in limited.items()}
