"""The provider against a real API server, controller manager and scheduler, with no more rights than `rbac.yaml` gives.

Each test has a namespace of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Namespace, Pod, ResourceQuota, Secret
from lightkube.resources.rbac_authorization_v1 import ClusterRoleBinding

from covey.fleet.errors import Denied, Permanent, Quota, Temporary
from covey.fleet.model import Offering, PoolView
from covey.fleet.providers.base import Fence
from covey.fleet.providers.kubernetes import names
from covey.fleet.providers.kubernetes.provider import Kubernetes
from covey.fleet.providers.registry import Surroundings, make_provider
from covey.fleet.spec.types import Pool, Probe, Resources, Workload
from tests.fleet.kubernetes.grant import grant
from tests.fleet.kubernetes.plane import Plane

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

T = TypeVar("T")

FENCE = Fence(plan="3-1", epoch=3)
AGENT = str(Path(__file__).with_name("agent.py"))
Budgets = create_namespaced_resource("policy", "v1beta1", "PodDisruptionBudget", "poddisruptionbudgets")


class Bed:
    """A namespace of the plane, the provider for it, and what a person with all rights sees there."""

    def __init__(self, plane: Plane, namespace: str, tmp_path: Path) -> None:
        self.plane = plane
        self.namespace = namespace
        self.admin = Client(KubeConfig.from_file(plane.admin).get(), namespace=namespace, trust_env=False)
        self.busy: dict[str, bool] = {}
        self.wall = 0.0
        """Added to the time of day."""
        self.work = Workload(
            name="fraud", command=(sys.executable, "-P", AGENT), port=8080, probe=Probe(http="/healthz"), grace=5,
            resources=Resources(cpu=0.5, memory=1 << 28), version="v1",
        )  # fmt: skip
        around = Surroundings(home=tmp_path, busy=self.busy.get, wall=lambda: time.time() + self.wall)
        settings = {"kubeconfig": str(plane.kubeconfig("covey")), "namespace": namespace}
        made = make_provider(Pool(name="eks", provider="kubernetes", settings=settings, price=0.1), around)
        assert isinstance(made, Kubernetes)
        self.provider = made

    async def view(self) -> PoolView:
        return await self.provider.observe([self.work], time.monotonic())

    async def offering(self) -> Offering:
        async def roomy() -> Offering | None:
            offers = (await self.view()).offerings["fraud"]
            return offers[0] if offers and offers[0].room else None

        return await until(roomy)

    async def agents(self, count: int, state: str = "ready") -> list[str]:
        """The ids, once there are so many, all in that state."""

        async def settled() -> list[str] | None:
            agents = (await self.view()).agents
            return [each.id for each in agents] if [each.state for each in agents] == [state] * count else None

        return await until(settled)

    async def scaled(self, count: int) -> list[str]:
        await self.provider.scale(self.work, await self.offering(), count, FENCE)
        return await self.agents(count)

    def replicas(self) -> list[int]:
        return [each.spec.replicas for each in self.admin.list(Deployment)]

    def ends(self) -> set[str]:
        """Pods whose process was told to end."""
        lines = (self.plane.directory / "pods" / "events.jsonl").read_text().splitlines()
        return {each["pod"] for each in map(json.loads, lines) if each["event"] == "term"}


async def until(call: Callable[[], Awaitable[T | None]], seconds: float = 30.0) -> T:
    deadline = time.monotonic() + seconds
    while True:
        found = await call()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.fixture
def run(plane: Plane, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., None]:
    def call(story: Callable[[Bed], Coroutine[Any, Any, None]], *, rights: bool = True) -> None:
        async def within() -> None:
            async with bed(plane, request.node.name, tmp_path, rights=rights) as one:
                await story(one)

        asyncio.run(within())

    return call


@asynccontextmanager
async def bed(plane: Plane, test: str, tmp_path: Path, *, rights: bool) -> AsyncIterator[Bed]:
    namespace = test.replace("_", "-").removeprefix("test-kubernetes-")[:50].strip("-")
    one = Bed(plane, namespace, tmp_path)
    with one.admin as admin:
        admin.create(Namespace(metadata=ObjectMeta(name=namespace)))
        if rights:
            grant(admin, namespace)
        try:
            yield one
        finally:
            await one.provider.close()
            admin.delete(Namespace, namespace)  # the room is everybody's
            if rights:
                admin.delete(ClusterRoleBinding, f"covey-fleet-{namespace}")
            await until(lambda: none_left(admin, namespace))


async def none_left(admin: Client, namespace: str) -> bool | None:
    return not list(admin.list(Pod, namespace=namespace)) or None


def test_kubernetes_agents_come_serve_and_go_by_name(run: Callable[..., None]) -> None:
    async def story(bed: Bed) -> None:
        facts = await bed.provider.describe()
        assert facts.version.startswith("v1.20.")
        assert facts.labels == {"region": "us-east-1"}
        assert await bed.provider.health() == ""
        assert all(each.granted for each in await bed.provider.check())
        ids = await bed.scaled(4)
        offering = await bed.offering()
        assert (offering.key, offering.room) == ("eks/m7.large/on-demand", 12)
        await bed.provider.scale(bed.work, offering, 2, FENCE)  # never lowers
        assert bed.replicas() == [4]
        victim = ids[2]
        await bed.provider.drain(bed.work, [victim, "unknown"], FENCE)
        states = {each.id: each.state for each in (await bed.view()).agents}
        assert states == {each: "draining" if each == victim else "ready" for each in ids}
        assert bed.admin.get(Pod, victim).metadata.labels[names.SERVING] == "false"
        bed.busy[victim] = False
        assert [victim] == list(await bed.provider.remove(bed.work, [victim], FENCE, grace=30))
        assert sorted(each for each in ids if each != victim) == sorted(await bed.agents(3))
        assert bed.replicas() == [3]
        assert bed.ends() & set(ids) == {victim}

    run(story)


def test_kubernetes_a_busy_agent_is_left_until_its_grace_is_over(run: Callable[..., None]) -> None:
    async def story(bed: Bed) -> None:
        ids = await bed.scaled(2)
        bed.busy |= dict.fromkeys(ids, True)
        await bed.provider.drain(bed.work, ids[:1], FENCE)
        assert list(await bed.provider.remove(bed.work, ids, FENCE, grace=30)) == []
        assert sorted(ids) == sorted(each.id for each in (await bed.view()).agents)
        assert bed.replicas() == [2]
        bed.wall = 31
        assert ids[:1] == list(await bed.provider.remove(bed.work, ids, FENCE, grace=30))
        assert ids[1:] == await bed.agents(1)

    run(story)


def test_kubernetes_agents_that_start_do_not_shield_those_that_go(run: Callable[..., None]) -> None:
    """A ReplicaSet that is lowered ends pods that start first. We name a ready one while others wait for room."""

    async def story(bed: Bed) -> None:
        ids = await bed.scaled(16)
        await bed.provider.scale(bed.work, await offering_without_room(bed), 19, FENCE)
        waiting = await until(lambda: unscheduled(bed, 3))
        bed.busy[ids[5]] = False
        assert ids[5:6] == list(await bed.provider.remove(bed.work, ids[5:6], FENCE, grace=30))
        assert bed.replicas() == [18]
        await until(lambda: unscheduled(bed, 2))  # one of them took its place
        assert bed.ends() & set(ids) == {ids[5]}
        assert list(await bed.provider.remove(bed.work, waiting, FENCE, grace=30)) != []
        assert set(ids) - {ids[5]} <= {each.id for each in (await bed.view()).agents}

    run(story)


async def offering_without_room(bed: Bed) -> Offering:
    return (await bed.view()).offerings["fraud"][0]


async def unscheduled(bed: Bed, count: int) -> list[str] | None:
    view = await bed.view()
    ids = [each.id for each in view.agents if each.state == "starting"]
    known = [each for each in view.failures if each.reason.startswith("FailedScheduling")]
    return ids if len(ids) == len(known) == count else None


def test_kubernetes_failed_scheduling_is_a_capacity_failure_and_is_withdrawn(run: Callable[..., None]) -> None:
    async def story(bed: Bed) -> None:
        await bed.scaled(15)
        await bed.provider.scale(bed.work, await bed.offering(), 18, FENCE)
        waiting = await until(lambda: unscheduled(bed, 2))
        view = await bed.view()
        assert {(each.scope, each.shape, each.kind) for each in view.failures} == {
            ("eks/on-demand", "m7.large", "capacity")
        }
        assert view.offerings["fraud"][0].room == 0
        assert sorted(waiting) == sorted(await bed.provider.remove(bed.work, waiting, FENCE, grace=30))
        await bed.agents(16)
        assert bed.replicas() == [16]
        assert (await bed.view()).failures == ()

    run(story)


def test_kubernetes_quota_is_respected(run: Callable[..., None]) -> None:
    async def story(bed: Bed) -> None:
        quota = {"spec": {"hard": {"requests.cpu": "1500m"}}, "metadata": {"name": "small"}}
        bed.admin.create(ResourceQuota.from_dict(quota))
        await until(lambda: quota_known(bed, 3))
        with pytest.raises(Quota) as caught:
            await bed.provider.scale(bed.work, await bed.offering(), 4, FENCE)
        assert caught.value.scope == "eks/on-demand"
        assert bed.replicas() == []  # nothing was half done
        await bed.scaled(3)
        # Somebody makes it smaller behind our back: what is ordered then and never made is told, and withdrawn by name.
        (group,) = bed.admin.list(Deployment)
        bed.admin.patch(Deployment.Scale, group.metadata.name, {"spec": {"replicas": 5}})
        view = await until(lambda: quota_failed(bed))
        orders = [each.id for each in view.agents if "#" in each.id]
        assert len(orders) == 2
        assert {(each.kind, each.shape) for each in view.failures} == {("quota", "")}
        assert orders == list(await bed.provider.remove(bed.work, orders, FENCE, grace=30))
        await bed.agents(3)
        assert bed.replicas() == [3]

    run(story)


async def quota_known(bed: Bed, room: int) -> bool:
    return (await bed.offering()).room == room


async def quota_failed(bed: Bed) -> PoolView | None:
    view = await bed.view()
    return view if view.failures else None


def test_kubernetes_disruption_budgets_are_respected(run: Callable[..., None]) -> None:
    async def story(bed: Bed) -> None:
        ids = await bed.scaled(3)
        selector = {"matchLabels": {names.WORKLOAD: "fraud"}}
        budget = Budgets(metadata=ObjectMeta(name="two"), spec={"minAvailable": 2, "selector": selector})
        bed.admin.create(budget)
        await until(lambda: removable(bed, 1))
        bed.busy |= dict.fromkeys(ids, False)
        gone = list(await bed.provider.remove(bed.work, ids, FENCE, grace=30))
        assert len(gone) == 1
        assert bed.replicas() == [2]
        left = await bed.agents(2)
        assert set(left) == set(ids) - set(gone)
        await until(lambda: removable(bed, 0))
        assert list(await bed.provider.remove(bed.work, left, FENCE, grace=30)) == []
        assert sorted(left) == sorted(await bed.agents(2))

    run(story)


async def removable(bed: Bed, count: int) -> bool:
    return (await bed.view()).removable.get("fraud") == count


def test_kubernetes_a_late_call_of_a_deposed_leader_changes_nothing(run: Callable[..., None]) -> None:
    async def story(bed: Bed) -> None:
        ids = await bed.scaled(2)
        bed.busy |= dict.fromkeys(ids, False)
        late = Fence(plan="2-9", epoch=2)
        with pytest.raises(Permanent, match="epoch 3"):
            await bed.provider.scale(bed.work, await bed.offering(), 5, late)
        with pytest.raises(Permanent):
            await bed.provider.drain(bed.work, ids, late)
        with pytest.raises(Permanent):
            await bed.provider.remove(bed.work, ids, late, grace=0)
        assert sorted(ids) == sorted(await bed.agents(2))
        assert bed.replicas() == [2]

    run(story)


def test_kubernetes_versions_stand_beside_each_other_and_the_old_is_swept(run: Callable[..., None]) -> None:
    async def story(bed: Bed) -> None:
        old = await bed.scaled(2)
        bed.work = msgspec.structs.replace(bed.work, version="v2", env={"X": "2"})
        await bed.provider.scale(bed.work, await bed.offering(), 3, FENCE)  # surge: one of the new
        every = await bed.agents(3)
        versions = {each.id: each.version for each in (await bed.view()).agents}
        assert sorted(versions.values()) == ["v1", "v1", "v2"]
        bed.busy |= dict.fromkeys(every, False)
        assert sorted(old) == sorted(await bed.provider.remove(bed.work, old, FENCE, grace=30))
        assert [each for each in every if each not in old] == await bed.agents(1)
        assert bed.replicas() == [1]  # the Deployment of v1 is gone

    run(story)


class Crash(Exception):
    """The controller dies here."""


def test_kubernetes_a_removal_that_dies_anywhere_is_completed_by_its_repetition(run: Callable[..., None]) -> None:
    """The n-th request of `remove` is the last, for n = 1, 2, 3...: before it is sent, and after it took effect."""

    async def story(bed: Bed) -> None:
        size, survived = 6, False
        ids = await bed.scaled(size)
        for step in range(60):
            number, after = divmod(step, 2)
            victim, bystanders = ids[0], set(ids[1:])
            bed.busy[victim] = False
            died = await remove_and_die(bed, victim, number + 1, after=bool(after))
            await bed.provider.remove(bed.work, [victim], FENCE, grace=30)
            ids = await until(partial(settled, bed, bystanders))
            if len(ids) == size:  # its place was taken before the repetition came: observed, and removed like any other
                bed.busy |= dict.fromkeys(set(ids) - bystanders, False)
                await bed.provider.remove(bed.work, sorted(set(ids) - bystanders), FENCE, grace=30)
            assert bystanders == set(await bed.agents(size - 1)), f"request {number + 1}"
            assert bed.replicas() == [size - 1]
            assert not bed.ends() & bystanders
            ids = await bed.scaled(size)
            if not died:
                survived = True
                break
        assert survived
        assert step > 8

    run(story)


async def settled(bed: Bed, bystanders: set[str]) -> list[str] | None:
    agents = (await bed.view()).agents
    ids = [each.id for each in agents]
    if any(each.state != "ready" for each in agents) or not bystanders <= set(ids):
        return None
    return ids if [len(ids)] == bed.replicas() else None


async def remove_and_die(bed: Bed, victim: str, number: int, *, after: bool) -> bool:
    """`remove`, of which only so many requests happen; `after`: the last one happens, and its answer is never seen."""
    api = bed.provider._api
    send, count = api._send, 0

    async def counted(*arguments: Any, **options: Any) -> bytes:
        nonlocal count
        count += 1
        if count < number:
            return await send(*arguments, **options)
        if count == number and after:
            await send(*arguments, **options)
        raise Crash

    api._send = counted  # type: ignore[method-assign]
    try:
        await bed.provider.remove(bed.work, [victim], FENCE, grace=30)
    except Crash:
        return True
    finally:
        api._send = send  # type: ignore[method-assign]
    return False


def test_kubernetes_without_rights_every_call_is_denied_and_check_says_which(run: Callable[..., None]) -> None:
    async def story(bed: Bed) -> None:
        with pytest.raises(Denied):
            await bed.view()
        rights = await bed.provider.check()
        assert not any(each.granted for each in rights)
        assert all("rbac.yaml" in each.next_step for each in rights)

    run(story, rights=False)


def test_kubernetes_shipped_rights_are_no_more_than_needed(run: Callable[..., None]) -> None:
    async def story(bed: Bed) -> None:
        config = KubeConfig.from_file(bed.plane.kubeconfig("covey")).get()
        quota = ResourceQuota(metadata=ObjectMeta(name="mine", namespace=bed.namespace))
        with Client(config, namespace=bed.namespace, trust_env=False) as covey:
            for refused in (
                lambda: covey.delete(Pod, "any"),
                lambda: covey.get(Secret, "any"),
                lambda: covey.delete(Namespace, bed.namespace),
                lambda: covey.create(quota),
                lambda: list(covey.list(Deployment, namespace="kube-system")),
            ):
                with pytest.raises(ApiError) as caught:
                    refused()
                assert caught.value.status.code == 403

    run(story)


def test_kubernetes_an_api_server_that_is_killed_is_noticed_and_its_agents_run_on(
    run: Callable[..., None], plane: Plane
) -> None:
    async def story(bed: Bed) -> None:
        ids = await bed.scaled(2)
        before = bed.ends()
        plane.kill("kube-apiserver")
        began = time.monotonic()
        with pytest.raises(Temporary):
            await bed.view()
        assert "not reached" in await bed.provider.health()
        assert time.monotonic() - began < 2.0
        assert bed.ends() == before
        plane.start_api()
        await until(lambda: answers(plane))
        assert sorted(ids) == sorted(await bed.agents(2))
        assert bed.ends() == before

    run(story)


async def answers(plane: Plane) -> bool:
    return await asyncio.to_thread(plane.is_ready)
