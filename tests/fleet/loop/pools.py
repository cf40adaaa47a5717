"""A pool for tests: real behaviour (sizes, ids, room, cold starts), no processes, a clock of its owner's, and faults on
request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from covey.fleet.errors import Capacity, ProviderError
from covey.fleet.model import Agent, AgentState, Offering, PoolView, offering_key
from covey.fleet.providers.base import Fence, PoolFacts, Right
from covey.fleet.spec.types import Pool, Workload

SHAPE = "m"


@dataclass
class Ground:
    """What is really there, whatever controllers think; it outlives them."""

    name: str
    clock: Callable[[], float]
    cold_start: float = 10.0
    room: int | None = None
    """Agents it holds in all; None: no limit."""
    agents: dict[str, Agent] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    """(verb, workload, size or ids, plan, epoch), as they took effect."""
    managed: dict[str, str] = field(default_factory=dict)
    """By workload: who else owns its replicas."""
    refuses: bool = False
    """There is no room for anything, which nobody knows before asking."""
    swallows: bool = False
    """It says yes and starts nothing."""
    broken: str = ""
    """A version whose agents never get ready."""
    started: int = 0
    ended: set[str] = field(default_factory=set)

    def look(self) -> list[Agent]:
        now = self.clock()
        for agent in list(self.agents.values()):
            if (
                agent.state == "starting"
                and agent.version != (self.broken or None)
                and now - agent.started_at >= self.cold_start
            ):
                self.agents[agent.id] = replace(agent, state="ready", ready_at=agent.started_at + self.cold_start)
        return [replace(agent, heard_at=now) for agent in self.agents.values()]

    def scale(self, workload: Workload, offering: Offering, size: int) -> None:
        self.look()
        if self.refuses:
            raise Capacity(f"{self.name} has none left", scope=offering.scope, shape=offering.shape)
        if self.swallows:
            return
        there = [a for a in self.agents.values() if a.offering == offering.key and a.workload == workload.name]
        for _ in range(size - sum(1 for agent in there if agent.state != "draining")):
            if self.room is not None and len(self.agents) >= self.room:
                raise Capacity(f"{self.name} is full", scope=offering.scope, shape=offering.shape)
            self.started += 1
            state: AgentState = "starting" if self.cold_start else "ready"
            agent = Agent(
                id=f"{self.name}-{self.started}",
                workload=workload.name,
                pool=self.name,
                offering=offering.key,
                state=state,
                started_at=self.clock(),
                busy=False,
                version=workload.version,
                endpoint=f"127.0.0.1:{10_000 + self.started}",
            )
            self.agents[agent.id] = agent

    def drain(self, ids: Sequence[str]) -> None:
        for name in ids:
            if name in self.agents:
                self.agents[name] = replace(self.agents[name], state="draining", busy=False)

    def remove(self, ids: Sequence[str]) -> list[str]:
        gone = [name for name in ids if name not in self.agents or not self.agents[name].busy]
        for name in gone:
            if self.agents.pop(name, None) is not None:
                self.ended.add(name)
        return gone


class GroundProvider:
    """The eight verbs over a `Ground`. `fault` is asked before ("before") and after ("after") each call, and may raise
    or wait."""

    def __init__(
        self,
        pool: Pool,
        ground: Ground,
        *,
        price: float | None = 1.0,
        fault: Callable[[str, str], Awaitable[None]] | None = None,
    ) -> None:
        self.pool = pool
        self._ground = ground
        self._price = price
        self._fault = fault

    async def _maybe(self, when: str, verb: str) -> None:
        if self._fault is not None:
            await self._fault(when, verb)

    async def describe(self) -> PoolFacts:
        return PoolFacts(provider=self.pool.provider)

    async def offerings(self, workload: Workload) -> Sequence[Offering]:
        ground = self._ground
        return [
            Offering(
                pool=self.pool.name,
                shape=SHAPE,
                cloud=self.pool.cloud,
                region=self.pool.labels.get("region", ""),
                jurisdiction=self.pool.labels.get("jurisdiction", ""),
                price=self._price,
                room=None if ground.room is None else max(0, ground.room - len(ground.agents)),
            )
        ]

    async def observe(self, workloads: Iterable[Workload], now: float) -> PoolView:
        await self._maybe("before", "observe")
        offered = {workload.name: tuple(await self.offerings(workload)) for workload in workloads}
        view = PoolView(
            pool=self.pool.name,
            at=now,
            agents=tuple(self._ground.look()),
            offerings=offered,
            managed_elsewhere=self._ground.managed,
        )
        await self._maybe("after", "observe")
        return view

    async def scale(self, workload: Workload, offering: Offering, size: int, fence: Fence) -> None:
        await self._maybe("before", "scale")
        self._ground.calls.append(("scale", workload.name, size, fence.plan, fence.epoch))
        self._ground.scale(workload, offering, size)
        await self._maybe("after", "scale")

    async def drain(self, workload: Workload, ids: Sequence[str], fence: Fence) -> None:
        await self._maybe("before", "drain")
        self._ground.calls.append(("drain", workload.name, tuple(ids), fence.plan, fence.epoch))
        self._ground.drain(ids)
        await self._maybe("after", "drain")

    async def remove(self, workload: Workload, ids: Sequence[str], fence: Fence, *, grace: float) -> Sequence[str]:
        await self._maybe("before", "remove")
        self._ground.calls.append(("remove", workload.name, tuple(ids), fence.plan, fence.epoch))
        gone = self._ground.remove(ids)
        await self._maybe("after", "remove")
        return gone

    async def health(self) -> str:
        try:
            await self._maybe("before", "health")
        except ProviderError as error:
            return str(error)
        return ""

    async def check(self) -> Sequence[Right]:
        return []

    async def close(self) -> None:
        await asyncio.sleep(0)


def key(pool: str) -> str:
    return offering_key(pool, SHAPE)
