"""Peers and rendezvous that lie about relays: they cost time, never a byte, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from covey.core.connection import Connection
from covey.node.relays import RelayPolicy
from covey.node.transport import Stream
from covey.testing import Link, run
from covey.testing.nat import SYMMETRIC
from covey.testing.world import World
from covey.wire import control
from covey.wire.relay import Relaying, encode_gone, encode_opened, encode_relays
from tests.sim.test_member_relays import relay_of, say

WAN: Final = Link(latency_s=0.02)
NEAR: Final = Link(latency_s=0.001)
LIES_PER_SECOND: Final = 100


def connections(world: World) -> list[Connection]:
    """Of the liar `m`, with `a` and `b`."""
    agent = world.node("m")._running
    return [each for each in agent.transport.endpoint.connections.values() if agent.book.trusts(each.peer)]


def words(world: World, number: int, kind: int, body: bytes) -> None:
    for connection in connections(world):
        session = connection.session
        if session is not None and session.verified and session.epochs.epoch:
            session.send_control(kind, body)
    world.node("m")._running.transport.wake()


async def changes_its_mind(world: World, number: int) -> None:
    words(world, number, control.RELAYING, Relaying(bool(number % 2), number, f"j{number}").encode())


async def names_everything(world: World, number: int) -> None:
    tags = {(number * 16 + each).to_bytes(8, "big"): 0 for each in range(16)}
    words(world, number, control.RELAYS, encode_relays(tags))


async def closes_what_is_not_its_own(world: World, number: int) -> None:
    for name in ("a", "b"):
        for connection in world.node(name)._running.transport.endpoint.connections.values():
            for path in connection.session.paths if connection.session is not None else ():
                words(world, number, control.GONE, encode_gone(path.route.circuit or number))


LIES: Final[dict[str, Callable[[World, int], Awaitable[None]]]] = {
    each.__name__: each for each in (changes_its_mind, names_everything, closes_what_is_not_its_own)
}


@pytest.mark.parametrize("lie", LIES)
def test_peer_that_lies_about_relays_hinders_nobody(lie: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            server = (await world.start_rendezvous()).server
            for name in ("a", "b"):
                world.nat(name, SYMMETRIC)
                await world.start_node(name, behind=name)
            await world.start_node("m", relaying=RelayPolicy("trusted"))
            for name in ("a", "b"):
                world.network.set_link(world.boxes[name].external[0], world.machines["m"].host.ip, NEAR)

            async def lead_nowhere(stream: Stream) -> None:
                await stream.read()
                await stream.write(encode_opened(77))

            world.node("m")._running.transport.serve("relay", lead_nowhere)
            await world.befriend("a", "b", "m")
            asked = server._service.requests
            for number in range(5 * LIES_PER_SECOND):
                await LIES[lie](world, number)
                await asyncio.sleep(1 / LIES_PER_SECOND)
                if number % 250 == 0:
                    for sender, recipient in (("a", "b"), ("b", "a")):
                        begun = world.network.loop.time()
                        assert await say(world, sender, recipient) == "delivered"
                        assert world.network.loop.time() - begun < 0.5
            assert {relay_of(world, "a", "b"), relay_of(world, "b", "a")} == {world.machines["rendezvous"].host.ip}
            assert server._service.requests - asked < 100
            for name in ("a", "b"):
                assert len(world.node(name)._running.transport._tasks) < 50

    run(scenario(), limit_virtual_s=120)
