"""`delivered` and `queued` are true at the moment they are said: on disks so slow that a crash finds them busy."""

from __future__ import annotations

from pathlib import Path

from covey.testing import run
from covey.testing.world import World

SLOW_DISK_S = 0.5
"""Far longer than any packet is on its way: whoever answers before the commit is caught by a crash."""


async def friends(world: World) -> None:
    await world.start_rendezvous()
    for name in ("a", "b"):
        await world.start_node(name)
    await world.befriend("a", "b")


async def bodies(world: World) -> list[str]:
    return [message.body for message in await world.node("b").inbox_list(all=True)]


def test_delivered_is_on_the_recipients_disk_when_it_is_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1) as world:
            await friends(world)
            world.machines["b"].host.disk_s = SLOW_DISK_S
            assert (await world.node("a").send("b", "first", wait=60)).result == "delivered"
            await world.crash("b")
            await world.crash("a")
            await world.restart("b")
            assert await bodies(world) == ["first"]

    run(scenario())


def test_queued_is_on_the_senders_disk_when_it_is_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1) as world:
            await friends(world)
            world.machines["a"].host.disk_s = SLOW_DISK_S
            await world.crash("b")
            assert (await world.node("a").send("b", "later", wait=0)).result == "queued"
            await world.crash("a")
            await world.restart("b")
            await world.restart("a")
            while await bodies(world) != ["later"]:
                await world.until(lambda: world.node("b").view().inbox_unread > 0)

    run(scenario(), limit_virtual_s=300)


def test_crash_of_the_recipient_at_any_moment_of_a_delivery_loses_and_repeats_nothing(tmp_path: Path) -> None:
    async def scenario(moment_s: float) -> None:
        directory = tmp_path / f"{moment_s}"
        directory.mkdir()
        async with World(directory, seed=1, disk_s=0.1) as world:
            await friends(world)
            await world.node("a").send("b", "one", wait=0)
            await world.node("a").send("b", "two", wait=0)
            await world.wait(moment_s)
            await world.crash("b")
            await world.restart("b")
            await world.until(lambda: world.node("a").view().outbox_queued == 0)
            assert await bodies(world) == ["one", "two"]

    for step in range(24):
        run(scenario(step * 0.025), limit_virtual_s=300)
