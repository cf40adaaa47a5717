"""What the alternatives share: sums of readings, periods, bounds.

They take readings as they come; keeping, falling back and holding is what their projects do or do not do.
"""

from __future__ import annotations

from typing import Literal

from covey.fleet.demand.capacity import Capacity
from covey.fleet.demand.policy import DemandInput
from covey.fleet.model import Reading, Wanted
from covey.fleet.spec.types import Workload

__all__ = ["capacity_target", "clamp", "due", "holding", "said_again", "sane", "total"]

MOST = 1e15
"""Of any number that is believed: sums and rates of such numbers stay finite, and JSON has no infinity."""
STALE = 60.0
"""s; an older reading is no reading (the metrics API of Kubernetes answers with an error then)."""


def sane(number: float | None) -> float | None:
    """A source may say NaN, less than nothing, or what no sum can hold: then it said nothing."""
    return number if number is not None and 0.0 <= number <= MOST else None


def due(now: float, at: float | None, period: float) -> bool:
    """Whether a round of `period` seconds that last ran at `at` runs now; deaf to the last bits of adding floats. A
    clock that was set back does not stop the rounds."""
    return at is None or now - at >= period - 1e-6 or now < at


def said_again(wanted: Wanted | None) -> Wanted:
    assert wanted is not None  # a state with a time has an answer
    return wanted


def clamp(agents: float, workload: Workload) -> int:
    return int(max(workload.replicas.min, min(workload.replicas.max, agents)))


def total(given: DemandInput, index: int, what: Literal["rate", "backlog", "ongoing"]) -> float | None:
    """The sum of a target's parts; None when no part is young enough.

    `ongoing`, when nobody counts it, is what a request of one second makes of the numbers: the rate, and what waits.
    """
    readings = given.readings[index] if index < len(given.readings) else {}
    found = [
        number
        for reading in readings.values()
        if given.now - reading.at <= STALE and (number := sane(_number(reading, what))) is not None
    ]
    return sum(found) if found else None


def _number(reading: Reading, what: str) -> float | None:
    if what == "rate":
        return reading.value if reading.arrivals is None else reading.arrivals
    if what == "backlog":
        return reading.value if reading.backlog is None else reading.backlog
    if reading.ongoing is not None:
        return reading.ongoing
    rate = reading.value if reading.arrivals is None else reading.arrivals
    return None if rate is None else rate + (reading.backlog or 0.0)


def capacity_target(workload: Workload) -> tuple[int, float, Literal["rate", "backlog"]] | None:
    """The first target that says what one agent serves: its index, the load meant for one agent, and of what."""
    for index, target in enumerate(workload.targets):
        if target.rate_per_agent is not None:
            return index, target.utilisation * target.rate_per_agent, "rate"
        if target.queue_length is not None:
            return index, target.queue_length, "backlog"
    return None


def holding(before: Wanted | None, capacity: Capacity, reason: str) -> Wanted:
    """What a policy says that has nothing to go by: as before, or what runs."""
    agents = capacity.standing if before is None else before.agents
    return Wanted(agents=agents, raw=agents, binding="hold", reason=reason, hold_down=True)
