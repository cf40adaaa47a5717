"""A stream between two simulated nodes, while something happens to the network."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from covey.node.transport import Stream
from covey.testing.world import World

__all__ = ["gap"]


async def gap(world: World, change: Callable[[], Awaitable[None]], *, pieces: int = 300) -> float:
    """A stream from `a` to `b` with a piece every 20 ms; in the middle `change` happens. The longest pause between two
    pieces at the receiver, seconds. Every byte arrives, in order."""
    loop, arrived, received = world.network.loop, [], bytearray()
    ended = asyncio.Event()

    async def take(stream: Stream) -> None:
        while data := await stream.read():
            arrived.append(loop.time())
            received.extend(data)
        ended.set()

    world.node("b").serve("take", take)
    stream = await world.node("a").open("b", "take")
    sent = [b"%04d" % number for number in range(pieces)]
    changing: asyncio.Task[None] | None = None
    for number, piece in enumerate(sent):
        if number == pieces // 3:
            changing = asyncio.ensure_future(change())
        await stream.write(piece)
        await asyncio.sleep(0.02)
    await stream.finish()
    await ended.wait()
    assert changing is not None
    await changing
    assert bytes(received) == b"".join(sent)
    return max(later - sooner for sooner, later in itertools.pairwise(arrived))
