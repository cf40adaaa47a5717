"""What the agents of a workload can do together, in standard agents."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from covey.fleet.model import Agent

__all__ = ["Capacity", "measure"]


class Capacity(msgspec.Struct, frozen=True):
    """Sums over the agents that count."""

    standing: float
    """All of them, starting ones too."""
    ready: float
    ready_by_pool: dict[str, float]
    agents: int
    ready_agents: int

    @property
    def pace(self) -> float:
        """The mean speed of one agent, 1.0 without agents."""
        return self.standing / self.agents if self.agents else 1.0


def measure(agents: tuple[Agent, ...], speeds: Mapping[str, float]) -> Capacity:
    standing = ready = 0.0
    ready_agents = 0
    by_pool: dict[str, float] = {}
    for agent in agents:
        speed = speeds.get(agent.offering, 1.0)
        standing += speed
        if agent.state == "ready":
            ready += speed
            ready_agents += 1
            by_pool[agent.pool] = by_pool.get(agent.pool, 0.0) + speed
    return Capacity(standing, ready, by_pool, len(agents), ready_agents)
