"""Ray Serve's replica autoscaler, with its defaults.

Restated from the project's source (python/ray/serve/autoscaling_policy.py): requests in flight or queued, averaged over
30 s; `desired = ceil(running x (ongoing / (target x running)))`, smoothing 1.0. It acts when more has been wanted
without a break for 30 s, or less for 600 s, on what is wanted then. From zero at once.
"""

from __future__ import annotations

import msgspec

from covey.fleet.demand.capacity import measure
from covey.fleet.demand.policy import DemandInput
from covey.fleet.demand.readings import capacity_target, clamp, holding, total
from covey.fleet.demand.targets import whole
from covey.fleet.demand.windows import Samples, add_sample, mean
from covey.fleet.model import Wanted
from covey.fleet.spec.types import Workload

__all__ = ["RayServe", "RayServeState"]

LOOK_BACK = 30.0
UP_DELAY = 30.0
DOWN_DELAY = 600.0


class RayServeState(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered between turns."""

    at: float | None = None
    ongoing: Samples = ()
    target: int = 0
    up_since: float | None = None
    down_since: float | None = None
    wanted: Wanted | None = None


class RayServe:
    """`policy = "rayserve"`; settings `up_delay` and `down_delay`, s."""

    state_type = RayServeState
    every = 5.0

    def initial(self, workload: Workload, now: float) -> RayServeState:
        return RayServeState()

    def recommend(self, given: DemandInput, state: RayServeState) -> tuple[Wanted, RayServeState]:
        now, workload, settings = given.now, given.workload, given.workload.policy_settings
        capacity = measure(given.agents, given.speeds)
        target = state.target if state.at is not None else clamp(capacity.agents, workload)
        goal = capacity_target(workload)
        ongoing = None if goal is None else total(given, goal[0], "ongoing")
        if goal is None or ongoing is None:
            wanted = holding(state.wanted, capacity, "ray serve: no requests in flight to go by")
            return wanted, RayServeState(at=now, ongoing=state.ongoing, target=target, wanted=wanted)
        samples = add_sample(state.ongoing, now, ongoing, LOOK_BACK)
        seen = mean(samples, now, LOOK_BACK) or 0.0
        desired = clamp(whole(seen / goal[1]), workload)
        up_since = (now if state.up_since is None else state.up_since) if desired > target else None
        down_since = (now if state.down_since is None else state.down_since) if desired < target else None
        before = target
        if (
            (target == 0 and desired > 0)
            or (up_since is not None and now - up_since > settings.get("up_delay", UP_DELAY))
            or (down_since is not None and now - down_since > settings.get("down_delay", DOWN_DELAY))
        ):
            target, up_since, down_since = desired, None, None
        wanted = Wanted(
            agents=target * capacity.pace,
            binding="rayserve",
            reason=f"ray serve: {seen:.4g} ongoing at {goal[1]:.4g} each is {desired}; {before} -> {target}",
            raw=desired * capacity.pace,
        )
        after = RayServeState(
            at=now, ongoing=samples, target=target, up_since=up_since, down_since=down_since, wanted=wanted
        )
        return wanted, after
