"""A real rendezvous that may be told to lie: in any answer, in what it pushes, or with bytes that are no answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from covey.base.types import Identity
from covey.crypto.credentials import Credentials
from covey.crypto.record import Record
from covey.node.transport import Stream
from covey.rendezvous.clients import Client
from covey.testing.world import SimRendezvous, World
from covey.wire import rendezvous as wire

HOUR_US = 3600 * 1_000_000

Lie = Callable[["Liar", Client, wire.Message, wire.Message], Awaitable[wire.Message | bytes | None]]
"""(it, the client, the request, the true answer) -> what is said instead; bytes go out as they are, None: nothing."""


@dataclass(frozen=True)
class Raw:
    """An answer of any kind and body, for `wire.encode`."""

    KIND: int
    number: int
    body: bytes

    def write(self, writer: object) -> None:
        writer.raw(self.body)  # type: ignore[attr-defined]


class Liar(SimRendezvous):
    """Honest until `lie` is set. It remembers everything that was ever published here."""

    lie: Lie | None = None

    def __init__(self, world: World, name: str, ip: str) -> None:
        super().__init__(world, name, ip)
        self.published: dict[Identity, list[wire.Signed]] = {}
        self.asked: list[wire.Message] = []

    async def start(self) -> None:
        await super().start()
        service = self.server._service
        honest = service._answer

        async def answer(client: Client, request: wire.Message) -> wire.Message:
            truth = await honest(client, request)
            if isinstance(request, wire.Publish):
                self.published.setdefault(Record.parse(request.signed.record).identity, []).append(request.signed)
            if self.lie is None:
                return truth
            self.asked.append(request)
            said = await self.lie(self, client, request, truth)
            if said is None or isinstance(said, bytes):
                if said:
                    await stream_of(client).write(said)
                return Raw(0x22, 0, bytes(32))  # type: ignore[return-value] - a push about nobody, which means nothing
            return said

        service._answer = answer  # type: ignore[method-assign]

    async def push(self, client: Client, message: wire.Message) -> None:
        await client.send(stream_of(client), message)

    def signed(self, credentials: Credentials, name: str, *, at_us: int = 0) -> wire.Signed:
        """A record of these keys: an impostor's, or another one of somebody whose keys were stolen."""
        at_us = at_us or self.host.wall_us()
        record = Record.make(
            credentials.operational,
            credentials.log,
            credentials.delegation,
            credentials.current.certificate,
            address_nonce=credentials.address_nonce,
            sequence=at_us,
            expires_us=at_us + 24 * HOUR_US,
            name=name,
        )
        return wire.Signed(record.raw, credentials.log.raw)


def stream_of(client: Client) -> Stream:
    assert client.stream is not None
    return client.stream


async def start_liar(world: World, name: str = "liar") -> Liar:
    """Beside the rendezvous that the world has, if any; the world's ticket then names both."""
    machine = Liar(world, name, f"10.0.1.{len(world.machines) + 1}")
    world.machines[name] = machine
    await machine.start()
    world.join(machine.ticket)
    return machine
