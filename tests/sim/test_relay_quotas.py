"""What a relay passes on for one client: senders keep to it, so that nothing waits or gets lost there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from covey.base.types import parse_identity
from covey.core.path import Path as CorePath
from covey.node.transport import Stream
from covey.testing import Link, run
from covey.testing.nat import SYMMETRIC
from covey.testing.world import World
from covey.wire.relay import Relaying

WAN: Final = Link(latency_s=0.02)
RATE: Final = 250_000
SIZE: Final = 1_000_000


def active(world: World, name: str, peer: str) -> CorePath:
    transport = world.node(name)._running.transport
    session = transport.endpoint.connections[parse_identity(world.node(peer).identity)].session
    assert session is not None
    return session.active


async def take(stream: Stream) -> None:
    size = 0
    while data := await stream.read():
        size += len(data)
    await stream.write(b"%d" % size)


async def bulk(world: World, sender: str, receiver: str) -> float:
    """Seconds that it takes to bring `SIZE` bytes across."""
    begun = world.network.loop.time()
    stream = await world.node(sender).open(receiver, "take")
    await stream.write(bytes(SIZE))
    await stream.finish()
    assert await stream.read() == b"%d" % SIZE
    return world.network.loop.time() - begun


def test_senders_keep_to_the_quota_and_lose_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            server = (await world.start_rendezvous(relaying=Relaying(True, RATE))).server
            for name in ("a", "b", "c"):
                world.nat(name, SYMMETRIC)
                await world.start_node(name, behind=name)
            await world.befriend("a", "b", "c")
            for name in ("b", "c"):
                world.node(name).serve("take", take)
            # One quota for all that `a` sends: to two peers, each gets half of it.
            one, two = await asyncio.gather(bulk(world, "a", "b"), bulk(world, "a", "c"))
            assert 1.6 * SIZE / RATE < max(one, two) < 2.4 * SIZE / RATE
            assert min(one, two) > 1.2 * SIZE / RATE
            assert [active(world, "a", peer).recovery.lost_bytes for peer in ("b", "c")] == [0, 0]
            assert server.relay.dropped_bytes == 0
            assert server.relay.deadline() is None, "nothing is held back"

    run(scenario(), limit_virtual_s=120)
