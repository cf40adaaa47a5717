"""Whole nodes whose network changes under an exchange of questions and answers and a bulk stream."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from covey.core.traffic import Traffic
from covey.node.transport import Stream
from covey.testing import Link, run
from covey.testing.nat import PORT_RESTRICTED, SYMMETRIC, NatKind
from covey.testing.world import World

WAN: Final = Link(latency_s=0.02)
WARM_S: Final = 1.0
UPLINK_S: Final = 3.0
SLEEP_S: Final = 60.0


async def relay_crashes(world: World) -> None:
    await world.crash("r1")


async def first_moves(world: World) -> None:
    world.machines["a"].host.move(world.boxes["cafe"].inside, "192.168.1.77")


async def second_moves(world: World) -> None:
    world.machines["b"].host.move(world.boxes["cafe"].inside, "192.168.1.77")


async def box_is_replaced(world: World) -> None:
    world.boxes["a"].reboot("198.19.0.1")


async def first_sleeps_and_moves(world: World) -> None:
    asyncio.get_running_loop().call_later(SLEEP_S / 2, lambda: asyncio.ensure_future(first_moves(world)))
    await world.suspend("a", SLEEP_S)


CHANGES: Final[dict[str, tuple[Callable[[World], Awaitable[None]], float]]] = {
    "relay": (relay_crashes, WARM_S),
    "uplink of the first": (first_moves, UPLINK_S),
    "uplink of the second": (second_moves, UPLINK_S),
    "another box": (box_is_replaced, UPLINK_S),
    "asleep": (first_sleeps_and_moves, SLEEP_S + WARM_S),
}


class Talk:
    """Questions of 64 bytes from `a` to `b` and their answers, one at a time, and bulk beside them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.answered: list[float] = []
        self.sent = self.received = 0
        self.ended = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.world.node("b").serve("question", self._answer)
        self.world.node("b").serve("bulk", self._take)
        question = await self.world.node("a").open("b", "question")
        bulk = await self.world.node("a").open("b", "bulk", traffic=Traffic.BULK)
        self._tasks = [asyncio.ensure_future(work) for work in (self._ask(question), self._pour(bulk))]

    async def stop(self) -> None:
        self.ended.set()
        await asyncio.gather(*self._tasks)
        await self.world.until(lambda: self.received == self.sent)

    @staticmethod
    async def _answer(stream: Stream) -> None:
        while data := await stream.read():
            await stream.write(bytes(data))

    async def _take(self, stream: Stream) -> None:
        while data := await stream.read():
            self.received += len(data)

    async def _ask(self, stream: Stream) -> None:
        for number in itertools.count():
            if self.ended.is_set():
                return
            question, answer = number.to_bytes(8, "big") * 8, b""
            await stream.write(question)
            while len(answer) < len(question):
                answer += bytes(await stream.read())
            assert answer == question
            self.answered.append(self.world.network.loop.time())
            await asyncio.sleep(0.01)

    async def _pour(self, stream: Stream) -> None:
        while not self.ended.is_set():
            await stream.write(bytes(4000))
            self.sent += 4000
            await asyncio.sleep(0.02)
        await stream.finish()


@pytest.mark.parametrize("kind", [PORT_RESTRICTED, SYMMETRIC], ids=["direct", "relayed"])
@pytest.mark.parametrize("name", CHANGES)
def test_gap_of_an_exchange_is_short_when_the_network_changes(name: str, kind: NatKind, tmp_path: Path) -> None:
    change, limit = CHANGES[name]

    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=WAN) as world:
            await world.start_several("r1", "r2")
            world.nat("cafe", kind)
            for name in ("a", "b"):
                world.nat(name, kind)
                await world.start_node(name, behind=name)
            await world.befriend("a", "b")
            talk = Talk(world)
            await talk.start()
            await world.wait(3.0)
            before = len(talk.answered) - 1
            await change(world)
            await world.wait(4.0)
            times = [*talk.answered[before:], world.network.loop.time()]
            assert max(later - sooner for sooner, later in itertools.pairwise(times)) < limit
            await talk.stop()

    run(scenario(), limit_virtual_s=300)


def test_idle_pair_frees_its_tunnel_and_the_first_bytes_bring_it_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with World(tmp_path, seed=2, link=WAN) as world:
            await world.start_several("r1", "r2")
            for name in ("a", "b"):
                world.nat(name, PORT_RESTRICTED)
                await world.start_node(name, behind=name)
            await world.befriend("a", "b")
            world.node("b").serve("question", Talk._answer)
            stream = await world.node("a").open("b", "question")
            await stream.write(b"before")
            assert bytes(await stream.read()) == b"before"
            await world.wait(1000.0)
            assert not any(peer.connected for peer in world.node("a").peers())
            began = world.network.loop.time()
            await stream.write(b"after")
            assert bytes(await stream.read()) == b"after"
            assert world.network.loop.time() - began < 1.0
            await stream.finish()

    run(scenario(), limit_virtual_s=1300)
