"""What a run looked like on the way: points for plots, and what was decided."""

from __future__ import annotations

from covey.fleet.model import Decision
from covey.fleet.simulate.figures import Point
from covey.fleet.simulate.world import World

__all__ = ["POINTS", "Recorder"]

POINTS = 1200
"""At most so many per run: about one per pixel."""
DECISIONS = 400
"""At most so many are kept; a report is read by people."""


class Recorder:
    """Looks at a world after each turn; between two points it keeps the worst backlog."""

    def __init__(self, seconds: int) -> None:
        self.points: list[Point] = []
        self.decisions: list[Decision] = []
        self.dropped = 0
        self._stride = max(1, seconds // POINTS)
        self._next = 0
        self._backlog = 0.0
        self._arrived = (0.0, 0.0)

    def look(self, world: World) -> None:
        waiting = world.backlog / world.capacity if world.capacity else (1e3 if world.backlog else 0.0)
        self._backlog = max(self._backlog, waiting)
        if world.now < self._next:
            return
        at, arrived = self._arrived
        span = max(world.now - at, 1.0)
        usd: dict[str, float] = {}
        ready = 0
        for machine in world.machines.values():
            offering = world.offerings[machine.offering]
            where = offering.cloud or offering.pool
            usd[where] = usd.get(where, 0.0) + (offering.price or 0.0) + (offering.egress or 0.0)
            ready += machine.ready_at is not None and machine.draining_at is None
        self.points.append(
            Point(
                at=float(world.now),
                arrivals=round((world.arrived - arrived) / span, 3),
                backlog=round(min(self._backlog, 1e3), 2),
                capacity=round(world.capacity, 3),
                ready=ready,
                paid=world.paid,
                usd_per_hour={cloud: round(price, 4) for cloud, price in sorted(usd.items())},
            )
        )
        self._arrived = (float(world.now), world.arrived)
        self._backlog = 0.0
        self._next = world.now + self._stride

    def told(self, decision: Decision) -> None:
        """Decisions that did or held something."""
        if not decision.steps and not decision.shortfalls:
            return
        if len(self.decisions) >= DECISIONS:
            self.dropped += 1
        else:
            self.decisions.append(decision)
