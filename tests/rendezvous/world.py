"""A rendezvous and bare agents, on any host: just enough client to say anything, right or wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

from covey.base.types import Endpoint, Identity, parse_endpoint
from covey.core import events
from covey.core.connection import Connection
from covey.core.handshake import Target
from covey.core.path import Route
from covey.crypto.credentials import Credentials
from covey.crypto.events import KeyLog
from covey.crypto.record import Record
from covey.net.host import Host
from covey.node.transport import Stream, Transport
from covey.rendezvous.limits import Limits
from covey.rendezvous.mailboxes import MailboxStore
from covey.rendezvous.server import Rendezvous
from covey.rendezvous.store import RendezvousStore
from covey.testing import SimHost, SimNetwork
from covey.wire import rendezvous as wire
from covey.wire.framing import FrameReader
from covey.wire.ticket import Ticket

HOUR_US = 3600 * 1_000_000
SERVER_IP = "10.0.0.1"

M = TypeVar("M", bound=wire.Message)


class Agent:
    """One agent: an identity, a transport, and at most one stream to one rendezvous."""

    def __init__(self, host: Host, ip: str, *, credentials: Credentials | None = None) -> None:
        self.host = host
        self.credentials = credentials or Credentials.create(host.random, host.wall_us())[0]
        self.closed: list[events.ConnectionClosed] = []
        self.served: asyncio.Queue[Stream] = asyncio.Queue()
        self.pushes: asyncio.Queue[wire.Message] = asyncio.Queue()
        self.ended = asyncio.Event()
        """The stream to the rendezvous is over."""
        self.connection: Connection | None = None
        self.stream: Stream | None = None
        self._records: asyncio.Queue[events.RecordReceived] = asyncio.Queue()
        self._calls: dict[int, asyncio.Future[wire.Message]] = {}
        self._number = 0
        self._reader: asyncio.Task[None] | None = None
        self.transport = Transport(
            host, self.credentials, allow=lambda connection, service: True, on_event=self._on_event
        )
        self.port = self.transport.bind((ip, 0))
        self.transport.serve("echo", self._echo)

    @property
    def identity(self) -> Identity:
        return self.credentials.identity

    @property
    def target(self) -> Target:
        return Target(self.identity, self.credentials.current.key.public)

    def _on_event(self, event: events.Event) -> None:
        if isinstance(event, events.RecordReceived):
            self._records.put_nowait(event)
        elif isinstance(event, events.ConnectionClosed):
            self.closed.append(event)

    async def _echo(self, stream: Stream) -> None:
        while data := await stream.read():
            await stream.write(data)

    async def join(self, ticket: Ticket, *, service: bool = True) -> Stream | None:
        """As a client does: the record for the ticket's identity, a session, a stream."""
        (entry,) = ticket.entries
        remote = parse_endpoint(entry.endpoints[0])
        route = self.transport.route(remote)
        assert route is not None
        self.transport.endpoint.relays[remote] = entry.identity
        event: events.RecordReceived | None = None
        while event is None:
            self.transport.endpoint.request_record(entry.identity, route)
            self.transport.wake()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    event = await self._records.get()
        log = KeyLog.parse(event.log)
        record = Record.parse(event.record)
        record.verify(log, self.host.wall_us())
        self.transport.endpoint.add_log(log)
        self.transport.connect(Target(entry.identity, record.certificate.public), [route])
        self.connection = await self.transport.wait_live(entry.identity)
        if not service:
            return None
        stream = await self.open()
        await self.lookup(wire.BY_IDENTITY, self.identity)  # now the rendezvous knows us too
        return stream

    async def open(self) -> Stream:
        """A stream of the service, read from now on."""
        assert self.connection is not None
        if self._reader is not None:
            self._reader.cancel()
        self.ended = asyncio.Event()
        self.stream = await self.transport.open(self.connection, wire.SERVICE)
        self._reader = self.transport.spawn(self._read(self.stream, self.ended), "agent reads")
        return self.stream

    async def _read(self, stream: Stream, ended: asyncio.Event) -> None:
        reader = FrameReader(wire.FRAME_LIMIT)
        with contextlib.suppress(Exception):
            while data := await stream.read():
                for kind, body in reader.feed(data):
                    message = wire.parse(kind, body)
                    future = self._calls.pop(message.number, None)
                    if future is not None:
                        future.set_result(message)
                    else:
                        self.pushes.put_nowait(message)
        ended.set()
        if stream is self.stream:
            while self._calls:
                self._calls.popitem()[1].cancel()

    async def ask(self, kind: type[wire.Message], *fields: object) -> asyncio.Future[wire.Message]:
        """Sends a request; its answer later."""
        assert self.stream is not None
        self._number += 1
        future = self._calls[self._number] = asyncio.get_running_loop().create_future()
        await self.stream.write(wire.encode(kind(self._number, *fields)))  # type: ignore[call-arg]
        return future

    async def call(self, kind: type[wire.Message], *fields: object) -> wire.Message:
        return await (await self.ask(kind, *fields))

    async def pushed(self, kind: type[M]) -> M:
        """The next push of this kind; others before it are skipped."""
        while True:
            message = await self.pushes.get()
            if isinstance(message, kind):
                return message

    def signed(
        self, name: str = "", *, sequence: int | None = None, life_us: int = 24 * HOUR_US, flags: int = 0
    ) -> wire.Signed:
        credentials = self.credentials
        sequence = self.host.wall_us() if sequence is None else sequence
        record = Record.make(
            credentials.operational,
            credentials.log,
            credentials.delegation,
            credentials.current.certificate,
            address_nonce=credentials.address_nonce,
            sequence=sequence,
            expires_us=sequence + life_us,
            name=name,
            flags=flags,
        )
        return wire.Signed(record.raw, credentials.log.raw)

    async def publish(self, name: str = "") -> int:
        """The outcome for the name."""
        answer = await self.call(wire.Publish, self.signed(name))
        assert isinstance(answer, wire.Published), answer
        return answer.name

    async def lookup(self, by: int, key: bytes) -> list[Identity]:
        answer = await self.call(wire.Lookup, by, key)
        assert isinstance(answer, wire.Found), answer
        return [Record.parse(claim.record).identity for claim in answer.claims]

    async def introduce(self, identity: Identity) -> int:
        answer = await self.call(wire.Introduce, identity)
        assert isinstance(answer, wire.Introduced), answer
        return answer.circuit

    def relayed(self, circuit: int) -> Route:
        assert self.connection is not None
        assert self.connection.session is not None
        route = self.connection.session.active.route
        return Route(route.local, route.remote, circuit)

    async def meet(self, other: Agent) -> Connection:
        """A session with another agent through the relay."""
        route = self.relayed(await self.introduce(other.identity))
        assert route.circuit
        self.transport.connect(other.target, [route])
        connection = await self.transport.wait_live(other.identity)
        connection.admit(direct=False)
        return connection

    async def close(self) -> None:
        await self.transport.close()


class World:
    """A simulated network with one rendezvous in it."""

    def __init__(self, seed: int, directory: Path, limits: Limits | None = None) -> None:
        self.network = SimNetwork(asyncio.get_running_loop(), seed)
        self.host = SimHost(self.network, SERVER_IP)
        self.credentials = Credentials.create(self.host.random, self.host.wall_us())[0]
        self.limits = limits
        self.path = directory / "rendezvous.db"
        self.saved: list[Credentials] = []
        self.agents: list[Agent] = []
        self.listen: Endpoint = (SERVER_IP, 4040)

    async def start(self) -> Ticket:
        self.store = RendezvousStore(self.path, synchronous="OFF")
        self.mailboxes = MailboxStore(self.path.with_name("mailboxes.db"), synchronous="OFF")
        self.server = Rendezvous(
            self.host,
            self.credentials,
            self.store,
            self.mailboxes,
            listen=self.listen,
            save=self.saved.append,
            limits=self.limits,
        )
        self.ticket = await self.server.start()
        return self.ticket

    async def stop(self, drain: float = 2.0) -> None:
        await self.server.close(drain)
        self.store.close()
        self.mailboxes.close()

    def new_agent(self, host: SimHost | None = None, credentials: Credentials | None = None) -> Agent:
        number = len(self.agents) + 1
        host = host or SimHost(self.network, f"10.0.{1 + number // 250}.{1 + number % 250}")
        agent = Agent(host, host.ip, credentials=credentials)
        self.agents.append(agent)
        return agent

    async def agent(self, *, service: bool = True) -> Agent:
        """A new agent that has joined."""
        agent = self.new_agent()
        await agent.join(self.ticket, service=service)
        return agent


@contextlib.asynccontextmanager
async def world(seed: int, directory: Path, limits: Limits | None = None) -> AsyncIterator[World]:
    made = World(seed, directory, limits)
    await made.start()
    try:
        yield made
    finally:
        for agent in made.agents:
            await agent.close()
        await made.stop(0)
