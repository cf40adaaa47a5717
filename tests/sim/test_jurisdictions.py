"""Relays are used only where `relay_jurisdictions` wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from covey.base.errors import CoveyError
from covey.node.relays import RelayPolicy
from covey.testing import Link, run
from covey.testing.nat import SYMMETRIC
from covey.testing.world import World
from covey.wire.relay import Relaying
from tests.sim.test_member_relays import relay_of, say

WAN: Final = Link(latency_s=0.02)
EUROPE: Final = RelayPolicy(jurisdictions=frozenset({"eu", "ch"}))


async def start(world: World, *terms: Relaying) -> None:
    """These rendezvous; `a`, who wants Europe, and `b`, who does not care, behind boxes that cannot be punched."""
    await world.start_several(*(f"r{number}" for number in range(len(terms))), relaying=terms)
    for name in ("a", "b"):
        world.nat(name, SYMMETRIC)
        await world.start_node(name, behind=name, relaying=EUROPE if name == "a" else None)


@pytest.mark.parametrize("first", ["us", ""], ids=["elsewhere", "unsaid"])
def test_only_the_relay_in_place_carries_anything(first: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await start(world, Relaying(True, 0, first), Relaying(True, 0, "eu"))
            await world.befriend("a", "b")
            assert [await say(world, "a", "b"), await say(world, "b", "a")] == ["delivered"] * 2
            await world.wait(30.0)
            assert {relay_of(world, "a", "b"), relay_of(world, "b", "a")} == {world.machines["r1"].host.ip}
            assert [len(path) for path in [world.node("a").peers()[0].paths]] == [1]
            a = world.node("a")._running.transport.endpoint
            assert {host for host, _ in a.relays} == {world.machines["r1"].host.ip}

    run(scenario(), limit_virtual_s=120)


def test_without_a_relay_in_place_it_says_policy(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await start(world, Relaying(True, 0, "us"))
            for sender, recipient in (("a", "b"), ("b", "a")):
                await world.patiently(lambda pair=(sender, recipient): world.node(pair[0]).handshake(pair[1]))  # type: ignore[misc]
            await world.until(lambda: bool(world.trusted("a")))  # letters are no traffic of ours: they are sealed
            agent = world.node("a")._running
            [peer] = agent.book.all()
            assert (await world.node("a").send("b", "hello", wait=5)).result == "queued"
            assert agent.transport.live(peer.identity) is None
            with pytest.raises(CoveyError) as caught:
                await agent.connector.connect(peer.identity)
            assert caught.value.code == "policy"
            codes = {name: [each.code for each in world.node(name).view().findings] for name in ("a", "b")}
            assert ["no-relay-allowed" in codes[name] for name in ("a", "b")] == [True, False]

    run(scenario(), limit_virtual_s=120)


@pytest.mark.parametrize(("where", "used"), [("ch", True), ("us", False)])
def test_peers_that_relay_say_where_they_are(where: str, used: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await start(world, Relaying(True, 0, "eu"))
            await world.start_node("r", relaying=RelayPolicy("trusted", jurisdiction=where))
            for name in ("a", "b"):
                box = world.boxes[name].external[0]
                world.network.set_link(box, world.machines["r"].host.ip, Link(latency_s=0.001))
            await world.befriend("a", "b", "r")
            await say(world, "a", "b")
            await world.wait(10.0)
            expected = world.machines["r" if used else "r0"].host.ip
            assert {relay_of(world, "a", "b"), relay_of(world, "b", "a")} == {expected}

    run(scenario(), limit_virtual_s=120)
