"""Whole nodes behind every pair of NAT kinds: what always works, and what is direct by punching alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from covey.base.reasons import reason
from covey.base.schema import PathView
from covey.testing import Link, run
from covey.testing.nat import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    PORT_RESTRICTED,
    SYMMETRIC,
    SYMMETRIC_SEQUENTIAL,
    UDP_BLOCKED,
    NatKind,
)
from covey.testing.world import World

WAN: Final = Link(latency_s=0.02)

KINDS: Final[dict[str, NatKind | None]] = {
    "none": None,
    "full-cone": FULL_CONE,
    "address-restricted": ADDRESS_RESTRICTED,
    "port-restricted": PORT_RESTRICTED,
    "symmetric": SYMMETRIC,
    "sequential": SYMMETRIC_SEQUENTIAL,
}
"""`None`: in the open."""

PREDICTION: Final = {"port-restricted", "symmetric", "sequential"}
"""Between these, an end whose port depends on the peer needs its port guessed, which is not built: relayed today."""


def punchable(one: str, two: str) -> bool:
    """Whether both ends come to see each other by sending to what a rendezvous saw of them."""
    hard = {"symmetric", "sequential"}
    return not ({one, two} <= PREDICTION and {one, two} & hard)


async def start(world: World, name: str, kind: NatKind | None) -> None:
    if kind is not None:
        world.nat(f"{name}'s box", kind)
    await world.start_node(name, behind=None if kind is None else f"{name}'s box")


async def meet(world: World, one: NatKind | None, two: NatKind | None) -> None:
    """Two agents behind these, who trust each other."""
    await world.start_rendezvous()
    await start(world, "a", one)
    await start(world, "b", two)
    await world.befriend("a", "b")


def route(world: World, name: str) -> tuple[str, str]:
    """(kind, reason) of the path that carries what `name` sends to the one peer it has."""
    [peer] = world.node(name).peers()
    [active] = [path for path in peer.paths if path.active]
    return active.kind, active.reason


def stays_relayed(world: World, *names: str) -> bool:
    """They relay, and say what would have to be changed."""
    found = [route(world, name) for name in names]
    return all(kind == "relay" and reason(code).standing in ("limit", "chosen") for kind, code in found)


async def say(world: World, sender: str, recipient: str) -> str:
    return (await world.node(sender).send(recipient, "hello", wait=10)).result


async def until_direct(world: World, *names: str) -> float:
    """How long it takes until all of them send directly, virtual seconds."""
    start = world.network.loop.time()
    await world.until(lambda: all(route(world, name)[0] == "direct" for name in names))
    return world.network.loop.time() - start


@pytest.mark.parametrize("two", KINDS)
@pytest.mark.parametrize("one", KINDS)
def test_pair_of_kinds_meets_and_is_direct_where_punching_suffices(one: str, two: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await meet(world, KINDS[one], KINDS[two])
            assert [await say(world, "a", "b"), await say(world, "b", "a")] == ["delivered", "delivered"]
            if punchable(one, two):
                assert await until_direct(world, "a", "b") < 2.0
            else:
                await world.wait(10.0)
                assert stays_relayed(world, "a", "b")
            assert [await say(world, "a", "b"), await say(world, "b", "a")] == ["delivered", "delivered"]

    run(scenario(), limit_virtual_s=120)


@pytest.mark.parametrize("hairpin", [True, False])
@pytest.mark.parametrize("kind", ["full-cone", "port-restricted", "symmetric"])
def test_neighbours_behind_one_box_meet_on_their_network(kind: str, hairpin: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_rendezvous()
            behind = KINDS[kind]
            assert behind is not None
            world.nat("home", replace(behind, hairpin=hairpin))
            for name in ("a", "b"):
                await world.start_node(name, behind="home")
            await world.befriend("a", "b")
            await until_direct(world, "a", "b")
            await world.wait(10.0)
            [peer] = world.node("a").peers()
            [active] = [path for path in peer.paths if path.active]
            assert active.remote.startswith("192.168.1.")

    run(scenario(), limit_virtual_s=120)


@pytest.mark.parametrize(
    ("carrier", "hairpin", "direct"),
    [("full-cone", True, True), ("port-restricted", True, True), ("port-restricted", False, False)],
)
def test_homes_behind_one_carrier_meet_through_its_hairpin(
    carrier: str, hairpin: bool, direct: bool, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_rendezvous()
            kind = KINDS[carrier]
            assert kind is not None
            world.nat("carrier", replace(kind, hairpin=hairpin))
            for name in ("a", "b"):
                # Both hosts have the same private address, each other's included: it leads to themselves.
                world.nat(f"{name}'s home", PORT_RESTRICTED, behind="carrier")
                await world.start_node(name, behind=f"{name}'s home")
            assert world.machines["a"].host.ip == world.machines["b"].host.ip
            await world.befriend("a", "b")
            if direct:
                await until_direct(world, "a", "b")
            else:
                await world.wait(10.0)
                assert route(world, "a") == ("relay", "no-hairpin")
            assert [await say(world, "a", "b"), await say(world, "b", "a")] == ["delivered", "delivered"]

    run(scenario(), limit_virtual_s=120)


@pytest.mark.parametrize(("carrier", "direct"), [("port-restricted", True), ("symmetric", False)])
def test_home_behind_a_carrier_is_as_hard_as_the_harder_of_both(carrier: str, direct: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_rendezvous()
            kind = KINDS[carrier]
            assert kind is not None
            world.nat("carrier", kind)
            world.nat("home", FULL_CONE, behind="carrier")
            await world.start_node("a", behind="home")
            await start(world, "b", PORT_RESTRICTED)
            await world.befriend("a", "b")
            if direct:
                await until_direct(world, "a", "b")
            else:
                await world.wait(10.0)
                assert stays_relayed(world, "a")
            assert [await say(world, "a", "b"), await say(world, "b", "a")] == ["delivered", "delivered"]

    run(scenario(), limit_virtual_s=120)


def test_blocked_udp_is_told_and_what_waits_leaves_when_it_opens(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await meet(world, PORT_RESTRICTED, None)
            box = world.boxes["a's box"]
            box.kind = UDP_BLOCKED
            await world.crash("a")
            await world.restart("a")
            assert (await world.node("a").send("b", "later", wait=5)).result == "queued"
            assert world.node("a").view().degraded
            box.kind = PORT_RESTRICTED
            await world.until(lambda: world.node("b").view().inbox_unread == 1)

    run(scenario(), limit_virtual_s=120)


def test_small_mtu_on_the_way_carries_what_is_large(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            # 1280 is the least that IPv6 carries; minus headers, as with a tunnel on the way.
            await meet(world, replace(PORT_RESTRICTED, mtu=1280 - 28), None)
            await until_direct(world, "a", "b")
            large = "x" * 300_000
            assert (await world.node("a").send("b", large, wait=30)).result == "delivered"
            assert (await world.node("b").send("a", large, wait=30)).result == "delivered"
            # The paths are probed for more again and again, and each probe above it is swallowed.
            assert world.boxes["a's box"].lost["mtu"] > 0

    run(scenario(), limit_virtual_s=120)


@pytest.mark.parametrize("relayed", [False, True], ids=["direct", "relayed"])
def test_mtu_that_shrinks_on_the_way_costs_a_moment_and_no_path(relayed: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        kind = replace(SYMMETRIC if relayed else PORT_RESTRICTED, mtu=1472)
        async with World(tmp_path, seed=1, link=WAN) as world:
            await meet(world, kind, SYMMETRIC if relayed else None)
            if not relayed:
                await until_direct(world, "a", "b")
            large = "x" * 300_000
            assert (await world.node("a").send("b", large, wait=30)).result == "delivered"
            before = active(world)
            assert (before.kind, before.mtu) == ("relay" if relayed else "direct", 1472)
            world.boxes["a's box"].kind = replace(kind, mtu=1280 - 28)
            begun = asyncio.get_running_loop().time()
            assert (await world.node("a").send("b", large, wait=30)).result == "delivered"
            assert (await world.node("b").send("a", large, wait=30)).result == "delivered"
            assert asyncio.get_running_loop().time() - begun < 5.0
            after = active(world)
            assert (after.kind, after.remote) == (before.kind, before.remote)
            assert 1200 <= after.mtu <= 1252

    def active(world: World) -> PathView:
        [peer] = world.node("a").peers()
        [path] = [path for path in peer.paths if path.active]
        return path

    run(scenario(), limit_virtual_s=120)
