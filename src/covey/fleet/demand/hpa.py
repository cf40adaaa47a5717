"""The Horizontal Pod Autoscaler of Kubernetes (v2, 1.36), with its defaults.

`value` targets are its Resource metric (utilisation), `rate_per_agent` and `queue_length` its External metric with an
average value. Restated from the project's source (pkg/controller/podautoscaler: replica_calculator.go, horizontal.go):

- sync every 15 s; tolerance 0.1;
- `ratio = usage / request / target` over ready pods, `desired = ceil(ratio x ready)`. Pods without a metric count as
  100 % used when that would scale down and as unused when it would scale up; pods not yet ready count as unused when it
  would scale up. Then: keep when inside the tolerance or when the direction flipped;
- several metrics: the highest; when one is missing nothing goes down;
- down: the highest recommendation of the last 300 s. Up: at most the higher of 4 pods and 100 % per 15 s.
"""

from __future__ import annotations

from math import ceil, floor

import msgspec

from covey.fleet.demand.capacity import measure
from covey.fleet.demand.policy import DemandInput
from covey.fleet.demand.readings import clamp, due, said_again, sane, total
from covey.fleet.demand.targets import whole
from covey.fleet.demand.windows import Samples, add_high, high
from covey.fleet.model import Agent, Wanted
from covey.fleet.spec.types import Target, Workload

__all__ = ["Hpa", "HpaState"]

SYNC = 15.0
TOLERANCE = 0.1
DOWN_WINDOW = 300.0
CPU_INITIALISATION = 300.0
"""s after its start during which a pod's CPU counts only when it was measured while ready."""
READINESS_DELAY = 30.0
METRIC_WINDOW = 15.0
"""s; over which the metrics server averages CPU."""
UP_PODS, UP_PERCENT, DOWN_PERCENT, PERIOD = 4, 100.0, 100.0, 15.0


class HpaState(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered between rounds."""

    at: float | None = None
    desired: int = 0
    recommended: Samples = ()
    events: tuple[tuple[float, int], ...] = ()
    """Changes of the last 15 s: when, by how many."""
    wanted: Wanted | None = None


class Hpa:
    """`policy = "hpa"`; settings `tolerance`, `down_window`."""

    state_type = HpaState
    every = SYNC

    def initial(self, workload: Workload, now: float) -> HpaState:
        return HpaState()

    def recommend(self, given: DemandInput, state: HpaState) -> tuple[Wanted, HpaState]:
        if not due(given.now, state.at, SYNC):
            return said_again(state.wanted), state
        settings, workload, now = given.workload.policy_settings, given.workload, given.now
        tolerance = settings.get("tolerance", TOLERANCE)
        window = settings.get("down_window", DOWN_WINDOW)
        capacity = measure(given.agents, given.speeds)
        current = state.desired if state.at is not None else clamp(capacity.agents, workload)
        best, binding, missing = -1, "", False
        for index, target in enumerate(workload.targets):
            proposed = _replicas(given, index, target, current, capacity.ready_agents, tolerance)
            if proposed is None:
                missing = True
            elif proposed > best:
                best, binding = proposed, target.signal
        if best < 0 or (missing and best < current):
            best, binding = current, "hold"
        recommended = add_high(state.recommended, now, float(best), window)
        # Up-stabilisation has a window of 0 s: the recommendation of now alone.
        settled = max(best, min(current, int(high(recommended, now, window) or 0)))
        events = tuple(event for event in state.events if event[0] > now - PERIOD)
        desired = clamp(_limited(current, settled, events), workload)
        if desired != current:
            events = (*events, (now, desired - current))
        if desired > best:
            binding = "down-window"
        wanted = Wanted(
            agents=desired * capacity.pace,
            binding=binding,
            reason=f"hpa: {best} recommended, {desired} after its windows and limits",
            raw=best * capacity.pace,
            hold_down=missing,
        )
        return wanted, HpaState(at=now, desired=desired, recommended=recommended, events=events, wanted=wanted)


def _limited(current: int, settled: int, events: tuple[tuple[float, int], ...]) -> int:
    added = sum(by for _, by in events if by > 0)
    removed = -sum(by for _, by in events if by < 0)
    if settled > current:
        start = current - added
        return min(settled, max(start + UP_PODS, ceil(start * (1.0 + UP_PERCENT / 100.0))))
    if settled < current:
        start = current + removed
        return max(settled, floor(start * (1.0 - DOWN_PERCENT / 100.0)))
    return settled


def _replicas(given: DemandInput, index: int, target: Target, current: int, ready: int, tolerance: float) -> int | None:
    """What one metric proposes; None when it cannot be had."""
    if target.value is not None:
        return _by_utilisation(given, index, target.value, current, ready, tolerance)
    if target.rate_per_agent is not None:
        usage = total(given, index, "rate")
        average = target.utilisation * target.rate_per_agent
    else:
        usage = total(given, index, "backlog")
        average = target.queue_length or 1.0
    if usage is None:
        return None
    if current and abs(usage / (average * current) - 1.0) <= tolerance:
        return current
    return int(whole(usage / average))


def _by_utilisation(
    given: DemandInput, index: int, value: float, current: int, ready: int, tolerance: float
) -> int | None:
    used, measured, missing, unready = _pods(given, index)
    if not measured:
        return None
    ratio = used / measured / value
    counts_unready = unready > 0 and ratio > 1.0
    if not missing and not counts_unready:
        return current if abs(ratio - 1.0) <= tolerance else int(whole(ratio * measured))
    if ratio < 1.0:
        used, measured = used + missing * max(1.0, value), measured + missing
    elif ratio > 1.0:
        measured += missing
    if counts_unready:
        measured += unready
    again = used / measured / value
    if abs(again - 1.0) <= tolerance or (ratio < 1.0 < again) or (again < 1.0 < ratio):
        return current
    proposed = int(whole(again * measured))
    if (again < 1.0 and proposed > current) or (again > 1.0 and proposed < current):
        return current
    return proposed


def _pods(given: DemandInput, index: int) -> tuple[float, int, int, int]:
    """Utilisation summed, pods it was measured on, pods without a metric, pods not ready yet."""
    values = given.readings[index] if index < len(given.readings) else {}
    used, measured, missing, unready = 0.0, 0, 0, 0
    for agent in given.agents:
        reading = values.get(agent.pool) or values.get("")
        use = sane(reading.value if reading is not None else agent.cpu)
        if _is_unready(agent, given.now):
            unready += 1
        elif use is None:
            missing += 1
        else:
            used += use
            measured += 1
    return used, measured, missing, unready


def _is_unready(agent: Agent, now: float) -> bool:
    if agent.state == "starting":
        return True
    if now < agent.started_at + CPU_INITIALISATION:
        return agent.state != "ready" or (agent.ready_at is not None and now < agent.ready_at + METRIC_WINDOW)
    never_long = agent.ready_at is None or agent.ready_at - agent.started_at < READINESS_DELAY
    return agent.state != "ready" and never_long
