"""What an authenticated peer may say to the services of a node, and answer to its own: anything, without harm.

The simulator fails a test at an exception that nobody expected, wherever it was raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

from covey.base.codec import Writer
from covey.base.errors import CoveyError
from covey.base.events import kind
from covey.node import Node
from covey.node.transport import Stream
from covey.testing.world import World
from covey.wire import messages, trust
from covey.wire.framing import encode_frame
from tests.node.stage import Play, bodies, connection, friends, knock, network, raw
from tests.node.stage import trust as trust_of

NUMBERS = [0, 1, 2, 3, 7, 4096, 5000, (1 << 31) - 1, (1 << 63) - 2, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
TEXTS = [b"", b"x", b"\xff\xfe", "\u202e\x1b[2J\x07".encode(), b"a" * 256, b"a" * 70_000, b"[" * 5000]


def message_frame(luck: random.Random) -> bytes:
    """Something that may be said on a message stream, by either side."""
    kind = luck.choice([0x01, 0x02, 0x02, 0x02, 0x03, 0x11, 0x12, 0x13, luck.randrange(256)])
    writer = Writer()
    match kind:
        case 0x02:
            number = luck.choice(NUMBERS)
            writer.u64(number).u64(luck.choice([0, 1, number, luck.choice(NUMBERS)])).raw(
                luck.choice([b"i", b"j"]) * 16
            )
            writer.u8(luck.randrange(5)).u64(luck.choice(NUMBERS)).raw(luck.choice(TEXTS))
        case 0x03:
            dead = [luck.choice(NUMBERS) for _ in range(luck.choice([0, 1, 5, 4096]))]
            writer.u64(luck.choice(NUMBERS)).u16(luck.choice([len(dead), 65_535]))
            for number in dead:
                writer.u64(number)
        case 0x12:
            writer.u64(luck.choice(NUMBERS)).u8(5).raw(luck.choice([b"reaso", b"\xff\xff\xff\xff\xff", b"\x1b[31m"]))
        case _:
            writer.u64(luck.choice(NUMBERS))
    return mangled(luck, encode_frame(kind, writer.bytes()))


def trust_frame(luck: random.Random) -> bytes:
    writer = Writer().u64(luck.choice(NUMBERS)).block8(luck.choice(TEXTS)[:63]).block16(luck.choice(TEXTS)[:1100])
    return mangled(luck, encode_frame(luck.choice([1, 2, 3, 4, 0, 0x81, 255]), writer.bytes()))


def mangled(luck: random.Random, frame: bytes) -> bytes:
    match luck.randrange(12):
        case 0:
            return frame[: luck.randrange(len(frame))]
        case 1:
            return luck.randbytes(luck.randrange(1, 40))
        case 2:
            at = luck.randrange(len(frame))
            return frame[:at] + bytes([luck.randrange(256)]) + frame[at + 1 :]
        case _:
            return frame


async def say(luck: random.Random, hostile: Node, victim: Node, service: str) -> None:
    """One stream, from its opening until one side has had enough."""
    with contextlib.suppress(CoveyError):
        stream = await knock(hostile, victim, service)
        frames = trust_frame if service == trust.SERVICE else message_frame
        if service == messages.SERVICE and luck.random() < 0.8:
            await stream.write(messages.encode_number(messages.OPENING, luck.choice(NUMBERS)))
        for _ in range(luck.choice([0, 1, 3, 10])):
            await stream.write(frames(luck))
        if luck.random() < 0.5:
            await stream.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await stream.read()
        if luck.random() < 0.5:
            stream.abort(luck.randrange(12))


def test_nothing_a_trusted_peer_says_or_answers_breaks_a_node(sim_seed: int, play: Play) -> None:
    async def scenario(world: World) -> None:
        luck = random.Random(sim_seed)
        a, b, c = await friends(world, "a", "b", "c")

        async def answer(stream: Stream) -> None:
            with contextlib.suppress(CoveyError):
                await stream.read()
                if luck.random() < 0.8:
                    await stream.write(messages.encode_number(messages.RESUME, luck.choice(NUMBERS[:3])))
                for _ in range(luck.randrange(4)):
                    await stream.read()
                    await stream.write(message_frame(luck))

        b._running.transport.serve(messages.SERVICE, answer)
        for number in range(30):
            if number % 5 == 0:
                await a.send("c", f"{number}")
            with contextlib.suppress(CoveyError):
                await a.send("b", f"{number}", wait=0.0)
            await say(luck, b, a, luck.choice(["message", "message", "message", "sink", "trust", "none"]))
        assert await bodies(c) == [f"{number}" for number in range(0, 30, 5)]
        sender = c.identity
        assert (await c.send("a", "still there", wait=60.0)).result == "delivered"
        listed = await a.inbox_list(all=True, limit=1000)
        assert [message.body for message in listed if message.sender == sender] == ["still there"]
        assert trust_of(a, c) == "trusted"

    play(scenario, seed=sim_seed + 1)


def test_nothing_a_stranger_says_gets_it_more_than_a_request(sim_seed: int, play: Play) -> None:
    async def scenario(world: World) -> None:
        luck = random.Random(sim_seed)
        a, stranger = await network(world, "a", "stranger")
        for _ in range(25):
            await say(luck, stranger, a, luck.choice(["trust", "trust", "message", "sink", "x" * 128]))
        assert trust_of(a, stranger) in ("unknown", "pending")
        assert await bodies(a) == []

    play(scenario, seed=sim_seed + 1)


def test_peer_with_many_message_streams_makes_us_keep_one_unfinished_message(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        streams = []
        for _ in range(40):
            stream = await knock(b, a, messages.SERVICE)
            await stream.write(messages.encode_number(messages.OPENING, 1))
            await stream.write(encode_frame(messages.MESSAGE, bytes(1_000_000))[:-1])
            streams.append(stream)
            await asyncio.sleep(0.5)
        serving = [task for task in a._running.transport._tasks if task.get_name() == "serve message"]
        assert len(serving) == 1
        assert (await b.send("a", "whole", wait=60.0)).result == "delivered"
        assert await bodies(a) == ["whole"]

    play(scenario)


def test_strangers_that_come_and_go_push_nothing_out_of_the_remembered_events(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, stranger = await network(world, "a", "stranger")
        await asyncio.sleep(1.0)
        written = a._running.files.store.database._connection.total_changes
        for _ in range(3):
            met = await connection(stranger, a)
            await world.until(lambda: a._running.transport.live(raw(stranger)) is not None)
            stranger._running.transport.close_connection(met)
            await asyncio.sleep(1.0)
        assert a.recent_events(["peer.*"]).items == []
        assert a._running.files.store.database._connection.total_changes == written, "nor wears out our disk"
        await world.befriend("a", "stranger")
        assert "peer.connected" in {kind(event) for event in a.recent_events(["peer.*"]).items}

    play(scenario)


def test_peer_that_takes_its_trust_back_again_and_again_is_heard_only_so_often(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await friends(world, "a", "b")
        begun, loop = len(a.recent_events(["trust.changed"]).items), asyncio.get_running_loop()
        at = loop.time()
        number = 1 << 60
        for _ in range(100):
            for action in ("untrust", "request"):
                number += 1
                stream = await knock(b, a, trust.SERVICE)
                await stream.write(trust.TrustAction(action, number, "b", "").encode())
                with contextlib.suppress(CoveyError):
                    await stream.read()
        heard = len(a.recent_events(["trust.changed"]).items) - begun
        assert 0 < heard <= 20 + (loop.time() - at)
        await asyncio.sleep(60.0)
        stream = await knock(b, a, trust.SERVICE)
        await stream.write(trust.TrustAction("request", number + 1, "b", "").encode())
        assert await stream.read()
        assert trust_of(a, b) == "trusted"
        assert (await b.send("a", "again", wait=60.0)).result == "delivered"

    play(scenario)


def test_strangers_that_asked_leave_nothing_when_they_are_forgotten(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, stranger = await network(world, "a", "stranger")
        await stranger.handshake("a")
        await world.until(lambda: bool(a.pending()))
        await asyncio.sleep(200.0)
        assert raw(stranger) not in a._running.heads._compared

    play(scenario)
