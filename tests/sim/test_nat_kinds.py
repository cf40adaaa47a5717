"""Whole nodes behind every pair of NAT kinds: what always works, and what is direct, by which means."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from covey.base.schema import PathView
from covey.testing import Link, run
from covey.testing.host import SimHost
from covey.testing.nat import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    PORT_RESTRICTED,
    SYMMETRIC,
    SYMMETRIC_SEQUENTIAL,
    UDP_BLOCKED,
    NatKind,
)
from covey.testing.world import SimNode, World
from covey.wire.control import Candidate, NatTraits

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

HARD: Final = {"symmetric", "sequential"}


def seconds_to_direct(one: str, two: str) -> float | None:
    """By when both ends are direct; None: never."""
    if one in HARD and two in HARD:
        # Both would have to guess at once, which works only if both count.
        return 2.0 if {one, two} == {"sequential"} else None
    return 22.0 if {one, two} == {"port-restricted", "symmetric"} else 2.0


async def start(world: World, name: str, kind: NatKind | None, *, birthday: bool = False) -> None:
    if kind is not None:
        world.nat(f"{name}'s box", kind)
    await world.start_node(name, behind=None if kind is None else f"{name}'s box", birthday=birthday)


async def meet(
    world: World, one: NatKind | None, two: NatKind | None, *, birthday: tuple[bool, bool] = (False, False)
) -> None:
    """Two agents behind these, who trust each other; `birthday` says which of them allow birthday probing."""
    await world.start_rendezvous()
    await start(world, "a", one, birthday=birthday[0])
    await start(world, "b", two, birthday=birthday[1])
    await world.befriend("a", "b")


def route(world: World, name: str) -> tuple[str, str]:
    """(kind, reason) of the path that carries what `name` sends to the one peer it has."""
    [peer] = world.node(name).peers()
    [active] = [path for path in peer.paths if path.active]
    return active.kind, active.reason


async def say(world: World, sender: str, recipient: str) -> str:
    return (await world.node(sender).send(recipient, "hello", wait=10)).result


async def until_direct(world: World, *names: str) -> float:
    """How long it takes until all of them send directly, virtual seconds."""
    start = world.network.loop.time()
    await world.until(lambda: all(route(world, name)[0] == "direct" for name in names))
    return world.network.loop.time() - start


@pytest.mark.parametrize("two", KINDS)
@pytest.mark.parametrize("one", KINDS)
def test_pair_of_kinds_meets_and_is_direct_if_that_can_be(one: str, two: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await meet(world, KINDS[one], KINDS[two], birthday=(True, True))
            assert [await say(world, "a", "b"), await say(world, "b", "a")] == ["delivered", "delivered"]
            limit = seconds_to_direct(one, two)
            if limit is not None:
                assert await until_direct(world, "a", "b") < limit
            else:
                await world.wait(10.0)
                assert [route(world, name) for name in ("a", "b")] == [("relay", "hard-hard")] * 2
            assert [await say(world, "a", "b"), await say(world, "b", "a")] == ["delivered", "delivered"]

    run(scenario(), limit_virtual_s=120)


def ports(world: World, name: str) -> int:
    """UDP ports that a node has open."""
    return len(world.machines[name].host._ports)


@pytest.mark.parametrize(
    ("birthday", "why"),
    [
        ((False, False), ("birthday-off", "birthday-off")),
        ((True, False), ("peer-birthday-off", "birthday-off")),
        ((False, True), ("birthday-off", "peer-birthday-off")),
    ],
)
def test_ports_are_tried_only_if_both_sides_allow_it(
    birthday: tuple[bool, bool], why: tuple[str, str], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await meet(world, SYMMETRIC, PORT_RESTRICTED, birthday=birthday)
            assert await say(world, "a", "b") == "delivered"
            await world.wait(30.0)
            assert [route(world, name) for name in ("a", "b")] == [("relay", code) for code in why]
            assert [ports(world, name) for name in ("a", "b")] == [1, 1]
            assert world.boxes["b's box"].lost["filtered"] < 64

    run(scenario(), limit_virtual_s=120)


def test_port_that_was_found_stays_and_the_others_are_closed_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await meet(world, SYMMETRIC, PORT_RESTRICTED, birthday=(True, True))
            assert await say(world, "a", "b") == "delivered"
            most = 1
            while route(world, "a")[0] != "direct":
                await world.wait(0.05)
                most = max(most, ports(world, "a"))
            assert most == 257
            assert ports(world, "a") <= 3  # one more if two were hit at once
            await until_direct(world, "a", "b")
            await world.wait(300.0)
            assert [await say(world, "a", "b"), await say(world, "b", "a")] == ["delivered", "delivered"]
            assert ports(world, "a") == 2
            assert ports(world, "b") == 1
            await world.crash("b")
            await world.until(lambda: ports(world, "a") == 1)

    run(scenario(), limit_virtual_s=4000)


def test_nat_that_counts_meets_one_peer_after_the_other(tmp_path: Path) -> None:
    """Each meeting makes dozens of mappings, of which the next peer must hear."""

    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_several("one", "two")
            for name in "abcd":
                await start(world, name, SYMMETRIC_SEQUENTIAL)
            for name in "bcd":
                await world.befriend("a", name)
                assert await say(world, "a", name) == "delivered"
                await until_direct(world, name)
                assert route(world, name) == ("direct", "direct")

    run(scenario(), limit_virtual_s=60)


def test_counting_nats_whose_first_probes_were_lost_are_direct_at_the_next_attempt(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            boxes = ("198.18.0.1", "198.18.0.2")
            world.network.set_link(*boxes, Link(loss=1.0))
            await meet(world, SYMMETRIC_SEQUENTIAL, SYMMETRIC_SEQUENTIAL)
            for _ in range(10):
                assert await say(world, "a", "b") == "delivered"
                await world.wait(2.0)
            assert route(world, "a") == ("relay", "peer-silent")
            world.network.set_link(*boxes, WAN)
            for _ in range(30):
                assert await say(world, "a", "b") == "delivered"
                await world.wait(2.0)
            assert [route(world, name)[0] for name in ("a", "b")] == ["direct", "direct"]
            assert [ports(world, name) for name in ("a", "b")] == [2, 2]

    run(scenario(), limit_virtual_s=200)


def test_nothing_is_tried_at_an_address_that_nobody_vouches_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            victim = SimHost(world.network, "198.51.100.99")
            await world.start_rendezvous()
            await start(world, "a", SYMMETRIC, birthday=True)
            await start(world, "b", PORT_RESTRICTED, birthday=True)
            machine = world.machines["a"]
            assert isinstance(machine, SimNode)
            liar = machine.node._running.transport.endpoint
            honest = liar.set_candidates

            def lie(candidates: Sequence[Candidate], *traits: NatTraits, consents: bool = False) -> None:
                there = [replace(each, endpoint=(victim.ip, each.endpoint[1])) for each in candidates]
                honest(there, *traits, consents=consents)

            liar.set_candidates = lie  # type: ignore[method-assign]
            await world.befriend("a", "b")
            assert await say(world, "a", "b") == "delivered"
            await world.wait(60.0)
            assert route(world, "b")[0] == "relay"
            # The candidates themselves, in rounds of nine probes.
            assert victim.traffic.received < 60

    run(scenario(), limit_virtual_s=400)


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
                assert route(world, "a") == ("relay", "birthday-off")
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
