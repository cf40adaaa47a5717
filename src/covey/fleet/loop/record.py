"""The record of one turn for one workload: inputs, candidates, what was chosen, what it would have cost otherwise.
Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec.structs import replace

from covey.fleet.health import Health
from covey.fleet.loop.posing import Posed
from covey.fleet.model import Candidate, Decision, Placement, Route, Step

__all__ = ["record"]


def record(
    each: Posed,
    health: Health,
    placement: Placement,
    steps: tuple[Step, ...],
    held: Iterable[str],
    route: Route | None,
    turn: int,
    now: float,
) -> Decision:
    """What `explain` reads back."""
    name = each.workload.name
    candidates = placement.candidates.get(name, ())
    after = _cost(candidates, {candidate.offering: candidate.count for candidate in candidates})
    return Decision(
        at=now,
        turn=turn,
        workload=name,
        mode=each.workload.mode,
        wanted=each.wanted,
        agents=_agents(each),
        candidates=candidates,
        shortfalls=tuple(short for short in placement.shortfalls if short.workload == name),
        steps=steps,
        held=(*each.notes, *held, *health.notes),
        cost_before=_cost(candidates, each.running),
        cost_after=after,
        cost_otherwise=_otherwise(each, candidates, after, placement.survive_premium.get(name, 0.0)) if steps else {},
        # Without its endpoints: a record is read by people, and who serves is in the routes themselves.
        route=None if route is None else replace(route, endpoints={}),
    )


def _agents(each: Posed) -> dict[str, dict[str, int]]:
    """By offering, by state. `coming`: ordered and not seen."""
    counts: dict[str, dict[str, int]] = {}
    standing = each.standing
    for label, agents in (
        ("", standing.counting),
        ("draining", standing.draining),
        ("leaving", standing.leaving),
        ("suspect", standing.suspect),
        ("dead", standing.dead),
    ):
        for agent in agents:
            states = counts.setdefault(agent.offering, {})
            state = label or agent.state
            states[state] = states.get(state, 0) + 1
    for key, count in each.running.items():
        coming = count - standing.running.get(key, 0)
        if coming > 0:
            counts.setdefault(key, {})["coming"] = coming
    return counts


def _cost(candidates: Iterable[Candidate], counts: dict[str, int]) -> float:
    """USD per hour: list price and egress, as far as known."""
    total = 0.0
    for candidate in candidates:
        count = counts.get(candidate.offering, 0)
        if count:
            total += count * _paid(candidate)
    return total


def _paid(candidate: Candidate) -> float:
    return (candidate.parts.get("list") or 0.0) + (candidate.parts.get("egress") or 0.0)


def _otherwise(each: Posed, candidates: tuple[Candidate, ...], after: float, premium: float) -> dict[str, float]:
    """What the same demand would have cost in one pool alone, on demand only, without `survive`: list prices, whole
    agents, room not looked at."""
    speeds = {offering.key: offering.speed for offering in each.offerings}
    spot = {offering.key for offering in each.offerings if offering.spot}
    demand = max(each.wanted.agents, float(each.workload.replicas.min))
    best: dict[str, float] = {}
    for candidate in candidates:
        if candidate.price is None or candidate.offering in spot:
            continue
        pool = candidate.offering.partition("/")[0]
        cost = math.ceil(demand / max(speeds.get(candidate.offering, 1.0), 1e-9) - 1e-9) * _paid(candidate)
        best[pool] = min(best.get(pool, math.inf), cost)
    costs = {f"all in {pool}": cost for pool, cost in sorted(best.items())}
    if best and spot:
        costs["on demand only"] = min(best.values())
    if premium:
        costs["without survive"] = after - premium
    return costs
