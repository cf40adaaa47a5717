"""SkyServe's autoscaler by request rate (SkyPilot 0.14), with its defaults.

Restated from the project's source (sky/serve/autoscalers.py): `ceil(requests of the last 60 s / 60 / target per
replica)`, decided every 20 s (5 s while nothing is wanted). Up after 15 rounds in a row that want more (300 s), down
after 60 that want less (1200 s), to what the last of them wants; a round that wants neither or the other starts over.
From zero at once.
"""

from __future__ import annotations

import msgspec

from covey.fleet.demand.capacity import measure
from covey.fleet.demand.policy import DemandInput
from covey.fleet.demand.readings import capacity_target, clamp, due, holding, said_again, total
from covey.fleet.demand.targets import whole
from covey.fleet.demand.windows import Samples, add_sample, mean
from covey.fleet.model import Wanted
from covey.fleet.spec.types import Workload

__all__ = ["SkyServe", "SkyServeState"]

WINDOW = 60.0
ROUND = 20.0
ROUND_AT_ZERO = 5.0
UP_DELAY = 300.0
DOWN_DELAY = 1200.0


class SkyServeState(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered between turns: requests are counted in every turn, decisions are taken in rounds."""

    at: float | None = None
    load: Samples = ()
    target: int = 0
    ups: int = 0
    downs: int = 0
    wanted: Wanted | None = None


class SkyServe:
    """`policy = "skyserve"`; settings `up_delay` and `down_delay`, s."""

    state_type = SkyServeState
    every = 5.0

    def initial(self, workload: Workload, now: float) -> SkyServeState:
        return SkyServeState()

    def recommend(self, given: DemandInput, state: SkyServeState) -> tuple[Wanted, SkyServeState]:
        now, workload = given.now, given.workload
        capacity = measure(given.agents, given.speeds)
        goal = capacity_target(workload)
        load = None if goal is None else total(given, goal[0], goal[2])
        samples = state.load if load is None else add_sample(state.load, now, load, WINDOW)
        target = state.target if state.at is not None else clamp(capacity.agents, workload)
        if not due(now, state.at, ROUND if target else ROUND_AT_ZERO):
            return said_again(state.wanted), msgspec.structs.replace(state, load=samples)
        seen = mean(samples, now, WINDOW)
        if goal is None or load is None or seen is None:
            wanted = holding(state.wanted, capacity, "skyserve: no requests per second to go by")
            return wanted, SkyServeState(at=now, load=samples, target=target, wanted=wanted)
        fresh = clamp(whole(seen / goal[1]), workload)
        ups = state.ups + 1 if fresh > target else 0
        downs = state.downs + 1 if fresh < target else 0
        before = target
        if (
            target == 0
            or ups >= int(workload.policy_settings.get("up_delay", UP_DELAY) / ROUND)
            or downs >= int(workload.policy_settings.get("down_delay", DOWN_DELAY) / ROUND)
        ):
            target, ups, downs = fresh, 0, 0
        wanted = Wanted(
            agents=target * capacity.pace,
            binding="skyserve",
            reason=f"skyserve: {seen:.4g} in {WINDOW:g} s at {goal[1]:.4g} each is {fresh}; {before} -> {target}",
            raw=fresh * capacity.pace,
        )
        return wanted, SkyServeState(at=now, load=samples, target=target, ups=ups, downs=downs, wanted=wanted)
