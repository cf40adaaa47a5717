"""What each workload wants, from what is seen of it and what is remembered. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from covey.fleet.demand import POLICIES, DemandInput
from covey.fleet.demand.speed import SpeedState, learn
from covey.fleet.health import Health
from covey.fleet.loop.consent import refused
from covey.fleet.loop.flight import Launch, Launches
from covey.fleet.loop.posing import Posed, offered, running
from covey.fleet.loop.rollout import Rollout, roll, rollout_note
from covey.fleet.model import Offering, Orders, PoolView, Reading, Wanted
from covey.fleet.spec.types import Replicas, Spec

__all__ = ["WorkloadState", "want"]


class WorkloadState(msgspec.Struct, frozen=True, kw_only=True):
    """What one workload's next turn must know."""

    policy: str = ""
    demand: Any = None
    """Of the policy's own type."""
    wanted: Wanted | None = None
    launches: dict[str, Launch] = {}
    """By offering, what is on its way."""
    speeds: SpeedState = SpeedState()
    rollout: Rollout | None = None
    planned: int | None = None
    """Agents in the last placement."""


def want(
    states: Mapping[str, WorkloadState],
    readings: Mapping[str, tuple[dict[str, Reading], ...]],
    spec: Spec,
    views: Mapping[str, PoolView],
    health: Health,
    launches: Launches,
    orders: Orders,
    now: float,
) -> tuple[dict[str, Posed], dict[str, WorkloadState]]:
    """Every workload with what it wants, and what its next turn must know."""
    posed: dict[str, Posed] = {}
    remembered: dict[str, WorkloadState] = {}
    for name, workload in spec.workloads.items():
        standing = health.standing(name)
        before = states.get(name, WorkloadState())
        offerings = offered(workload, views, spec, before.speeds.learned())
        known = {offering.key: offering.speed for offering in offerings if offering.speed != 1.0}
        before = replace(before, speeds=learn(workload, standing.counting, before.speeds, now, known))
        wanted, remembered[name] = _demand(
            before,
            DemandInput(
                now=now,
                workload=workload,
                readings=readings.get(name, ()),
                agents=standing.counting,
                speeds=known,
                tick=spec.controller.tick,
                cheaper_elsewhere=_cheaper_elsewhere(offerings, standing.running),
            ),
        )
        not_ours = refused(workload, views, orders)
        workload = replace(workload, mode="observe") if not_ours else workload
        pin = orders.pins.get(name)
        if pin is not None:
            least = min(workload.replicas.min, pin.agents)
            workload = replace(workload, replicas=Replicas(min=least, max=pin.agents))
            wanted = replace(wanted, agents=float(pin.agents), binding="pin", hold_down=False, reason=_pinned(wanted))
        rollout = roll(workload, standing, remembered[name].rollout, workload.place.pools or spec.pools, now)
        if rollout is not remembered[name].rollout:
            remembered[name] = replace(remembered[name], rollout=rollout)
        posed[name] = Posed(
            workload=workload,
            standing=standing,
            wanted=wanted,
            offerings=offerings,
            running=running(standing, name, launches, health, spec, now),
            planned=remembered[name].planned,
            pinned=None if pin is None else pin.agents,
            notes=tuple(note for note in (not_ours, rollout_note(rollout)) if note),
        )
    return posed, remembered


def _pinned(wanted: Wanted) -> str:
    return f"pinned by an order; without it {wanted.agents:g}: {wanted.reason}"


def _demand(before: WorkloadState, given: DemandInput) -> tuple[Wanted, WorkloadState]:
    policy = POLICIES[given.workload.policy]
    memory = before.demand
    if before.policy != given.workload.policy or not isinstance(memory, policy.state_type):
        memory = policy.initial(given.workload, given.now)
    wanted, memory = policy.recommend(given, memory)
    return wanted, replace(before, policy=given.workload.policy, demand=memory, wanted=wanted)


def _cheaper_elsewhere(offerings: tuple[Offering, ...], running: Mapping[str, int]) -> float:
    """How much cheaper the cheapest offering of another pool is than the dearest one in use, 0.1 = 10 %."""
    if len(offerings) < 2:
        return 0.0
    used = {key.partition("/")[0] for key in running}
    here = [offering.price for offering in offerings if offering.key in running and offering.price is not None]
    there = [
        offering.price
        for offering in offerings
        if offering.pool not in used and offering.price is not None and (offering.room is None or offering.room > 0)
    ]
    return max(0.0, 1.0 - min(there) / max(here)) if here and there and max(here) > 0 else 0.0
