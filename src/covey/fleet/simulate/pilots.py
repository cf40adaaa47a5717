"""Those who decide in a simulation: a demand policy with a plain actuator, a fixed size, a schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from covey.fleet.demand.policy import DemandInput, DemandPolicy
from covey.fleet.simulate.world import World
from covey.fleet.spec.types import Workload

__all__ = ["FIRST_HOLD", "FixedPilot", "PolicyPilot", "SchedulePilot"]

FIRST_HOLD = 60.0
"""No policy may scale in during its first 60 s (FLEET section 4)."""


def resize(world: World, offering: str, target: int) -> None:
    """What an engine does with a new size: starts what is missing; ends what starts first, then the youngest."""
    now = world.size
    if target > now:
        world.start(offering, target - now)
    elif target < now:
        alive = [machine for machine in world.machines.values() if machine.draining_at is None]
        alive.sort(key=lambda machine: (machine.ready_at is not None, -machine.started_at))
        world.drain([machine.id for machine in alive[: now - target]])


class FixedPilot:
    """The same size always."""

    every = 3600

    def __init__(self, offering: str, size: int) -> None:
        self.offering = offering
        self.size = size

    def turn(self, world: World) -> None:
        resize(world, self.offering, self.size)


class SchedulePilot:
    """A size for each second, known beforehand: the oracle's."""

    def __init__(self, offering: str, sizes: Sequence[int], every: int) -> None:
        self.offering = offering
        self.sizes = sizes
        self.every = every

    def turn(self, world: World) -> None:
        target = self.sizes[min(len(self.sizes) - 1, world.now // self.every)]
        world.aim(target)
        resize(world, self.offering, target)


class PolicyPilot:
    """A demand policy on one offering with a plain actuator: what its own project would do with what it wants."""

    def __init__(self, policy: DemandPolicy[Any], workload: Workload, offering: str, every: int) -> None:
        self.policy = policy
        self.workload = workload
        self.offering = offering
        self.every = every
        self.state: Any = None

    def turn(self, world: World) -> None:
        sample = world.sample()
        now = float(world.now)
        if self.state is None:
            self.state = self.policy.initial(self.workload, now)
        if not now:
            return  # nothing was measured yet
        given = DemandInput(
            now=now,
            workload=self.workload,
            readings=world.readings(sample, self.workload),
            agents=tuple(a for a in world.agents(sample.utilisation) if a.state != "draining"),
            tick=float(self.every),
            # One pool has no elsewhere: the threshold rule's price conditions are taken as true, or it would never act.
            cheaper_elsewhere=0.1,
        )
        wanted, self.state = self.policy.recommend(given, self.state)
        bounds = self.workload.replicas
        target = min(max(math.ceil(wanted.agents - 1e-9), bounds.min), bounds.max)
        size = world.size
        if target < size and (now < FIRST_HOLD or wanted.hold_down):
            target = size
        world.aim(target)
        if target != size:
            resize(world, self.offering, target)
