"""Knative's pod autoscaler (KPA), with its defaults.

Restated from the project's source (pkg/autoscaler/scaling/autoscaler.go): every 2 s, a stable window of 60 s and a
panic window of 6 s; `desired = ceil(mean / target)`, at most 1000 times and at least half of the ready pods. Panic
begins when the panic window's desire is at least twice the ready pods, is extended while that is true and ends 60 s
after; in it the desire never goes down. A scaler that starts over more than one pod begins in panic, which keeps them
until it knows.

The load is requests per second where the target is `rate_per_agent` (Knative's `rps` metric), the backlog where it is
`queue_length`.
"""

from __future__ import annotations

from math import ceil, floor

import msgspec

from covey.fleet.demand.capacity import measure
from covey.fleet.demand.policy import DemandInput
from covey.fleet.demand.readings import capacity_target, clamp, due, holding, said_again, total
from covey.fleet.demand.targets import whole
from covey.fleet.demand.windows import Samples, add_sample, mean
from covey.fleet.model import Wanted
from covey.fleet.spec.types import Workload

__all__ = ["Kpa", "KpaState"]

TICK = 2.0
STABLE_WINDOW = 60.0
PANIC_WINDOW = 6.0
PANIC_THRESHOLD = 2.0
MAX_UP_RATE = 1000.0
MAX_DOWN_RATE = 2.0


class KpaState(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered between rounds."""

    at: float | None = None
    load: Samples = ()
    panic_at: float | None = None
    panic_pods: int = 0
    wanted: Wanted | None = None


class Kpa:
    """`policy = "kpa"`; settings `window` (s) and `panic_threshold`."""

    state_type = KpaState
    every = TICK

    def initial(self, workload: Workload, now: float) -> KpaState:
        return KpaState()

    def recommend(self, given: DemandInput, state: KpaState) -> tuple[Wanted, KpaState]:
        now, settings = given.now, given.workload.policy_settings
        if not due(now, state.at, TICK):
            return said_again(state.wanted), state
        window = settings.get("window", STABLE_WINDOW)
        threshold = settings.get("panic_threshold", PANIC_THRESHOLD)
        capacity = measure(given.agents, given.speeds)
        panic_at, panic_pods = state.panic_at, state.panic_pods
        if state.at is None and capacity.ready_agents > 1:
            panic_at, panic_pods = now, capacity.ready_agents
        target = capacity_target(given.workload)
        load = None if target is None else total(given, target[0], target[2])
        if target is None or load is None:
            wanted = holding(state.wanted, capacity, "kpa: no requests per second or backlog to go by")
            return wanted, KpaState(at=now, load=state.load, panic_at=panic_at, panic_pods=panic_pods, wanted=wanted)
        samples = add_sample(state.load, now, load, window)
        stable, fast = mean(samples, now, window) or 0.0, mean(samples, now, PANIC_WINDOW) or 0.0
        ready = max(1, capacity.ready_agents)
        most, least = ceil(MAX_UP_RATE * ready), floor(ready / MAX_DOWN_RATE)
        panic_wants = whole(fast / target[1])
        desired = int(min(max(whole(stable / target[1]), least), most))
        if panic_wants / ready >= threshold:
            panic_at = now
        elif panic_at is not None and panic_at + window < now:
            panic_at, panic_pods = None, 0
        if panic_at is not None:
            panic_pods = max(panic_pods, desired, int(min(max(panic_wants, least), most)))
            desired = panic_pods
        wanted = Wanted(
            agents=clamp(desired, given.workload) * capacity.pace,
            binding="kpa" if panic_at is None else "panic",
            reason=f"kpa: {stable:.4g} in {window:g} s, {fast:.4g} in {PANIC_WINDOW:g} s, {target[1]:.4g} per agent",
            raw=desired * capacity.pace,
            burst=panic_at is not None,
        )
        return wanted, KpaState(at=now, load=samples, panic_at=panic_at, panic_pods=panic_pods, wanted=wanted)
