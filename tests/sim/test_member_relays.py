"""Agents that relay for their peers: found, used where they are better, and there when a rendezvous dies."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from covey.node.relays import RelayPolicy
from covey.testing import Link, run
from covey.testing.nat import SYMMETRIC
from covey.testing.world import World
from tests.sim.streams import gap

FAR: Final = Link(latency_s=0.05)
NEAR: Final = Link(latency_s=0.005)
RELAYS: Final = RelayPolicy(serves="trusted")


async def meet(world: World, *, near: bool = True, relaying: RelayPolicy = RELAYS) -> None:
    """`a` and `b` behind boxes that cannot be punched, `r` in the open, near to both or as far as everything else."""
    await world.start_rendezvous()
    for name in ("a", "b"):
        world.nat(name, SYMMETRIC)
        await world.start_node(name, behind=name)
    await world.start_node("r", relaying=relaying)
    if near:
        for name in ("a", "b"):
            world.network.set_link(world.boxes[name].external[0], world.machines["r"].host.ip, NEAR)
    await world.befriend("a", "b", "r")


def relay_of(world: World, name: str, peer: str) -> str:
    """The host that relays what `name` sends to `peer`; "" if none does."""
    [view] = [each for each in world.node(name).peers() if each.name == peer]
    [active] = [path for path in view.paths if path.active]
    return active.remote.rpartition(":")[0] if active.kind == "relay" else ""


async def say(world: World, sender: str, recipient: str) -> str:
    return (await world.node(sender).send(recipient, "hello", wait=10)).result


def test_peer_that_relays_is_used_when_it_is_nearer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=FAR) as world:
            await meet(world)
            near = world.machines["r"].host.ip
            await say(world, "a", "b")
            begun = world.network.loop.time()
            await world.until(lambda: {relay_of(world, "a", "b"), relay_of(world, "b", "a")} == {near})
            assert world.network.loop.time() - begun < 2.0
            assert [await say(world, "a", "b"), await say(world, "b", "a")] == ["delivered"] * 2
            relayed = world.node("r").view().relayed
            assert relayed is not None
            assert (relayed.circuits, relayed.forwarded_bytes > 0, relayed.dropped_bytes) == (1, True, 0)
            [relay] = world.node("a").view().relays
            assert (relay.name, relay.connected, relay.rtt_ms) == ("r", True, pytest.approx(10.0, abs=2.0))
            assert world.node("a").view().relayed is None

    run(scenario(), limit_virtual_s=120)


def test_stream_goes_on_over_a_peer_when_the_rendezvous_dies(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=FAR) as world:
            await meet(world, near=False)
            far = world.machines["rendezvous"].host.ip
            await say(world, "a", "b")
            await world.wait(5.0)
            assert (relay_of(world, "a", "b"), relay_of(world, "b", "a")) == (far, far)
            assert await gap(world, world.machines["rendezvous"].crash) < 1.0
            assert relay_of(world, "a", "b") == world.machines["r"].host.ip

    run(scenario(), limit_virtual_s=120)


def test_peer_that_relays_leads_to_another_while_no_rendezvous_is_there(tmp_path: Path) -> None:
    """Not known as a common relay before: `a` and `b` have no session when the rendezvous dies."""

    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=FAR) as world:
            await meet(world)
            await world.crash("b")
            await world.restart("b")
            await say(world, "b", "r")
            await world.until(lambda: len(world.node("b")._running.relays.members()) == 1)
            await world.crash("rendezvous")
            assert await say(world, "a", "b") == "delivered"

    run(scenario(), limit_virtual_s=120)


@pytest.mark.parametrize("change", ["never", "untrusted", "stopped"])
def test_peer_that_does_not_relay_for_us_is_not_used(change: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=FAR) as world:
            await meet(world, relaying=RelayPolicy() if change == "never" else RELAYS)
            await say(world, "a", "b")
            await world.wait(3.0)
            if change == "untrusted":
                assert relay_of(world, "a", "b") == world.machines["r"].host.ip
                await world.node("r").untrust("b")
            elif change == "stopped":
                await world.machines["r"].stop()
            far = world.machines["rendezvous"].host.ip
            await world.until(lambda: {relay_of(world, "a", "b"), relay_of(world, "b", "a")} == {far})
            assert [await say(world, "a", "b"), await say(world, "b", "a")] == ["delivered"] * 2
            table = world.node("r")._running.relays.table if change != "stopped" else None
            assert not table

    run(scenario(), limit_virtual_s=120)


def test_peers_that_relayed_once_are_where_agents_meet_when_every_rendezvous_is_gone(tmp_path: Path) -> None:
    """Also after both restarted, one after the other, with nobody but the relay there."""

    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=FAR) as world:
            await meet(world)
            await say(world, "a", "b")
            await world.wait(5.0)
            await world.crash("rendezvous")
            for name in ("a", "b"):
                await world.crash(name)
                await world.restart(name)
            begun = world.network.loop.time()
            assert (await world.node("a").send("b", "hello", wait=120)).result == "delivered"
            assert world.network.loop.time() - begun < 10.0
            assert relay_of(world, "a", "b") == world.machines["r"].host.ip

    run(scenario(), limit_virtual_s=300)


def test_peer_that_relays_is_left_at_once_when_it_stops(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=FAR) as world:
            await meet(world)
            await say(world, "a", "b")
            await world.until(lambda: relay_of(world, "a", "b") == world.machines["r"].host.ip)
            await world.wait(5.0)
            # The next piece comes by the way that is 90 ms longer; nobody had to find out.
            assert await gap(world, world.machines["r"].stop) < 0.15
            assert relay_of(world, "a", "b") == world.machines["rendezvous"].host.ip

    run(scenario(), limit_virtual_s=120)
