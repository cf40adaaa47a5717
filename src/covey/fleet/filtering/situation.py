"""One workload between what runs and what is wanted, and the bounds that no step may break.

Removals are judged by what is *ready* without any of this turn's starts, starts by what is *taken* without any of this
turn's removals: so the steps of one turn may be carried out in any order, one by one, or only in part, and every
constraint holds after each.

Each bound is `what the spec asks` or `what the placement itself reaches`, whichever is less: where constraints fight
the placer has decided (FLEET 2 "Place"), and the filter only keeps the way there from being worse than its two ends.
"""

from __future__ import annotations

from math import floor
from typing import Final

from covey.fleet.filtering.types import SiftInput
from covey.fleet.health import Standing
from covey.fleet.model import Agent, Offering
from covey.fleet.spec.types import Workload

__all__ = ["EPSILON", "Situation", "agent_name"]

EPSILON: Final = 1e-9


def agent_name(agent: Agent) -> str:
    """`POOL/ID`: unique in the fleet."""
    return f"{agent.pool}/{agent.id}"


class Situation:
    """Counts of one workload, kept up as steps are taken."""

    __slots__ = (
        "added",
        "agents",
        "given",
        "going",
        "missing",
        "name",
        "offerings",
        "orders",
        "present",
        "ready",
        "ready_count",
        "ready_speed",
        "removed",
        "spot_excess",
        "standing",
        "starting",
        "target",
        "target_agents",
        "target_speed",
        "workload",
    )

    def __init__(self, given: SiftInput, workload: Workload) -> None:
        name = self.name = workload.name
        self.given = given
        self.workload = workload
        self.standing: Standing = given.health.standing(name)
        self.offerings: dict[str, Offering] = {each.key: each for each in given.offerings.get(name, ())}
        self.going: set[str] = set(given.leaving)
        """`POOL/ID` of agents that were told to go, also where it does not show yet."""
        self.missing = {key: count for (whose, key), count in given.coming.items() if whose == name}
        """By offering: agents that were ordered and do not show yet."""
        drained = given.orders.replacing
        self.agents: list[Agent] = []
        """Those that count and were not told to go."""
        self.orders: list[Agent] = []
        """Part of `agents` that somebody ordered to be replaced; not part of `present`."""
        self.present: dict[str, int] = dict(self.missing)
        self.ready: dict[str, int] = {}
        self.ready_count = 0
        self.ready_speed = 0.0
        self.starting = 0
        for agent in self.standing.counting:
            if self.going and agent_name(agent) in self.going:
                continue
            self.agents.append(agent)
            if agent.state == "ready":
                self.ready[agent.offering] = self.ready.get(agent.offering, 0) + 1
                self.ready_count += 1
                self.ready_speed += self.speed(agent.offering)
            elif agent.state == "starting":
                self.starting += 1
            if drained and agent_name(agent) in drained:
                self.orders.append(agent)
            else:
                self.present[agent.offering] = self.present.get(agent.offering, 0) + 1
        frozen, suspended = given.health.frozen, given.health.suspended
        wanted = given.placement.counts.get(name)
        self.target: dict[str, int] = {}
        """What the placement wants; as it is where nothing may change."""
        for key in {**self.present, **(wanted or {})}:
            here = self.present.get(key, 0)
            closed = wanted is None or self.pool(key) in frozen or (suspended and self.cloud(key) in suspended)
            count = here if wanted is None or closed else wanted.get(key, 0)
            if count:
                self.target[key] = count
        self.target_agents = sum(self.target.values())
        self.target_speed = sum(self.speed(key) * count for key, count in self.target.items())
        self.added: dict[str, int] = {}
        self.removed: dict[str, int] = {}
        self.spot_excess = max(0, self._spot_over(self.target))

    def speed(self, key: str) -> float:
        """Standard agents of one agent there."""
        offering = self.offerings.get(key)
        return offering.speed if offering is not None else 1.0

    def pool(self, key: str) -> str:
        return key.split("/", 1)[0]

    def cloud(self, key: str) -> str:
        offering = self.offerings.get(key)
        if offering is not None and offering.cloud:
            return offering.cloud
        pool = self.given.spec.pools.get(self.pool(key))
        return pool.cloud if pool is not None else ""

    def is_spot(self, key: str) -> bool:
        offering = self.offerings.get(key)
        return offering.spot if offering is not None else key.split("@", 1)[0].endswith("/spot")

    @property
    def count(self) -> int:
        """Agents that are taken: they run or were ordered, and were not told to go."""
        return sum(self.present.values()) + len(self.orders)

    @property
    def present_speed(self) -> float:
        return sum(self.speed(key) * count for key, count in self.present.items())

    def ups(self) -> dict[str, int]:
        """By offering: agents to start, in the placement's order."""
        present = self.present
        return {key: n - present.get(key, 0) for key, n in self.target.items() if n > present.get(key, 0)}

    def downs(self) -> dict[str, int]:
        """By offering: agents that the placement does not want."""
        target = self.target
        return {key: n - target.get(key, 0) for key, n in self.present.items() if n > target.get(key, 0)}

    # What may be started

    def may_add(self, key: str, *, surge: int | None = 0) -> str:
        """Why not one more agent there, or "". `surge`: by how much `max` may be passed while old agents are still
        there; None: as far as needed."""
        pool = self.pool(key)
        if pool in self.given.health.frozen:
            return f"pool {pool} is frozen"
        if self.offerings.get(key) is None:
            return f"{key} is no longer offered"
        taken = self.count + sum(self.added.values())
        most = self.workload.replicas.max
        if surge is not None and taken + 1 > most + surge:
            return f"max is {most}"
        room = self.offerings[key].room
        if room is not None:
            scope = self.offerings[key].scope
            started = sum(
                count
                for other in (self.missing, self.added)
                for where, count in other.items()
                if (offering := self.offerings.get(where)) is not None and offering.scope == scope
            )
            if started + 1 > room:
                return f"{scope} had room for {room} more when last seen"
        if self.is_spot(key) and self._spot_after(spot_added=1) > self.spot_excess:
            rules = self.workload.place.spot
            return f"spot may be {rules.max_share:.0%} of what is above {rules.base_on_demand} on demand"
        cap = self.workload.place.max_per_pool.get(pool)
        if cap is not None and self.in_pool(pool) + 1 > cap:
            return f"max_per_pool of {pool} is {cap}"
        return ""

    def add(self, key: str) -> None:
        self.added[key] = self.added.get(key, 0) + 1

    def size(self, key: str) -> int:
        """The absolute size to order: what its provider counts there, what was ordered, and what is added now."""
        standing = self.standing
        there = sum(
            1
            for group in (standing.counting, standing.leaving, standing.suspect, standing.dead)
            for agent in group
            if agent.offering == key and not (self.going and agent_name(agent) in self.going)
        )
        return there + self.missing.get(key, 0) + self.added.get(key, 0)

    # What may go

    def may_remove(self, agent: Agent, *, capacity: bool = True, least: int | None = None) -> str:
        """Why this agent may not be told to go, or "". `capacity`: what is ready must still cover the target;
        `least`: agents that must stay whatever the placement reached (None: `min`, or the target where it is less)."""
        ready = agent.state == "ready"
        if least is None:
            least = min(self.workload.replicas.min, self.target_agents)
        if ready:
            if self.ready_count - 1 < least:
                return f"{least} must be ready"
            speed = self.ready_speed - self.speed(agent.offering)
            if capacity and speed < self.target_speed - EPSILON:
                return "what replaces it is not ready yet"
        elif self.count - sum(self.removed.values()) - 1 < least:
            return f"{least} must run"
        if not self.is_spot(agent.offering):
            if self._spot_after(on_demand_removed=1) > self.spot_excess:
                return "too much of the rest is spot"
            if ready:
                return self._survives(agent)
        return ""

    def remove(self, agent: Agent) -> None:
        key = agent.offering
        self.removed[key] = self.removed.get(key, 0) + 1
        if agent.state == "ready":
            self.ready[key] -= 1
            self.ready_count -= 1
            self.ready_speed -= self.speed(key)

    def coming(self) -> bool:
        """Whether anything is still to become ready."""
        return bool(self.starting or self.added or any(self.missing.values()))

    def in_pool(self, pool: str) -> int:
        return sum(
            count
            for group in (self.present, self.added)
            for key, count in group.items()
            if count and self.pool(key) == pool
        ) + sum(1 for agent in self.orders if agent.pool == pool)

    # Spot

    def _spot_over(self, counts: dict[str, int]) -> int:
        spot = sum(count for key, count in counts.items() if self.is_spot(key))
        return spot - self._spot_limit(sum(counts.values())) if spot else 0

    def _spot_limit(self, agents: int) -> int:
        rules = self.workload.place.spot
        return max(0, floor(rules.max_share * (agents - rules.base_on_demand) + EPSILON))

    def _spot_after(self, *, spot_added: int = 0, on_demand_removed: int = 0) -> int:
        """By how much spot is over its limit if, of this turn, only its spot starts and its on-demand removals came
        true: the worst that any part of it can do."""
        spot = sum(count for key, count in self.present.items() if self.is_spot(key)) + spot_added
        spot += sum(1 for agent in self.orders if self.is_spot(agent.offering))
        for key, count in self.added.items():
            if self.is_spot(key):
                spot += count
                spot_added += count
        if not spot:
            return 0
        for key, count in self.removed.items():
            if not self.is_spot(key):
                on_demand_removed += count
        return spot - self._spot_limit(self.count + spot_added - on_demand_removed)

    # Survive

    def survive_broken(self) -> bool:
        """Whether what is taken would not survive the loss of clouds and the target would do better."""
        keep = self._keep()
        if not keep:
            return False
        taken = dict(self.present)
        for key, count in self.added.items():
            taken[key] = taken.get(key, 0) + count
        return self._surviving(taken) < min(keep, self._surviving(self.target)) - EPSILON

    def _survives(self, agent: Agent) -> str:
        """Whether what is ready on demand is still enough without this agent when clouds are lost."""
        keep = self._keep()
        if not keep:
            return ""
        before = self._surviving(self.ready)
        after = self._surviving({**self.ready, agent.offering: self.ready[agent.offering] - 1})
        if after < before - EPSILON and after < min(keep, self._surviving(self.target)) - EPSILON:
            return "what is ready outside a cloud must survive its loss"
        return ""

    def _keep(self) -> float:
        survive = self.workload.place.survive
        if survive is None or survive.clouds <= len(self.given.health.suspended):
            return 0.0
        if survive.keep == "min":
            return float(self.workload.replicas.min)
        wanted = self.given.wanted.get(self.name)
        return survive.keep * (wanted.agents if wanted is not None else self.target_speed)

    def _surviving(self, counts: dict[str, int]) -> float:
        """What is left on demand when the clouds with the most are lost: agents, or speed for a share of demand."""
        survive = self.workload.place.survive
        if survive is None:
            return 0.0
        suspended = self.given.health.suspended
        by_cloud: dict[str, float] = {}
        for key, count in counts.items():
            cloud = self.cloud(key)
            if count and cloud not in suspended and not self.is_spot(key):
                weight = count if survive.keep == "min" else count * self.speed(key)
                by_cloud[cloud] = by_cloud.get(cloud, 0.0) + weight
        return sum(sorted(by_cloud.values(), reverse=True)[survive.clouds - len(suspended) :])
