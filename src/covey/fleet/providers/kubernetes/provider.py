"""The eight verbs for one namespace of one cluster.

**Removal.** A ReplicaSet that is lowered chooses its victims itself, and it takes pods that still start before those
that we named. So a pod that goes is named to the server: it is evicted, which respects disruption budgets, and only
then is its Deployment lowered; by that time the ReplicaSet has replaced it, and what it takes away is that newest pod,
which has no node yet. The names are noted on the Deployment before the first eviction: whoever repeats the order after
a crash knows for which pods the Deployment is still to be lowered (docs/adr/0028).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from covey.fleet.errors import Denied, Permanent, ProviderError, Quota, Temporary
from covey.fleet.model import Offering, PoolView
from covey.fleet.providers.base import Fence, PoolFacts, Right
from covey.fleet.providers.kubernetes import look as looks
from covey.fleet.providers.kubernetes import names, nodes, rights, template
from covey.fleet.providers.kubernetes.api import ALL, Api, Conflict, Gone, Refused, within
from covey.fleet.providers.kubernetes.look import Look, Times
from covey.fleet.providers.kubernetes.objects import Autoscaler, Budget, Deployment, Node, Pod, PodMetrics
from covey.fleet.providers.kubernetes.objects import Quota as NamespaceQuota
from covey.fleet.providers.kubernetes.settings import Settings
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Pool, Workload

__all__ = ["Kubernetes"]

T = TypeVar("T")

CALL_SECONDS: Final = 25.0
"""For a verb; `providers.base` promises 30."""
HEALTH_SECONDS: Final = 1.0
REPLACED_SECONDS: Final = 3.0
"""How long we wait for a ReplicaSet to have seen that its pod goes. It takes milliseconds; a quota may forbid the new
pod, and then there is nothing to see."""
_SELDOM: Final = 20.0
"""Times that a listing of the whole cluster took, before the next one."""
_AGAIN: Final = 0.05
_TRIES: Final = 8
_NEVER_FIRST: Final = str(-(2**31) + 1)


class Kubernetes:
    """One namespace of one cluster."""

    def __init__(self, pool: Pool, settings: Settings, api: Api, surroundings: Surroundings) -> None:
        self.pool = pool
        self._settings = settings
        self._api = api
        self._around = surroundings
        self._others: list[Pod] = []
        self._foreign_until = 0.0
        """Until when `_others` is believed."""
        self._tokens: dict[str, str] = {}
        """By workload: the token of reports as it was last written into the cluster."""

    async def close(self) -> None:
        await self._api.close()

    # --- looking ---------------------------------------------------------------------------------------------------

    async def describe(self) -> PoolFacts:
        return await within(CALL_SECONDS, self.pool.name, self._describe())

    async def _describe(self) -> PoolFacts:
        version = await self._api.get("/version", dict[str, Any])
        group = await self._api.budgets_group()
        found, can = {}, ["named-removal", "disruption-budgets", "limits"]
        with suppress(Denied):
            listed = await self._api.list(self._api.path("v1", "nodes", namespace=""), Node)
            found = {key: value for key, value in (("region", nodes.region(listed)),) if value}
            can += ["spot"] if any(nodes.shape_of(each).spot for each in listed) else []
        if group == "policy/v1" and _minor(version) >= 22:
            can.append("deletion-cost")
        return PoolFacts(
            provider="kubernetes", version=str(version.get("gitVersion", ""))[:40], labels=found, can=tuple(can)
        )

    async def health(self) -> str:
        try:
            await within(HEALTH_SECONDS, self.pool.name, self._api.get("/readyz", Any))
        except Permanent:
            return ""  # it answers `ok`, which is no JSON
        except ProviderError as error:
            return str(error)
        return ""

    async def check(self) -> Sequence[Right]:
        return await within(CALL_SECONDS, self.pool.name, rights.check(self._api, report=bool(self._settings.report)))

    async def offerings(self, workload: Workload) -> Sequence[Offering]:
        look = await within(CALL_SECONDS, self.pool.name, self._look())
        return self._offerings(look, workload)

    async def observe(self, workloads: Iterable[Workload], now: float) -> PoolView:
        look = await within(CALL_SECONDS, self.pool.name, self._look())
        times = Times(now - self._around.wall())
        wanted = tuple(workloads)
        offers = {each.name: self._offerings(look, each) for each in wanted}
        scopes = {offer.key: (offer.scope, offer.shape) for each in offers.values() for offer in each}
        budgets = {each.name: looks.removable(look, each) for each in wanted}
        owners = {each.name: looks.managed_elsewhere(look, each) for each in wanted}
        return PoolView(
            pool=self.pool.name,
            at=now,
            problem="; ".join(look.problems),
            agents=tuple(
                agent
                for each in wanted
                for agent in looks.agents(look, each, self.pool.name, now=now, times=times, reports=self._reports)
            ),
            offerings={name: tuple(each) for name, each in offers.items()},
            removable={name: count for name, count in budgets.items() if count is not None},
            failures=tuple(
                failure
                for each in wanted
                for failure in looks.failures(
                    look, each, scopes, now=now, times=times, autoscaled=self._settings.autoscaled
                )
            ),
            managed_elsewhere={name: owner for name, owner in owners.items() if owner},
        )

    async def _foreign(self) -> list[Pod]:
        """Everybody's pods but ours, listed as often as that takes a twentieth of our time: a cluster may have
        thousands."""
        clock = asyncio.get_running_loop().time
        began = clock()
        if began >= self._foreign_until:
            running = "status.phase!=Succeeded,status.phase!=Failed"
            every = await self._api.list(self._api.path("v1", "pods", namespace=ALL), Pod, fieldSelector=running)
            mine = (names.label_value(self.pool.name), self._api.namespace)
            self._others = [
                each for each in every if (each.metadata.labels.get(names.POOL), each.metadata.namespace) != mine
            ]
            self._foreign_until = clock() + _SELDOM * (clock() - began)
        return self._others

    def _reports(self, agent: str) -> bool:
        return self._around.busy(agent) is not None

    async def _look(self) -> Look:
        """Everything at once. What only improves a decision may be denied; what the decision is about may not."""
        api, ours = self._api, names.selector(self.pool.name)
        problems: list[str] = []

        async def maybe(what: str, call: Awaitable[list[T]]) -> list[T] | None:
            try:
                return await call
            except (Denied, Gone):
                problems.append(f"{what} may not be listed")
                return None

        async def budgets() -> list[Budget]:
            return await api.list(api.path(await api.budgets_group(), "poddisruptionbudgets"), Budget)

        async def usage() -> dict[str, float]:
            """A cluster without a metrics server is no problem, nor is one whose metrics server is away."""
            with suppress(ProviderError, ValueError):
                found = await api.list(api.path("metrics.k8s.io/v1beta1", "pods"), PodMetrics, labelSelector=ours)
                return {each.metadata.name: each.cpus for each in found}
            return {}

        ((pods, deployments), used), budget, scalers, quotas, (machines, others) = await asyncio.gather(
            asyncio.gather(self._ours(ours), usage()),
            maybe("disruption budgets", budgets()),
            maybe("autoscalers", api.list(api.path("autoscaling/v1", "horizontalpodautoscalers"), Autoscaler)),
            maybe("quotas", api.list(api.path("v1", "resourcequotas"), NamespaceQuota)),
            asyncio.gather(
                maybe("nodes", api.list(api.path("v1", "nodes", namespace=""), Node)),
                maybe("pods of others", self._foreign()),
            ),
        )
        return Look(
            pods=pods,
            deployments=deployments,
            budgets=budget or [],
            autoscalers=scalers or [],
            quotas=quotas or [],
            nodes=machines or [],
            others=None if others is None else [*others, *pods],
            usage=used,
            problems=tuple(sorted(problems)),
        )

    def _offerings(self, look: Look, workload: Workload) -> list[Offering]:
        free = nodes.Free(look.nodes, look.others or ())
        limit = nodes.quota_room(look.quotas, workload.resources)
        area = self.pool.labels.get("region", nodes.region(look.nodes))
        found = []
        for shape, machines in nodes.shapes(look.nodes, self._settings.node_selector).items():
            room = None
            if look.others is not None and not self._settings.autoscaled:
                waiting = self._waiting(look, shape)
                room = max(0, free.room(machines, workload.resources) - waiting)
            rooms = [each for each in (room, limit) if each is not None]
            found.append(
                nodes.offer(
                    shape,
                    machines,
                    self.pool,
                    workload,
                    room=min(rooms, default=None),
                    region=area,
                    quoted=self._around.quote(self.pool.cloud, area, shape.instance, shape.spot),
                )
            )
        return found

    def _waiting(self, look: Look, shape: nodes.Shape) -> int:
        """Pods that will take room of this shape and have no node yet."""
        key = shape.key(self.pool.name)
        return sum(
            each.metadata.annotations.get(names.OFFERING) == key and not looks.is_placed(each) for each in look.pods
        )

    # --- raising ---------------------------------------------------------------------------------------------------

    async def scale(self, workload: Workload, offering: Offering, size: int, fence: Fence) -> None:
        await self._again(lambda: self._scale(workload, offering, size, fence))

    async def _scale(self, workload: Workload, offering: Offering, size: int, fence: Fence) -> None:
        shape = nodes.Shape(offering.shape, offering.spot, offering.zone)
        made = template.deployment(workload, self.pool, self._settings, shape, replicas=0, fence=fence)
        groups, pods = await self._of(workload)
        here = [each for each in groups if each.metadata.annotations.get(names.OFFERING) == offering.key]
        for each in here:
            self._refuse_late(each, fence)
        present = sum(self._size(each, pods) for each in here)
        missing = size - present
        if missing <= 0:
            return
        await self._check_quota(workload, offering, missing)
        await self._give_token(workload.name)
        target = next((each for each in here if each.metadata.name == made["metadata"]["name"]), None)
        if target is None:
            made["spec"]["replicas"] = missing
            await self._api.create(self._api.path("apps/v1", "deployments"), made, Deployment)
        else:
            await self._set(target, fence, replicas=target.spec.replicas + missing)

    def _size(self, group: Deployment, pods: Sequence[Pod]) -> int:
        """Agents of a Deployment that stay: what it is set to, without those that drain and those that were evicted and
        are still counted."""
        here = looks.members(group, pods)
        leaving = set(looks.leaving(group)) - {each.metadata.name for each in here}
        return group.spec.replicas - sum(looks.is_draining(each) for each in here) - len(leaving)

    async def _check_quota(self, workload: Workload, offering: Offering, missing: int) -> None:
        """A quota that is full refuses before anything is changed, not after."""
        quotas: list[NamespaceQuota] = []
        with suppress(Denied):
            quotas = await self._api.list(self._api.path("v1", "resourcequotas"), NamespaceQuota)
        room = nodes.quota_room(quotas, workload.resources)
        if room is not None and room < missing:
            raise Quota(
                f"{self.pool.name}: the quota of namespace {self._api.namespace} leaves room for {room} more agents of "
                f"{workload.name}, and {missing} are wanted",
                scope=offering.scope,
                next_step=f"kubectl -n {self._api.namespace} describe resourcequota",
            )

    async def _give_token(self, workload: str) -> None:
        """The token of the workload's reports, where its pods mount it."""
        path = self._around.token_file(self.pool.name, workload) if self._settings.report else ""
        if not path:
            return
        token = await asyncio.to_thread(_read, path)
        if token == self._tokens.get(workload):
            return
        key = template.token_key(self.pool.name, workload)
        about = {"name": template.TOKEN_SECRET, "labels": {names.MANAGED_BY: "covey"}}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": {key: token}}
        try:
            await self._api.create(self._api.path("v1", "secrets"), secret, Any)
        except Conflict:
            await self._api.merge(self._api.path("v1", "secrets", template.TOKEN_SECRET), secret, Any)
        self._tokens[workload] = token

    # --- lowering --------------------------------------------------------------------------------------------------

    async def drain(self, workload: Workload, ids: Sequence[str], fence: Fence) -> None:
        await self._again(lambda: self._drain(workload, ids, fence))

    async def _drain(self, workload: Workload, ids: Sequence[str], fence: Fence) -> None:
        groups, pods = await self._of(workload)
        for each in groups:
            self._refuse_late(each, fence)
        for pod in pods:
            if pod.metadata.name in ids and not looks.is_draining(pod):
                with suppress(Gone):
                    await self._mark_draining(pod, fence)

    async def _mark_draining(self, pod: Pod, fence: Fence) -> None:
        """It leaves the Services that select `SERVING`; from 1.22 on, whoever else lowers the Deployment takes it
        first."""
        about = {
            names.DRAINING: f"{self._around.wall():.3f}",
            names.DELETION_COST: _NEVER_FIRST,
            **template.marks(fence),
        }
        body = {"metadata": {"uid": pod.metadata.uid, "labels": {names.SERVING: "false"}, "annotations": about}}
        await self._api.merge(self._api.path("v1", "pods", pod.metadata.name), body, Pod)

    async def remove(self, workload: Workload, ids: Sequence[str], fence: Fence, *, grace: float) -> Sequence[str]:
        gone = await self._again(lambda: self._remove(workload, ids, fence, grace=grace))
        await self._again(lambda: self._sweep(workload))
        return gone

    async def _remove(self, workload: Workload, ids: Sequence[str], fence: Fence, *, grace: float) -> list[str]:
        groups, pods = await self._of(workload)
        known = {each.metadata.name for each in pods if each.metadata.deletion_timestamp is None}
        gone = [each for each in ids if each not in known and not looks.group_of_order(each)]
        for group in groups:
            self._refuse_late(group, fence)
            here = looks.members(group, pods)
            gone += await self._withdraw(
                group, here, [each for each in ids if each in looks.orders(group, here)], fence
            )
            going = [each for each in here if each.metadata.name in ids and self._may_go(each, grace)]
            late = [each for each in looks.leaving(group) if each in gone]
            if going or late:
                gone += await self._end(group, going, late, fence, grace=grace)
        gone += [
            each for each in ids if looks.group_of_order(each) and each not in gone and each not in _all(groups, pods)
        ]
        return gone

    def _may_go(self, pod: Pod, grace: float) -> bool:
        """Looked at again, just before: idle, or its grace is over."""
        if not looks.is_placed(pod) or self._around.busy(pod.metadata.name) is False:
            return True
        since = looks.draining_since(pod)
        return since is not None and self._around.wall() - since >= grace

    async def _withdraw(self, group: Deployment, here: Sequence[Pod], orders: Sequence[str], fence: Fence) -> list[str]:
        """Orders without pods: lowering ends none, as long as it stays at the pods that are there."""
        if orders:
            await self._set(group, fence, replicas=max(len(here), group.spec.replicas - len(orders)))
        return list(orders)

    async def _end(
        self, group: Deployment, going: Sequence[Pod], late: Sequence[str], fence: Fence, *, grace: float
    ) -> list[str]:
        """Evicts `going` and lowers their Deployment; `late` were evicted by a call that did not come so far."""
        noted = sorted({*late, *(each.metadata.name for each in going)})
        group = await self._set(group, fence, leaving=noted)
        went = [each.metadata.name for each in going if await self._evict(each, grace)]
        count = len(went)
        if count:
            await self._wait_replaced(group, went)
        if late:
            count += min(len(late), await self._unready(group) - count)
        await self._lower(group, max(0, count), fence)
        return went

    async def _evict(self, pod: Pod, grace: float) -> bool:
        """False: a disruption budget holds it back now."""
        group = await self._api.budgets_group()
        since = looks.draining_since(pod)
        left = grace if since is None else max(0.0, since + grace - self._around.wall())
        body = {
            "apiVersion": group,
            "kind": "Eviction",
            "metadata": {"name": pod.metadata.name, "namespace": self._api.namespace},
            "deleteOptions": {
                # Idle as it was: work that comes at the last moment still has what is left of its grace.
                "gracePeriodSeconds": max(1, math.ceil(left)),
                "preconditions": {"uid": pod.metadata.uid},
            },
        }
        try:
            await self._api.create(self._api.path("v1", "pods", pod.metadata.name, "eviction"), body, Any)
        except (Gone, Conflict):  # gone by itself; a conflict: another pod bears its name now
            return False
        except Refused:
            return False
        return True

    async def _wait_replaced(self, group: Deployment, went: Sequence[str]) -> None:
        """Until the ReplicaSet has made up for what goes: only then are those that it may take away there."""
        path = self._api.path("v1", "pods")
        for _ in range(math.ceil(REPLACED_SECONDS / _AGAIN)):
            pods = await self._api.list(path, Pod, labelSelector=f"{names.CHOSEN}={group.metadata.name}")
            if (
                len([each for each in looks.members(group, pods) if each.metadata.name not in went])
                >= group.spec.replicas
            ):
                return
            await asyncio.sleep(_AGAIN)

    async def _unready(self, group: Deployment) -> int:
        path = self._api.path("v1", "pods")
        pods = await self._api.list(path, Pod, labelSelector=f"{names.CHOSEN}={group.metadata.name}")
        return sum(not looks.is_up(each) and not looks.is_draining(each) for each in looks.members(group, pods))

    async def _lower(self, group: Deployment, count: int, fence: Fence) -> None:
        """By `count`, whoever else changes it meanwhile. Nothing else lowers, so nothing else can make it too low."""
        for _ in range(_TRIES):
            with suppress(Conflict):
                await self._set(group, fence, replicas=max(0, group.spec.replicas - count), leaving=[])
                return
            path = self._api.path("apps/v1", "deployments", group.metadata.name)
            group = await self._api.get(path, Deployment)
            self._refuse_late(group, fence)
        raise Temporary(f"{self.pool.name}: {group.metadata.name} changes all the time", after=1.0)

    async def _sweep(self, workload: Workload) -> None:
        """Deployments of versions that are no more, once they are empty. Raises Conflict when somebody was faster."""
        _, groups = await self._ours(names.selector(self.pool.name, workload.name))
        for each in groups:
            if each.metadata.annotations.get(names.VERSION) != workload.version and each.spec.replicas == 0:
                unchanged = {"resourceVersion": each.metadata.resource_version}
                body = {"propagationPolicy": "Background", "preconditions": unchanged}
                with suppress(Gone):
                    await self._api.delete(self._api.path("apps/v1", "deployments", each.metadata.name), body)

    # --- both ------------------------------------------------------------------------------------------------------

    async def _of(self, workload: Workload) -> tuple[list[Deployment], list[Pod]]:
        pods, groups = await self._ours(names.selector(self.pool.name, workload.name))
        return groups, pods

    async def _ours(self, selector: str) -> tuple[list[Pod], list[Deployment]]:
        api = self._api
        return await asyncio.gather(
            api.list(api.path("v1", "pods"), Pod, labelSelector=selector),
            api.list(api.path("apps/v1", "deployments"), Deployment, labelSelector=selector),
        )

    async def _set(
        self, group: Deployment, fence: Fence, *, replicas: int | None = None, leaving: Sequence[str] | None = None
    ) -> Deployment:
        """Changes a Deployment if it still is as we saw it; raises Conflict otherwise."""
        about: dict[str, str | None] = {**template.marks(fence)}
        if leaving is not None:
            about[names.LEAVING] = ",".join(leaving) or None
        body: dict[str, Any] = {
            "metadata": {"resourceVersion": group.metadata.resource_version, "annotations": about},
            **({} if replicas is None else {"spec": {"replicas": replicas}}),
        }
        return await self._api.merge(self._api.path("apps/v1", "deployments", group.metadata.name), body, Deployment)

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        """Every verb is idempotent: it is decided anew when somebody was faster, such as a controller that writes a
        status."""

        async def tries() -> T:
            for _ in range(_TRIES - 1):
                with suppress(Conflict):
                    return await call()
                await asyncio.sleep(_AGAIN)
            return await call()

        return await within(CALL_SECONDS, self.pool.name, tries())

    def _refuse_late(self, group: Deployment, fence: Fence) -> None:
        """The store was asked just before the call; this catches a call that was on its way meanwhile."""
        epoch = group.metadata.annotations.get(names.EPOCH, "")
        if epoch.isascii() and epoch.isdigit() and int(epoch[:18]) > fence.epoch:
            raise Permanent(
                f"{self.pool.name}: {group.metadata.name} obeys the leader of epoch {epoch}; this order is of epoch "
                f"{fence.epoch}",
                next_step="nothing: another controller leads",
            )


def _all(groups: Iterable[Deployment], pods: Sequence[Pod]) -> set[str]:
    return {name for group in groups for name in looks.orders(group, looks.members(group, pods))}


def _minor(version: dict[str, Any]) -> int:
    digits = "".join(each for each in str(version.get("minor", "")) if each.isdigit())
    return int(digits[:4] or 0)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Permanent(f"the token of reports cannot be read: {error}") from error
