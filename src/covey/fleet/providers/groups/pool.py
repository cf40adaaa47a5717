"""The provider for pools of instance groups.

An order that the cloud has accepted and not filled is shown as agents that start, named `GROUP#1`, `GROUP#2`...: so
they are counted once, and when the launch fails the loop removes them by name, which withdraws the order. Without
that an autoscaling group would go on trying for hours and deliver, dearly, what has long been started elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from covey.fleet.errors import Capacity, Permanent, ProviderError, Quota, Temporary
from covey.fleet.model import Agent, AgentState, LaunchFailure, Offering, PoolView
from covey.fleet.providers.base import Fence, PoolFacts, Right
from covey.fleet.providers.groups.api import Group, GroupApi, Instance
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Pool, Workload

__all__ = ["CALL_TIMEOUT", "GroupPool"]

T = TypeVar("T")

CALL_TIMEOUT = 30.0
"""Seconds that any verb may take, as `providers.base` promises."""
HEALTH_TIMEOUT = 1.0
_ORDER_MARK = "#"
_MOST_ORDERS = 10_000
"""Of one group that are shown: a size without sense must not fill the memory."""


class GroupPool:
    """A pool of instance groups of one cloud and region."""

    def __init__(self, pool: Pool, api: GroupApi, surroundings: Surroundings) -> None:
        self.pool = pool
        self._api = api
        self._wall = surroundings.wall
        self._quote = surroundings.quote
        self._busy = surroundings.busy
        self._groups: dict[str, Group] = {}
        self._prepared: set[str] = set()
        self._last_offset: float | None = None
        self._ordered_at: dict[str, float] = {}
        """By name of an order not yet filled: when it was first seen, by the wall clock."""

    async def describe(self) -> PoolFacts:
        return await self._call(self._api.facts)

    async def health(self) -> str:
        try:
            await self._call(self._api.ping, timeout=HEALTH_TIMEOUT)
        except Exception as error:
            return str(error) or type(error).__name__
        return ""

    async def check(self) -> Sequence[Right]:
        try:
            groups = await self._call(self._api.groups)
        except ProviderError as error:
            right = f"list the groups of {self.pool.name}"
            return [Right(name=right, granted=False, detail=error.message, next_step=error.next_step)]
        return await self._call(partial(self._api.rights, groups))

    async def close(self) -> None:
        """Nothing to close: SDK clients end with their last call."""

    async def offerings(self, workload: Workload) -> Sequence[Offering]:
        await self._look()
        return self._offerings(workload)

    async def observe(self, workloads: Iterable[Workload], now: float) -> PoolView:
        wanted = {workload.name: workload for workload in workloads}
        await self._look()
        offset = self._offset(now)
        groups = [group for group in self._groups.values() if group.workload in wanted]
        return PoolView(
            pool=self.pool.name,
            at=now,
            agents=tuple(agent for group in groups for agent in self._agents(group, wanted[group.workload], offset)),
            offerings={name: tuple(self._offerings(workload)) for name, workload in wanted.items()},
            failures=tuple(
                LaunchFailure(
                    scope=self._offering(group).scope,
                    shape="" if failure.kind == "quota" else group.shape,
                    kind=failure.kind,
                    at=failure.at + offset,
                    reason=failure.reason,
                    workload=group.workload,
                )
                for group in groups
                for failure in group.failures
            ),
        )

    async def scale(self, workload: Workload, offering: Offering, size: int, fence: Fence) -> None:
        await self._look()
        group = self._group(workload, offering.key)
        self._refuse_late(group, fence)
        leaving = sum(each.draining_since is not None or each.life == "leaving" for each in group.instances)
        asked = size + leaving
        if asked <= group.size:
            return
        if asked > group.most:
            raise Quota(
                f"{group.name} may have {group.most} machines and {asked} are wanted",
                scope=offering.scope,
                next_step=f"raise the greatest size of {group.name}, or max_agents of the pool",
            )
        try:
            if group.name not in self._prepared:
                await self._call(partial(self._api.prepare, group))
                self._prepared.add(group.name)
            await self._call(partial(self._api.resize, group, asked, fence.epoch))
        except Capacity as error:
            raise Capacity(error.message, scope=offering.scope, shape=offering.shape) from error
        except Quota as error:
            raise Quota(error.message, scope=offering.scope, next_step=error.next_step) from error

    async def drain(self, workload: Workload, ids: Sequence[str], fence: Fence) -> None:
        await self._look()
        for group, known in self._by_group(workload, ids):
            self._refuse_late(group, fence)
            fresh = [each.id for each in known if each.draining_since is None]
            if fresh:
                await self._call(partial(self._api.mark_draining, group, fresh, self._wall()))

    async def remove(self, workload: Workload, ids: Sequence[str], fence: Fence, *, grace: float) -> Sequence[str]:
        await self._look()
        gone = [each for each in ids if not any(each in self._names(group) for group in self._groups.values())]
        for group in self._of(workload):
            self._refuse_late(group, fence)
            orders = [each for each in self._orders(group) if each in ids]
            if orders:
                await self._call(partial(self._api.withdraw, group, group.size - len(orders), fence.epoch))
                gone += orders
        for group, known in self._by_group(workload, ids):
            idle = [each.id for each in known if self._may_go(each, grace)]
            if idle:
                gone += await self._call(partial(self._api.delete, group, idle, fence.epoch))
        return gone

    # --- what the cloud said last ---

    async def _look(self) -> None:
        self._groups = {group.name: group for group in await self._call(self._api.groups)}
        now = self._wall()
        open_orders = [name for group in self._groups.values() for name in self._orders(group)]
        self._ordered_at = {name: self._ordered_at.get(name, now) for name in open_orders}

    async def _call(self, function: Callable[[], T], *, timeout: float = CALL_TIMEOUT) -> T:
        try:
            return await asyncio.wait_for(asyncio.to_thread(function), timeout)
        except TimeoutError as error:
            raise Temporary(f"{self.pool.name} did not answer within {timeout:g} s", after=5.0) from error

    def _offset(self, now: float) -> float:
        """From the cloud's times of day to the loop's clock. Kept while it holds to a second, so that the same failure
        keeps its time from look to look."""
        offset = now - self._wall()
        if self._last_offset is None or abs(offset - self._last_offset) > 1.0:
            self._last_offset = offset
        return self._last_offset

    def _of(self, workload: Workload) -> list[Group]:
        return [group for group in self._groups.values() if group.workload == workload.name]

    def _group(self, workload: Workload, key: str) -> Group:
        for group in self._of(workload):
            if self._offering(group).key == key:
                return group
        raise Permanent(
            f"no group of {self.pool.name} offers {key} to {workload.name}",
            next_step=f"covey fleet check {self.pool.name}",
        )

    def _by_group(self, workload: Workload, ids: Sequence[str]) -> Iterable[tuple[Group, list[Instance]]]:
        for group in self._of(workload):
            known = [each for each in group.instances if each.id in ids and each.life != "leaving"]
            if known:
                yield group, known

    def _refuse_late(self, group: Group, fence: Fence) -> None:
        """The store was asked just before the call; this catches a call that was on its way meanwhile."""
        if group.epoch > fence.epoch:
            raise Permanent(
                f"{group.name} obeys the leader of epoch {group.epoch}; this order is of epoch {fence.epoch}",
                next_step="nothing: another controller leads",
            )

    def _may_go(self, instance: Instance, grace: float) -> bool:
        if instance.life in ("pending", "unhealthy") or self._busy(instance.id) is False:
            return True
        return instance.draining_since is not None and self._wall() - instance.draining_since >= grace

    # --- in the loop's words ---

    def _orders(self, group: Group) -> list[str]:
        """Names for what was ordered and is not there yet."""
        there = sum(each.life != "leaving" for each in group.instances)
        return [f"{group.name}{_ORDER_MARK}{n}" for n in range(1, min(group.size - there, _MOST_ORDERS) + 1)]

    def _names(self, group: Group) -> set[str]:
        return {each.id for each in group.instances if each.life != "leaving"} | set(self._orders(group))

    def _agents(self, group: Group, workload: Workload, offset: float) -> Iterable[Agent]:
        key = self._offering(group).key
        for each in group.instances:
            if each.life == "leaving":
                continue
            state: AgentState = "draining" if each.draining_since is not None else _STATES[each.life]
            yield Agent(
                id=each.id,
                workload=group.workload,
                pool=self.pool.name,
                offering=key,
                state=state,
                started_at=each.launched_at + offset,
                version=each.version or workload.version,
                unplaced=each.unplaced,
                leaving_at=None if each.notice_at is None else each.notice_at + offset,
                endpoint=f"{each.address}:{workload.port}" if each.address and workload.port else "",
            )
        for name in self._orders(group):
            yield Agent(
                id=name,
                workload=group.workload,
                pool=self.pool.name,
                offering=key,
                state="starting",
                started_at=self._ordered_at[name] + offset,
                busy=False,
                version=workload.version,
                unplaced=True,
            )

    def _offerings(self, workload: Workload) -> list[Offering]:
        return [self._offering(group) for group in self._of(workload)]

    def _offering(self, group: Group) -> Offering:
        pool = self.pool
        region = pool.labels.get("region") or str(pool.settings.get("region") or group.zone.rpartition("-")[0])
        price: float | None = pool.price
        priced_at: float | None = None
        if price is None:
            quoted = self._quote(pool.cloud, region, group.shape, group.spot)
            if quoted is not None:
                price, priced_at = quoted
        return Offering(
            pool=pool.name,
            shape=group.shape,
            spot=group.spot,
            zone=group.zone,
            cloud=pool.cloud,
            region=region,
            jurisdiction=pool.labels.get("jurisdiction", ""),
            price=price,
            priced_at=priced_at,
            room=max(0, group.most - group.size),
            speed=pool.speeds.get(group.shape, 1.0),
            arch=group.arch,
            gpu=group.gpu,
            special=group.special,
        )


_STATES: dict[str, AgentState] = {"pending": "starting", "running": "ready", "unhealthy": "unready"}
