"""How many standard agents a workload needs now: pure functions of readings, agents and what is remembered.

`policy` is the interface; `covey` our own; `hpa`, `kpa`, `skyserve`, `rayserve`, `threshold` the alternatives, as their
projects define them, so that users can compare and choose.
"""

from __future__ import annotations

from typing import Any

from covey.fleet.demand.covey import Covey
from covey.fleet.demand.hpa import Hpa
from covey.fleet.demand.kpa import Kpa
from covey.fleet.demand.policy import DemandInput, DemandPolicy
from covey.fleet.demand.rayserve import RayServe
from covey.fleet.demand.skyserve import SkyServe
from covey.fleet.demand.threshold import Threshold

__all__ = ["POLICIES", "DemandInput", "DemandPolicy"]

POLICIES: dict[str, DemandPolicy[Any]] = {
    "covey": Covey(),
    "hpa": Hpa(),
    "kpa": Kpa(),
    "skyserve": SkyServe(),
    "rayserve": RayServe(),
    "threshold": Threshold(),
}
