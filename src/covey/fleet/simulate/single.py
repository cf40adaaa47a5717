"""One workload on one pool: every policy beside the bounds, on the same trace, from the same start."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any

from covey.fleet.demand.policy import DemandPolicy
from covey.fleet.model import Offering
from covey.fleet.simulate.clock import Pilot, run
from covey.fleet.simulate.oracle import oracle
from covey.fleet.simulate.pilots import FixedPilot, PolicyPilot, SchedulePilot
from covey.fleet.simulate.traces import Setting, Trace
from covey.fleet.simulate.world import Figures, World
from covey.fleet.spec.types import Replicas, Target, Workload

__all__ = ["BOUNDS", "UTILISATION", "run_single", "start_size", "workload_for"]

UTILISATION = 0.7
"""What every policy is asked to keep its agents at."""
BOUNDS = ("fixed_peak", "oracle")
NAME = "trace"


def workload_for(policy: str, setting: Setting) -> Workload:
    """The workload as a user of each policy would write it: the same agents, the same 70 %, each by the signal that
    its project scales by."""
    rate = Target(signal="queue", rate_per_agent=setting.rate_per_agent, utilisation=UTILISATION, every=1.0)
    cpu = Target(signal="cpu", value=UTILISATION, every=1.0)
    targets: dict[str, tuple[Target, ...]] = {"hpa": (cpu,), "threshold": (cpu, rate)}
    return Workload(
        name=NAME,
        mode="act",
        image="simulated",
        replicas=Replicas(min=setting.min, max=setting.max),
        cold_start=setting.cold_start,
        targets=targets.get(policy, (rate,)),
        policy=policy if policy in ("hpa", "kpa", "skyserve", "rayserve", "threshold") else "covey",  # type: ignore[arg-type]
    )


def start_size(setting: Setting, arrivals: array[int]) -> int:
    """What every policy starts with: the mean of the first 60 s / 0.7 (FLEET section 4)."""
    first = arrivals[:60]
    mean = sum(first) / max(1, len(first))
    return min(max(math.ceil(mean / (UTILISATION * setting.rate_per_agent)), setting.min), setting.max)


def peak_size(trace: Trace, setting: Setting) -> int:
    """The size that carries the highest minute at 70 %."""
    return min(max(math.ceil(max(trace.minutes()) / (UTILISATION * setting.rate_per_agent)), 1), setting.max)


def run_single(
    trace: Trace,
    setting: Setting,
    policy: str,
    policies: dict[str, DemandPolicy[Any]],
    *,
    seed: int,
    offering: Offering,
    record: Callable[[World], None] | None = None,
) -> Figures:
    """One run on one offering. `policy`: a demand policy's name, `fixed_peak` or `oracle`."""
    arrivals = trace.arrivals(seed)
    world = World(
        [offering],
        workload=NAME,
        rate_per_agent=setting.rate_per_agent,
        cold_start=setting.cold_start,
        least=setting.min,
    )
    begin = start_size(setting, arrivals)
    pilot: Pilot
    if policy == "fixed_peak":
        begin = max(peak_size(trace, setting), setting.min)
        pilot = FixedPilot(offering.key, begin)
    elif policy == "oracle":
        block = 60 if len(arrivals) > 6 * 3600 else 5
        sizes = oracle(
            arrivals,
            rate_per_agent=setting.rate_per_agent,
            least=setting.min,
            most=setting.max,
            start=begin,
            cold_start=setting.cold_start,
            block=block,
        )
        pilot = SchedulePilot(offering.key, ahead(sizes, setting.cold_start, block), block)
        begin = max(begin, sizes[0])
    else:
        pilot = PolicyPilot(policies[policy], workload_for(policy, setting), offering.key, _every(policies[policy]))
    world.start(offering.key, begin, ready=True)
    return run(world, pilot, arrivals, record)


def ahead(sizes: list[int], cold_start: float, block: int) -> list[int]:
    """What must be ordered in each block for `sizes` to be ready in time: never fewer than are needed now, and what
    will be needed when a cold start is over."""
    lead = math.ceil(cold_start / block)
    return [max(sizes[at : at + lead + 1]) for at in range(len(sizes))]


def _every(policy: DemandPolicy[Any]) -> int:
    """How often its project decides, whole seconds."""
    return max(1, round(getattr(policy, "every", 5.0)))
