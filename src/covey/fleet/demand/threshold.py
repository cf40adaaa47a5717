"""The rule many people write first: busy, a long queue and a cheaper place: two more; idle and dear: one fewer.

More than 80 % CPU and more than 500 queued and 10 % cheaper elsewhere: +2. Less than 20 % CPU and dearer than
elsewhere: -1. In every turn, without a window or a cool-down: it is here to compare with.
"""

from __future__ import annotations

import msgspec

from covey.fleet.demand.capacity import measure
from covey.fleet.demand.policy import DemandInput
from covey.fleet.demand.readings import clamp, sane, total
from covey.fleet.model import Wanted
from covey.fleet.spec.types import Workload

__all__ = ["Threshold", "ThresholdState"]

BUSY, IDLE = 0.80, 0.20
LONG_QUEUE = 500.0
CHEAPER = 0.10
UP, DOWN = 2, 1


class ThresholdState(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered between turns."""

    target: int | None = None


class Threshold:
    """`policy = "threshold"`; settings `busy`, `idle`, `queue`, `cheaper`."""

    state_type = ThresholdState
    every = 5.0

    def initial(self, workload: Workload, now: float) -> ThresholdState:
        return ThresholdState()

    def recommend(self, given: DemandInput, state: ThresholdState) -> tuple[Wanted, ThresholdState]:
        workload, settings = given.workload, given.workload.policy_settings
        capacity = measure(given.agents, given.speeds)
        before = clamp(capacity.agents if state.target is None else state.target, workload)
        use, queue = _use(given), _queue(given)
        target = before
        busy, idle = settings.get("busy", BUSY), settings.get("idle", IDLE)
        if use is not None and queue is not None:
            if use > busy and queue > settings.get("queue", LONG_QUEUE):
                if given.cheaper_elsewhere >= settings.get("cheaper", CHEAPER):
                    target = before + UP
            elif use < idle and given.cheaper_elsewhere > 0.0:
                target = before - DOWN
        target = clamp(target, workload)
        seen = "no CPU or no queue to go by" if use is None or queue is None else f"{use:.0%} CPU, {queue:.4g} queued"
        wanted = Wanted(
            agents=target * capacity.pace,
            binding="threshold",
            reason=f"threshold: {seen}, {given.cheaper_elsewhere:.0%} cheaper elsewhere; {before} -> {target}",
            raw=target * capacity.pace,
            hold_down=use is None or queue is None,
        )
        return wanted, ThresholdState(target=target)


def _use(given: DemandInput) -> float | None:
    """The mean utilisation: of the first `value` target, else of what the agents report."""
    for target, readings in zip(given.workload.targets, given.readings, strict=False):
        if target.value is not None:
            values = [reading.value for reading in readings.values() if reading.value is not None]
            if values:
                return sum(values) / len(values)
    own = [cpu for agent in given.agents if agent.state == "ready" and (cpu := sane(agent.cpu)) is not None]
    return sum(own) / len(own) if own else None


def _queue(given: DemandInput) -> float | None:
    """What waits: of the first target that says so."""
    for index, readings in enumerate(given.readings):
        if any(reading.backlog is not None for reading in readings.values()):
            return total(given, index, "backlog")
    return None
