"""What boxes do to nodes that are already connected: they forget, reboot, and hosts leave them for others."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from covey.node.transport import Stream
from covey.testing import Link, run
from covey.testing.nat import FULL_CONE, PORT_RESTRICTED, SYMMETRIC, NatKind
from covey.testing.world import World

WAN: Final = Link(latency_s=0.02)
KINDS: Final = {"full-cone": FULL_CONE, "port-restricted": PORT_RESTRICTED, "symmetric": SYMMETRIC}

SHORTEST_TIMEOUT_S: Final = 30.0
"""Of boxes that exist; what the keepalives are made for."""

CHANGES: Final[dict[str, Callable[[World, str], None]]] = {
    "mappings lost": lambda world, name: world.boxes[name].reboot(),
    "new external address": lambda world, name: world.boxes[name].reboot("198.19.0.1"),
    "another network": lambda world, name: world.machines[name].host.move(world.boxes["cafe"].inside, "192.168.1.77"),
}


async def meet(world: World, one: NatKind, two: NatKind) -> None:
    """Two agents `a` and `b`, each behind a box that has its name, who trust each other."""
    await world.start_rendezvous()
    world.nat("cafe", PORT_RESTRICTED)
    for name, kind in (("a", one), ("b", two)):
        world.nat(name, kind)
        await world.start_node(name, behind=name)
    await world.befriend("a", "b")
    await world.wait(3.0)


@pytest.mark.parametrize("refresh_inbound", [False, True], ids=["outbound only", "both ways"])
@pytest.mark.parametrize("kind", KINDS)
def test_idle_agents_stay_reachable_behind_boxes_that_forget_soon(
    kind: str, refresh_inbound: bool, tmp_path: Path
) -> None:
    async def scenario() -> None:
        forgetful = replace(KINDS[kind], timeout_s=SHORTEST_TIMEOUT_S, refresh_inbound=refresh_inbound)
        async with World(tmp_path, seed=1, link=WAN) as world:
            await meet(world, forgetful, forgetful)
            for number, (sender, recipient) in enumerate([("a", "b"), ("b", "a")]):
                await world.wait(600.0 + 1000.0 * number)
                begun = world.network.loop.time()
                assert (await world.node(sender).send(recipient, "hello", wait=10)).result == "delivered"
                assert world.network.loop.time() - begun < 1.0

    run(scenario(), limit_virtual_s=3600)


async def longest_gap(world: World, who: str, change: Callable[[World, str], None], pause_s: float) -> float:
    """A stream from `a` to `b` with a piece every `pause_s`; in the middle `change` happens to `who`.

    How long the longest pause between two pieces was at the receiver. Every byte arrives.
    """
    loop = world.network.loop
    arrived: list[float] = []
    received = bytearray()
    ended = asyncio.Event()

    async def take(stream: Stream) -> None:
        while data := await stream.read():
            arrived.append(loop.time())
            received.extend(data)
        ended.set()

    world.node("b").serve("take", take)
    stream = await world.node("a").open("b", "take")
    pieces = [b"%04d" % number for number in range(max(30, round(4.0 / pause_s)))]
    for number, piece in enumerate(pieces):
        if number == len(pieces) // 3:
            change(world, who)
        await stream.write(piece)
        await asyncio.sleep(pause_s)
    await stream.finish()
    await ended.wait()
    assert bytes(received) == b"".join(pieces)
    return max(later - sooner for sooner, later in itertools.pairwise(arrived))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("who", ["a", "b"], ids=["sender", "receiver"])
@pytest.mark.parametrize("pair", [("full-cone", "full-cone"), ("port-restricted",) * 2, ("symmetric",) * 2], ids=str)
def test_stream_outlives_a_change_of_the_network(pair: tuple[str, str], who: str, change: str, tmp_path: Path) -> None:
    """Who misses acknowledgements or data says where it is now. What it costs is asserted, not just that it ends."""

    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await meet(world, *(KINDS[kind] for kind in pair))
            gap = await longest_gap(world, who, CHANGES[change], pause_s=0.02)
            assert gap < {"a": 1.0, "b": 1.5}[who]

    run(scenario(), limit_virtual_s=300)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("who", ["a", "b"], ids=["sender", "receiver"])
def test_slow_stream_outlives_a_change_of_the_network(who: str, change: str, tmp_path: Path) -> None:
    """With pauses of its own, a stream shows later that something is missing: after about twice the pause."""

    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await meet(world, PORT_RESTRICTED, PORT_RESTRICTED)
            assert await longest_gap(world, who, CHANGES[change], pause_s=1.0) < 3.0

    run(scenario(), limit_virtual_s=300)


@pytest.mark.parametrize("change", CHANGES)
def test_idle_agent_is_found_again_by_its_next_keepalive(change: str, tmp_path: Path) -> None:
    """Nothing tells that an idle agent moved but the keepalive to its rendezvous, every 20 seconds."""

    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await meet(world, PORT_RESTRICTED, PORT_RESTRICTED)
            await world.wait(300.0)
            CHANGES[change](world, "b")
            begun = world.network.loop.time()
            result = (await world.node("a").send("b", "where are you", wait=60)).result
            assert result == "delivered"
            assert world.network.loop.time() - begun < 25.0

    run(scenario(), limit_virtual_s=900)
