"""The session with a rendezvous over crashes, partitions and its polite end."""

from __future__ import annotations

import asyncio

import pytest

from covey.node import Node
from covey.testing.world import SimRendezvous, World
from tests.node.stage import Play, about, bodies, connection, friends, network


def is_connected(node: Node) -> bool:
    return node.view().rendezvous[0].connected


def published(world: World) -> int:
    machine = world.machines["rendezvous"]
    assert isinstance(machine, SimRendezvous)
    return machine.store.counts()[0]


def test_view_says_how_the_rendezvous_sees_us(play: Play) -> None:
    async def scenario(world: World) -> None:
        (a,) = await network(world, "a")
        await world.until(lambda: is_connected(a))
        await asyncio.sleep(1.0)
        (view,) = a.view().rendezvous
        assert (view.endpoint, view.observed, view.problem) == ("10.0.1.1:4040", a.view().listen[0], "")
        assert view.rtt_ms is not None
        assert 1.9 < view.rtt_ms < 5.0

    play(scenario)


@pytest.mark.parametrize("seconds", [1.0, 20.0, 400.0])
def test_agents_come_back_and_publish_again_after_a_crash_of_the_rendezvous(seconds: float, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        await world.crash("rendezvous")
        machine = world.machines["rendezvous"]
        assert isinstance(machine, SimRendezvous)
        (world.directory / "rendezvous" / "state" / "cache.db").unlink()
        await asyncio.sleep(seconds)
        if seconds > 30:  # it is pinged every 25 s
            assert not is_connected(a)
            assert a.view().degraded
        assert (await a.send("b", "without a rendezvous")).result == "delivered"
        await world.restart("rendezvous")
        begun = asyncio.get_running_loop().time()
        await world.until(lambda: is_connected(a) and is_connected(b))
        await world.until(lambda: published(world) == 2)
        assert asyncio.get_running_loop().time() - begun < 30.0
        assert a.view().degraded == b.view().degraded == []
        c = (await world.start_node("c")).node
        assert (await c.find("a")).identity == a.identity

    play(scenario)


def test_peers_that_met_directly_meet_again_without_any_rendezvous(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await a.send("b", "warm")
        await asyncio.sleep(5.0)
        await world.crash("rendezvous")
        await world.crash("b")
        await world.restart("b")
        assert (await a.send("b", "by its old address", wait=30.0)).result == "delivered"
        await world.crash("a")
        await world.restart("a")
        assert (await world.node("a").send("b", "again", wait=30.0)).result == "delivered"

    play(scenario)


def test_rendezvous_that_stops_says_so_and_agents_wait_for_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        (a,) = await network(world, "a")
        await world.until(lambda: is_connected(a))
        await world.machines["rendezvous"].stop()  # type: ignore[union-attr]
        await asyncio.sleep(1.0)
        assert not is_connected(a)
        await world.restart("rendezvous")
        await world.until(lambda: is_connected(a))

    play(scenario)


@pytest.mark.parametrize("seconds", [3.0, 60.0, 1000.0])
def test_partition_from_the_rendezvous_heals(seconds: float, play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await network(world, "a", "b")
        await world.until(lambda: is_connected(a))
        world.network.partition([world.machines["a"].host.ip])
        await asyncio.sleep(seconds)
        world.network.heal()
        begun = asyncio.get_running_loop().time()
        await world.until(lambda: is_connected(a))
        assert (await a.find("b")).name == "b"
        assert asyncio.get_running_loop().time() - begun < 20.0

    play(scenario)


def test_agent_without_a_rendezvous_at_first_finds_it_when_it_comes(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.start_rendezvous()
        await world.crash("rendezvous")
        a = (await world.start_node("a")).node
        await asyncio.sleep(120.0)
        await world.restart("rendezvous")
        begun = asyncio.get_running_loop().time()
        await world.until(lambda: is_connected(a))
        assert asyncio.get_running_loop().time() - begun < 15.0

    play(scenario)


def test_watched_peer_that_appears_is_met_at_once(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await world.crash("b")
        await a.send("b", "waiting", wait=0)
        await asyncio.sleep(300.0)
        await world.restart("b")
        begun = asyncio.get_running_loop().time()
        await world.until(lambda: world.node("b").view().inbox_unread == 1)
        assert asyncio.get_running_loop().time() - begun < 1.0, "it was told, it did not wait for its next try"

    play(scenario)


def test_address_of_a_peer_that_moved_is_asked_for(play: Play) -> None:
    """b comes back on another port: what a remembers of it is wrong."""

    async def scenario(world: World) -> None:
        a, _ = await friends(world, "a", "b")
        await a.send("b", "one")
        await world.crash("b")
        machine = world.machines["b"]
        machine.host.ip = "10.0.7.7"
        machine.host.addresses = ("10.0.7.7",)
        await world.restart("b")
        assert (await a.send("b", "two", wait=30.0)).result == "delivered"
        assert await bodies(world.node("b")) == ["one", "two"]
        await world.until(lambda: any("10.0.7.7" in path.remote for path in about(a, "b").paths))

    play(scenario)


def test_connection_is_brought_once_however_many_want_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await network(world, "a", "b")
        connections = await asyncio.gather(*(connection(a, b) for _ in range(20)))
        assert len(set(map(id, connections))) == 1
        assert a._running.connector._bringing == {}

    play(scenario)
