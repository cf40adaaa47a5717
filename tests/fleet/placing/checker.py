"""Whether a placement keeps the rules, worked out from the problem alone: nothing of the solver's own is used."""

from __future__ import annotations

from math import floor

from covey.fleet.model import Offering, Placement
from covey.fleet.placing import Item, Problem

__all__ = ["broken_rules", "money"]


def broken_rules(problem: Problem, placement: Placement) -> list[str]:
    """Every hard rule that the placement breaks, in words."""
    broken: list[str] = []
    for item in problem.items:
        broken += _of_workload(problem, item, placement.counts[item.workload.name])
    broken += _affinity(problem, placement)
    broken += _room(problem, placement)
    return broken


def money(problem: Problem, placement: Placement) -> float:
    """List price and egress of the plan, USD/h; agents on room that is paid for already cost no list price."""
    whole = 0.0
    for item in problem.items:
        counts = placement.counts[item.workload.name]
        for offering in item.offerings:
            n = counts.get(offering.key, 0)
            whole += n * ((offering.price or 0.0) + (offering.egress or 0.0))
    return whole - _paid_for(problem, placement)


def _paid_for(problem: Problem, placement: Placement) -> float:
    """At most what room that is paid for saves, for all that share it."""
    saved: dict[str, float] = {}
    for item in problem.items:
        for offering in item.offerings:
            n = placement.counts[item.workload.name].get(offering.key, 0)
            if offering.marginal_room and offering.price:
                free = min(n, offering.marginal_room) * offering.price
                saved[offering.key] = min(saved.get(offering.key, 0.0) + free, offering.marginal_room * offering.price)
    return sum(saved.values())


def _of_workload(problem: Problem, item: Item, counts: dict[str, int]) -> list[str]:
    workload, place = item.workload, item.workload.place
    offerings = {offering.key: offering for offering in item.offerings}
    name = workload.name
    broken = [f"{name}: {n} agents at {key}" for key, n in counts.items() if n <= 0]
    counted = {key: n for key, n in counts.items() if _cloud(item, offerings[key]) not in problem.suspended}
    agents = sum(counted.values())
    held = 0
    spot = held_spot = 0
    zones: dict[tuple[str, str, str], int] = {}
    pools: dict[str, int] = {}
    for offering in item.offerings:
        key, n = offering.key, counts.get(offering.key, 0)
        running = item.running.get(key, 0)
        frozen = offering.pool in problem.frozen and offering.pool not in problem.closing
        if _cloud(item, offering) in problem.suspended:
            if n != running:
                broken.append(f"{name}: {n} instead of {running} agents in a suspended cloud")
            continue
        if frozen:
            held += running
            held_spot += running if offering.spot else 0
            if n != running:
                broken.append(f"{name}: {n} instead of {running} agents in a frozen pool")
        elif n and not _allowed(item, offering):
            broken.append(f"{name}: {n} agents at {key}, where it may not be")
        elif offering.pool in problem.closing and n:
            broken.append(f"{name}: {n} agents in a pool that is to be emptied")
        elif n > running and {(offering.scope, offering.shape), (offering.scope, "")} & set(problem.blocked):
            broken.append(f"{name}: grows at {key}, which is blocked")
        elif offering.pool not in problem.closing and _allowed(item, offering):
            low = min(item.held.get(key, 0), running)
            held += low
            held_spot += low if offering.spot else 0
            if n < low:
                broken.append(f"{name}: {n} of {low} held agents at {key}")
        if offering.spot and n:
            spot += n
            zone = (_cloud(item, offering), offering.region or offering.pool, offering.zone)
            zones[zone] = zones.get(zone, 0) + n
        pools[offering.pool] = pools.get(offering.pool, 0) + n
    if agents > max(workload.replicas.max, held):
        broken.append(f"{name}: {agents} agents, max is {workload.replicas.max}")
    share = floor(place.spot.max_share * (agents - place.spot.base_on_demand) + 1e-9)
    if spot > max(share, held_spot):
        broken.append(f"{name}: {spot} spot agents, {share} are allowed")
    if not held:
        broken += [
            f"{name}: {n} agents in {pool}, {place.max_per_pool[pool]} are allowed"
            for pool, n in pools.items()
            if n > place.max_per_pool.get(pool, n)
        ]
    return broken


def _cloud(item: Item, offering: Offering) -> str:
    return offering.cloud or item.labels.get(offering.pool, {}).get("cloud", "")


def _allowed(item: Item, offering: Offering) -> bool:
    place, resources = item.workload.place, item.workload.resources
    labels = item.labels.get(offering.pool, {})
    return (
        (not place.pools or offering.pool in place.pools)
        and (not place.jurisdictions or (offering.jurisdiction or labels.get("jurisdiction")) in place.jurisdictions)
        and all(labels.get(label) == value for label, value in place.labels.items())
        and (offering.arch or "amd64") in resources.arch
        and offering.gpu >= resources.gpu
        and (resources.gpu > 0 or offering.gpu == 0)
        and set(offering.special) <= {*resources.special, "gpu"}
        and (not offering.spot or place.spot.max_share > 0)
    )


def _affinity(problem: Problem, placement: Placement) -> list[str]:
    """Agents that cannot go now (held, in a frozen pool) are facts; all others keep to affinity."""
    where: dict[str, set[str]] = {}
    chosen: dict[str, set[str]] = {}
    for item in problem.items:
        agents: dict[str, int] = {}
        facts: dict[str, int] = {}
        for offering in item.offerings:
            n = placement.counts[item.workload.name].get(offering.key, 0)
            running = item.running.get(offering.key, 0)
            low = running if offering.pool in problem.frozen else min(item.held.get(offering.key, 0), running)
            agents[offering.pool] = agents.get(offering.pool, 0) + n
            facts[offering.pool] = facts.get(offering.pool, 0) + min(low, n)
        where[item.workload.name] = {pool for pool, n in agents.items() if n}
        chosen[item.workload.name] = {pool for pool, n in agents.items() if n > facts[pool]}
    broken = []
    for item in problem.items:
        name, place = item.workload.name, item.workload.place
        broken += [f"{name} is where {other} is not" for other in place.near if chosen[name] - where.get(other, set())]
        for other in place.avoid:
            if other in where and (chosen[name] & where[other] or where[name] & chosen[other]):
                broken.append(f"{name} is where {other} is")
    return broken


def _room(problem: Problem, placement: Placement) -> list[str]:
    scopes: dict[str, int] = {}
    pools: dict[str, int] = {}
    broken = []
    for item in problem.items:
        for offering in item.offerings:
            n = placement.counts[item.workload.name].get(offering.key, 0)
            starts = max(n - item.running.get(offering.key, 0), 0)
            scopes[offering.scope] = scopes.get(offering.scope, 0) + starts
            pools[offering.pool] = pools.get(offering.pool, 0) + starts
            if offering.room is not None and starts > offering.room:
                broken.append(f"{starts} starts at {offering.key}, which has room for {offering.room}")
    broken += [f"{n} starts in {scope}" for scope, n in scopes.items() if n > problem.room.get(scope, n)]
    broken += [f"{n} starts in pool {pool}" for pool, n in pools.items() if n > problem.pool_room.get(pool, n)]
    return broken
