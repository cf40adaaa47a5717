"""A thousand placement problems, published as their generator: the same seed gives the same problem everywhere.

Even seeds are small (1 to 4 workloads, 2 to 10 offerings, demand up to 10 agents, most speeds 1); odd seeds are larger
and every shape has a speed of its own (3 to 20 workloads, 8 to 40 offerings, demand up to 60). Rules are drawn
independently: rooms that bind, budgets that bind, spot shares, survival, jurisdictions, weights, affinity, agents that
run already and cost something to move, some of them held, failed scopes, room that is paid for, unknown prices.
"""

from __future__ import annotations

import random

from msgspec.structs import replace

from covey.fleet.model import Offering
from covey.fleet.placing import Item, Problem
from covey.fleet.placing.rules import forbidden
from covey.fleet.spec.types import Budget, Place, Replicas, SpotRules, Survive, Traffic, Workload

__all__ = ["INSTANCES", "instance", "large"]

INSTANCES = 1000

CLOUDS = ("aws", "azure", "gcp", "on-prem")


def instance(seed: int) -> Problem:
    """Problem number `seed`, 0 to 999."""
    rng = random.Random(f"covey-placement-{seed}")
    mixed = seed % 2 == 1
    pools = _pools(rng, rng.randint(3, 8) if mixed else rng.randint(1, 4))
    offerings = _offerings(rng, pools, rng.randint(8, 40) if mixed else rng.randint(2, 10), mixed=mixed)
    workloads = rng.randint(3, 20) if mixed else rng.randint(1, 4)
    items = [_sane(_item(rng, f"w{i:02}", pools, offerings, mixed=mixed)) for i in range(workloads)]
    items = _tie(rng, items)
    return _share(rng, items, offerings)


def large(workloads: int = 200, offerings: int = 60, seed: int = 0) -> Problem:
    """Every workload on every offering, from nothing, with rooms."""
    rng = random.Random(f"covey-placement-large-{seed}")
    pools = _pools(rng, 12)
    found = _offerings(rng, pools, offerings, mixed=True)
    items = [_sane(_item(rng, f"w{i:03}", pools, found, mixed=True, running=False)) for i in range(workloads)]
    demand = sum(item.demand for item in items)
    scopes = sorted({offering.scope for offering in found})
    room = {scope: int(rng.uniform(1.0, 4.0) * demand / len(scopes)) + 1 for scope in scopes}
    return Problem(now=0.0, items=tuple(items), room=room)


def _pools(rng: random.Random, count: int) -> dict[str, dict[str, str]]:
    clouds = rng.sample(CLOUDS, min(count, rng.randint(1, 4)))
    pools = {}
    for i in range(count):
        cloud = clouds[i % len(clouds)]
        region = f"{cloud}-{rng.choice('ab')}"
        pools[f"p{i}"] = {"cloud": cloud, "region": region, "jurisdiction": rng.choice(("eu", "us", "us"))}
    return pools


def _offerings(
    rng: random.Random, pools: dict[str, dict[str, str]], count: int, *, mixed: bool
) -> tuple[Offering, ...]:
    found: dict[str, Offering] = {}
    names = sorted(pools)
    shapes = {f"s{i}": (rng.choice((0.5, 0.8, 1.0, 1.3, 1.7, 2.0, 2.6, 4.0)) if mixed else 1.0) for i in range(6)}
    if not mixed and rng.random() < 0.3:
        shapes["s0"] = 2.0
    level = {name: rng.uniform(0.9, 1.15) for name in names}
    for i in range(count * 3):
        pool = names[i] if i < len(names) else rng.choice(names)
        shape = rng.choice(sorted(shapes))
        spot = i >= len(names) and rng.random() < 0.35
        zone = rng.choice(("", "x", "y")) if spot else ""
        price = 0.1 * shapes[shape] ** rng.uniform(0.9, 1.1) * level[pool] * rng.uniform(0.95, 1.05)
        offering = Offering(
            pool=pool,
            shape=shape,
            spot=spot,
            zone=zone,
            cloud=pools[pool]["cloud"],
            region=pools[pool]["region"],
            jurisdiction=pools[pool]["jurisdiction"],
            price=None if rng.random() < 0.02 else round(price * (rng.uniform(0.25, 0.5) if spot else 1.0), 5),
            speed=shapes[shape],
            preemptions=rng.choice((0.01, 0.05, 0.2)) if spot else 0.0,
            latency_ms=rng.choice((5.0, 20.0, 80.0)),
            egress=rng.choice((0.0, 0.0, 0.005, None)),
            arch=rng.choice(("amd64",) * 9 + ("arm64",)),
            marginal_room=rng.randint(1, 6) if not spot and rng.random() < 0.1 else 0,
        )
        found.setdefault(offering.key, offering)
        if len(found) >= count:
            break
    return tuple(found[key] for key in sorted(found))


def _item(
    rng: random.Random,
    name: str,
    pools: dict[str, dict[str, str]],
    offerings: tuple[Offering, ...],
    *,
    mixed: bool,
    running: bool = True,
) -> Item:
    demand = round(rng.uniform(1.0, 60.0 if mixed else 10.0), 2)
    least = rng.choice((0, 1, 2, 3))
    names = sorted(pools)
    workload = Workload(
        name=name,
        replicas=Replicas(min=least, max=rng.choice((200, 200, int(3 * demand) + least + 2))),
        priority=rng.choice((0, 0, 10)),
        traffic=Traffic(
            weights={pools[pool]["cloud"]: float(rng.randint(1, 4)) for pool in rng.sample(names, min(2, len(names)))}
            if rng.random() < 0.1
            else {}
        ),
        place=Place(
            pools=tuple(rng.sample(names, rng.randint((len(names) + 1) // 2, len(names))))
            if rng.random() < 0.4
            else (),
            prefer=(rng.choice(names),) if rng.random() < 0.1 else (),
            jurisdictions=("eu",) if rng.random() < 0.15 else (),
            survive=Survive(keep=rng.choice(("min", 0.5, 0.7))) if rng.random() < 0.3 else None,
            spot=SpotRules(max_share=rng.choice((0.3, 0.5, 1.0)), base_on_demand=rng.choice((0, 1, 2)))
            if rng.random() < 0.5
            else SpotRules(),
            usd_per_ms_hour=rng.choice((0.0, 0.0, 0.0002)),
            max_per_pool={rng.choice(names): rng.randint(1, 10)} if rng.random() < 0.15 else {},
        ),
    )
    here: dict[str, int] = {}
    held: dict[str, int] = {}
    if running and rng.random() < 0.6:
        for offering in rng.sample(offerings, min(len(offerings), rng.randint(1, 4))):
            if not offering.spot:
                here[offering.key] = rng.randint(1, max(int(demand) // 3, 1))
                if rng.random() < 0.3:
                    held[offering.key] = rng.randint(0, here[offering.key])
    return Item(
        workload=workload,
        demand=demand,
        offerings=offerings,
        running=here,
        ready=here,
        held=held,
        labels=pools,
        move_cost=rng.choice((0.0, 0.02, 0.1)),
        floor=sum(here.values()) if rng.random() < 0.1 else 0,
    )


def _sane(item: Item) -> Item:
    """Drop what nobody could keep: survival in one cloud, shares of clouds it may not use, a jurisdiction with nothing
    in it. What is left may still be infeasible together."""
    place = item.workload.place
    usable = [
        offering for offering in item.offerings if not forbidden(item.workload, offering, item.labels[offering.pool])
    ]
    if not usable:
        return _with(item, place=replace(place, jurisdictions=(), pools=()))
    steady = {offering.cloud for offering in usable if not offering.spot}
    if len(steady) < 2:
        item = _with(item, place=replace(place, survive=None))
    if not set(item.workload.traffic.weights) <= steady:
        item = _with(item, traffic=Traffic())
    return item


def _with(item: Item, **changes: Place | Traffic) -> Item:
    return replace(item, workload=replace(item.workload, **changes))


def _tie(rng: random.Random, items: list[Item]) -> list[Item]:
    """Affinity between two workloads in one problem of eight."""
    if len(items) < 2 or rng.random() > 0.12:
        return items
    one, other = rng.sample(range(len(items)), 2)
    place = items[one].workload.place
    rule = {"near": (items[other].workload.name,)} if rng.random() < 0.5 else {"avoid": (items[other].workload.name,)}
    return [_with(item, place=replace(place, **rule)) if i == one else item for i, item in enumerate(items)]


def _share(rng: random.Random, items: list[Item], offerings: tuple[Offering, ...]) -> Problem:
    """Rooms and a budget, some of them tight."""
    demand = sum(item.demand for item in items)
    scopes = sorted({offering.scope for offering in offerings})
    room = {}
    if rng.random() < 0.6:
        slack = rng.uniform(1.5, 4.0)
        room = {
            scope: int(rng.uniform(0.4, 2.0) * slack * demand / len(scopes)) + 1
            for scope in scopes
            if rng.random() < 0.8
        }
    pools = sorted({offering.pool for offering in offerings})
    pool_room = {pool: int(rng.uniform(0.5, 3.0) * demand / len(pools)) + 2 for pool in pools if rng.random() < 0.1}
    blocked = {(offering.scope, offering.shape): "no capacity" for offering in offerings if rng.random() < 0.05}
    budget = None
    if rng.random() < 0.3:
        budget = Budget(hourly_usd=round(0.12 * demand * rng.uniform(1.0, 1.8), 2))
    stale = frozenset(offering.key for offering in offerings if rng.random() < 0.05)
    return Problem(
        now=0.0, items=tuple(items), budget=budget, room=room, pool_room=pool_room, blocked=blocked, stale_prices=stale
    )
