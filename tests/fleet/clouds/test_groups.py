"""The same claims for Auto Scaling groups (moto), scale sets and managed instance groups (REST fakes)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from covey.fleet.errors import Capacity, Denied, Permanent, Quota, Temporary
from covey.fleet.model import Agent, PoolView
from covey.fleet.providers.base import Fence
from covey.fleet.providers.groups.pool import GroupPool
from covey.fleet.spec.types import Workload
from tests.fleet.clouds.harness import Aws, Azure, Cloud

FRAUD = Workload(name="fraud", port=8080)
ORDER = Fence(plan="p1", epoch=3)


async def look(provider: GroupPool, now: float = 1000.0) -> PoolView:
    return await provider.observe([FRAUD], now)


async def raised(provider: GroupPool, size: int) -> tuple[Agent, ...]:
    view = await look(provider)
    await provider.scale(FRAUD, view.offerings["fraud"][0], size, ORDER)
    return (await look(provider)).agents


def test_scale_raises_to_an_absolute_size_and_never_lowers(cloud: Cloud) -> None:
    async def scenario() -> None:
        provider = cloud.make()
        assert [agent.state for agent in await raised(provider, 3)] == ["ready"] * 3
        assert len(await raised(provider, 3)) == 3
        assert len(await raised(provider, 1)) == 3

    asyncio.run(scenario())


def test_only_the_named_agents_end_and_the_size_goes_with_them(cloud: Cloud) -> None:
    async def scenario() -> None:
        provider = cloud.make()
        first, second, third = [agent.id for agent in await raised(provider, 3)]
        cloud.busy[second] = False
        assert await provider.remove(FRAUD, [second], ORDER, grace=30.0) == [second]
        assert sorted(agent.id for agent in (await look(provider)).agents) == sorted([first, third])
        assert len(await raised(provider, 2)) == 2, (
            "the size was lowered with the agent: nothing is started in its place"
        )

    asyncio.run(scenario())


def test_a_busy_agent_is_left_until_its_grace_is_over(cloud: Cloud) -> None:
    async def scenario() -> None:
        now = 1_800_000_000.0
        cloud.wall = lambda: now
        provider = cloud.make()
        first, second = [agent.id for agent in await raised(provider, 2)]
        cloud.busy[first] = True
        await provider.drain(FRAUD, [first], ORDER)
        assert {agent.id: agent.state for agent in (await look(provider)).agents} == {
            first: "draining",
            second: "ready",
        }
        now += 29.0
        assert await provider.remove(FRAUD, [first], ORDER, grace=30.0) == []
        now += 2.0
        again = cloud.make()  # a controller that has just started reads the mark
        assert await again.remove(FRAUD, [first], ORDER, grace=30.0) == [first]

    asyncio.run(scenario())


def test_a_draining_agent_does_not_count_for_the_size(cloud: Cloud) -> None:
    async def scenario() -> None:
        provider = cloud.make()
        first, _ = [agent.id for agent in await raised(provider, 2)]
        await provider.drain(FRAUD, [first], ORDER)
        states = [agent.state for agent in await raised(provider, 2)]
        assert sorted(states) == ["draining", "ready", "ready"]

    asyncio.run(scenario())


def test_removing_what_is_gone_is_no_error(cloud: Cloud) -> None:
    async def scenario() -> None:
        provider = cloud.make()
        await raised(provider, 1)
        assert await provider.remove(FRAUD, ["never-was"], ORDER, grace=0.0) == ["never-was"]
        await provider.drain(FRAUD, ["never-was"], ORDER)
        assert len((await look(provider)).agents) == 1

    asyncio.run(scenario())


def test_a_late_call_of_a_deposed_leader_changes_nothing(cloud: Cloud) -> None:
    async def scenario() -> None:
        old, new = cloud.make(), cloud.make()
        (agent,) = await raised(new, 1)
        late = Fence(plan="p0", epoch=2)
        offering = (await look(old)).offerings["fraud"][0]
        with pytest.raises(Permanent, match="epoch 3"):
            await old.scale(FRAUD, offering, 9, late)
        with pytest.raises(Permanent, match="epoch 3"):
            await old.remove(FRAUD, [agent.id], late, grace=0.0)
        assert [each.id for each in (await look(new)).agents] == [agent.id]

    asyncio.run(scenario())


def test_an_order_that_fails_for_capacity_is_told_and_can_be_withdrawn(cloud: Cloud) -> None:
    async def scenario() -> None:
        provider = cloud.make()
        cloud.limit(2)
        agents = await raised(provider, 5)
        view = await settled(provider, lambda view: bool(view.failures))
        agents = view.agents
        assert sum(agent.state == "ready" for agent in agents) == 2
        assert len(agents) == 5, "what was ordered and is not there counts as starting"
        (offering,) = view.offerings["fraud"]
        failure = view.failures[0]
        assert (failure.scope, failure.shape, failure.kind) == (offering.scope, offering.shape, "capacity")
        assert failure.reason
        assert "\n" not in failure.reason
        assert all(agent.unplaced == (agent.state != "ready") for agent in agents)
        assert (await look(provider)).failures[0].at == failure.at, "the same failure keeps its time"
        unfilled = [agent.id for agent in agents if agent.state != "ready"]
        assert sorted(await provider.remove(FRAUD, unfilled, ORDER, grace=30.0)) == sorted(unfilled)
        assert [agent.state for agent in (await look(provider)).agents] == ["ready", "ready"]

    asyncio.run(scenario())


REFUSALS = {"throttled": Temporary, "denied": Denied, "capacity": Capacity, "quota": Quota}


@pytest.mark.parametrize("how", sorted(REFUSALS))
def test_refusals_are_the_fleets_five_errors(cloud: Cloud, how: str) -> None:
    async def scenario() -> None:
        provider = cloud.make()
        (offering,) = (await look(provider)).offerings["fraud"]
        cloud.server.faults.insert(0, cloud.refuse(how))
        with pytest.raises(REFUSALS[how]) as caught:
            await provider.scale(FRAUD, offering, 2, ORDER)
        if isinstance(caught.value, Capacity):
            assert (caught.value.scope, caught.value.shape) == (offering.scope, offering.shape)
        if isinstance(caught.value, Quota):
            assert caught.value.scope == offering.scope

    asyncio.run(scenario())


def test_an_api_that_does_not_answer_is_temporary_and_told_by_health(cloud: Cloud) -> None:
    async def scenario() -> None:
        provider = cloud.make()
        assert await provider.health() == ""
        cloud.server.dead = True
        assert "does not answer" in await provider.health()
        with pytest.raises(Temporary):
            await look(provider)

    asyncio.run(scenario())


def test_check_proves_each_right_and_changes_nothing(cloud: Cloud) -> None:
    async def scenario() -> None:
        provider = cloud.make()
        before = await raised(provider, 2)
        rights = await provider.check()
        assert all(right.granted for right in rights if "Terminate" not in right.name), rights
        assert [agent.id for agent in (await look(provider)).agents] == [agent.id for agent in before]
        cloud.server.faults.insert(0, cloud.refuse("denied"))
        denied = [right for right in await provider.check() if not right.granted]
        assert denied
        assert all(right.next_step for right in denied)

    asyncio.run(scenario())


def test_offerings_carry_shape_price_room_and_architecture(cloud: Cloud) -> None:
    async def scenario() -> None:
        provider = cloud.make()
        (unpriced,) = await provider.offerings(FRAUD)
        assert unpriced.price is None, "unknown is shown as unknown"
        cloud.prices[unpriced.shape] = 0.08
        (offering,) = await provider.offerings(FRAUD)
        assert (offering.price, offering.cloud, offering.spot) == (0.08, cloud.pool.provider, False)
        assert offering.arch == ("arm64" if isinstance(cloud, Aws) else "amd64")
        assert offering.room is not None
        assert offering.room >= 40
        assert list(await provider.offerings(Workload(name="another"))) == []

    asyncio.run(scenario())


def test_a_slow_operation_is_starting_until_it_ends() -> None:
    async def scenario() -> None:
        cloud = Azure(instant=False)
        try:
            provider = cloud.make()
            assert [agent.state for agent in await raised(provider, 2)] == ["starting", "starting"]
            cloud.arm.finish()
            view = await settled(provider, lambda view: all(agent.state == "ready" for agent in view.agents))
            assert len(view.agents) == 2
        finally:
            cloud.close()

    asyncio.run(scenario())


def test_a_group_that_is_full_is_a_quota(moto: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        provider = cloud.make()
        (offering,) = (await look(provider)).offerings["fraud"]
        with pytest.raises(Quota, match="may have 40"):
            await provider.scale(FRAUD, offering, 41, ORDER)

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    cloud = Aws(moto, group="full")
    try:
        asyncio.run(scenario())
    finally:
        cloud.close()


async def settled(provider: GroupPool, true: Callable[[PoolView], bool]) -> PoolView:
    """Look until it is so; the SDK polls operations in a thread of its own."""
    async with asyncio.timeout(10):
        while True:
            view = await look(provider)
            if true(view):
                return view
            await asyncio.sleep(0.01)
