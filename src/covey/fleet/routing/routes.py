"""Weights of localities and agents, from what is ready now.

Weights **and** failover together: a locality (a pool) keeps its configured weight while 1 / 1.4 of its agents answer;
below that it loses weight in proportion, and the rest is spilled to the other localities, as Envoy does inside one
cluster and no mesh does across clusters. Without configured weights requests follow the speed that is ready.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from covey.fleet.health import Health, Standing
from covey.fleet.model import Agent, Offering, Route, RouteEndpoint, Wanted
from covey.fleet.spec.types import Spec, Workload

__all__ = ["OVERPROVISION", "SLOW_START", "WHOLE", "RouteInput", "routes", "shares"]

WHOLE: Final = 10_000
"""What the weights of a route's localities sum to."""

OVERPROVISION: Final = 1.4
"""A locality keeps its whole weight while it has 1 / 1.4 of its agents (FLEET 2; Envoy's overprovisioning_factor)."""

SLOW_START: Final = 30.0
"""s in which the weight of a new agent grows to its own. Ours, not measured: half a default cold start."""

SLOW_START_LEAST: Final = 0.1
"""Of its weight, at the beginning (Envoy's min_weight_percent)."""

ENDPOINT_WEIGHT: Final = 100
"""Weight of an agent of speed 1."""


class RouteInput(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the routes of one turn look at."""

    now: float
    spec: Spec
    health: Health
    counts: Mapping[str, dict[str, int]] = {}
    """By workload and offering: what the placement wants, so that a pool that only begins gets little."""
    offerings: Mapping[str, tuple[Offering, ...]] = {}
    wanted: Mapping[str, Wanted] = {}
    leaving: Collection[str] = ()
    """`POOL/ID` of agents that were or are now told to go: their weight leaves before they do."""
    ejected: Collection[str] = ()
    """`POOL/ID` of agents that fail too often (`routing.ejection`)."""


def routes(given: RouteInput) -> dict[str, Route]:
    """By workload, where its requests go."""
    return {name: _route(given, workload) for name, workload in given.spec.workloads.items()}


class _Locality:
    """One pool's agents of one workload."""

    __slots__ = ("endpoints", "offerings", "speed")

    def __init__(self) -> None:
        self.speed = 0.0
        self.endpoints: list[RouteEndpoint] = []
        self.offerings: set[str] = set()


def _route(given: RouteInput, workload: Workload) -> Route:
    name = workload.name
    standing = given.health.standing(name)
    offerings = given.offerings.get(name, ())
    speeds = {each.key: each.speed for each in offerings if each.speed != 1.0}
    agents, reason = _serving(given, standing)
    localities: dict[str, _Locality] = {}
    slow_since = given.now - SLOW_START
    for agent in agents:
        locality = localities.get(agent.pool)
        if locality is None:
            locality = localities[agent.pool] = _Locality()
        speed = speeds.get(agent.offering, 1.0) if speeds else 1.0
        ready_at = agent.ready_at
        if ready_at is not None and ready_at > slow_since:
            speed *= max(SLOW_START_LEAST, (given.now - ready_at) / SLOW_START)
        locality.speed += speed
        locality.offerings.add(agent.offering)
        if agent.endpoint:
            weight = max(1, round(speed * ENDPOINT_WEIGHT))
            locality.endpoints.append(RouteEndpoint(agent=agent.id, address=agent.endpoint, weight=weight))
    if not localities:
        return Route(workload=name, localities={}, reason="nothing is ready")
    if len(localities) == 1:
        weights = dict.fromkeys(localities, WHOLE)
    else:
        weights, why = _weights(given, workload, localities, speeds)
        reason = reason or why
    return Route(
        workload=name,
        localities=weights,
        endpoints={pool: tuple(locality.endpoints) for pool, locality in localities.items() if locality.endpoints},
        reason=reason,
    )


def _serving(given: RouteInput, standing: Standing) -> tuple[Iterable[Agent], str]:
    """The agents that get requests. Nobody left: those that are only quiet, then those that are only ejected, since an
    answer is likelier from them than from nobody."""
    agents: Iterable[Agent] = standing.routable
    leaving, ejected = given.leaving, given.ejected
    if leaving:
        agents = [agent for agent in agents if f"{agent.pool}/{agent.id}" not in leaving]
    if ejected:
        kept = [agent for agent in agents if f"{agent.pool}/{agent.id}" not in ejected]
        if not kept and agents:
            return agents, "every ready agent is ejected: all are used"
        agents = kept
    if not agents and standing.quiet:
        return standing.quiet, "every ready agent is silent: all are used"
    return agents, ""


def _weights(
    given: RouteInput, workload: Workload, localities: dict[str, _Locality], speeds: dict[str, float]
) -> tuple[dict[str, int], str]:
    """The shares of several localities, and what they follow."""
    traffic = workload.traffic
    if traffic.weights:
        parts = _by_cloud(given, workload, localities, speeds)
        if sum(parts.values()) > 0:
            return shares(parts), "by the clouds' weights, less where agents are missing"
        return shares(_speeds(localities)), "no cloud with a weight is ready: by ready speed"
    if traffic.prefer:
        wanted = given.wanted.get(workload.name)
        return shares(_preferred(given, workload, localities, wanted)), f"by {traffic.prefer} as far as capacity goes"
    return shares(_speeds(localities)), "by ready speed"


def _speeds(localities: dict[str, _Locality]) -> dict[str, float]:
    return {pool: locality.speed for pool, locality in localities.items()}


def _by_cloud(
    given: RouteInput, workload: Workload, localities: dict[str, _Locality], speeds: dict[str, float]
) -> dict[str, float]:
    """A cloud's weight, shared by its pools as their agents are meant to be, times what of them is ready."""
    meant = _meant(given, workload, speeds)
    clouds: dict[str, str] = {}
    whole: dict[str, float] = {}
    for pool in {**meant, **localities}:
        settings = given.spec.pools.get(pool)
        cloud = clouds[pool] = settings.cloud if settings is not None else ""
        ready = localities[pool].speed if pool in localities else 0.0
        meant[pool] = max(meant.get(pool, 0.0), ready)
        whole[cloud] = whole.get(cloud, 0.0) + meant[pool]
    parts: dict[str, float] = {}
    for pool, locality in localities.items():
        cloud = clouds[pool]
        weight = workload.traffic.weights.get(cloud, 0.0)
        if weight > 0 and meant[pool] > 0:
            healthy = min(1.0, OVERPROVISION * locality.speed / meant[pool])
            parts[pool] = weight * meant[pool] / whole[cloud] * healthy
        else:
            parts[pool] = 0.0
    return parts


def _meant(given: RouteInput, workload: Workload, speeds: dict[str, float]) -> dict[str, float]:
    """By pool, the speed that should serve: what the placement wants, or what has served and fell silent."""
    wanted: dict[str, float] = {}
    for key, count in given.counts.get(workload.name, {}).items():
        pool = key.split("/", 1)[0]
        wanted[pool] = wanted.get(pool, 0.0) + speeds.get(key, 1.0) * count
    standing = given.health.standing(workload.name)
    seen: dict[str, float] = {}
    for group in (standing.counting, standing.suspect, standing.dead):
        for agent in group:
            if agent.ready_at is not None:
                seen[agent.pool] = seen.get(agent.pool, 0.0) + speeds.get(agent.offering, 1.0)
    for pool, speed in seen.items():
        wanted[pool] = max(wanted.get(pool, 0.0), speed)
    return wanted


def _preferred(
    given: RouteInput, workload: Workload, localities: dict[str, _Locality], wanted: Wanted | None
) -> dict[str, float]:
    """The nearest or cheapest locality first, each up to what it is meant to carry."""
    offerings = {each.key: each for each in given.offerings.get(workload.name, ())}
    demand = wanted.agents if wanted is not None else sum(locality.speed for locality in localities.values())

    def rank(pool: str) -> tuple[float, str]:
        found = [offerings[key] for key in localities[pool].offerings if key in offerings]
        if workload.traffic.prefer == "latency":
            return min((each.latency_ms for each in found), default=float("inf")), pool
        prices = [each.price / max(each.speed, 1e-9) for each in found if each.price is not None]
        return min(prices, default=float("inf")), pool

    parts: dict[str, float] = {}
    left = demand
    for pool in sorted(localities, key=rank):
        parts[pool] = min(localities[pool].speed, max(left, 0.0))
        left -= parts[pool]
    if left > 0 or not any(parts.values()):
        return _speeds(localities)  # more than all can carry: everybody as much as they can
    return parts


def shares(parts: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers in proportion to `parts` that sum to `WHOLE`, by the largest remainder; at least one part is
    above 0."""
    total = sum(parts.values())
    exact = {name: part * WHOLE / total for name, part in parts.items()}
    whole = {name: int(value) for name, value in exact.items()}
    missing = WHOLE - sum(whole.values())
    for name in sorted(exact, key=lambda name: (whole[name] - exact[name], name))[:missing]:
        whole[name] += 1
    return whole
