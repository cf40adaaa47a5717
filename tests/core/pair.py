"""Endpoints on a wire of lists: the core without asyncio, sockets or a real clock.

`Wire` moves trains between endpoints in virtual time, drops, delays, duplicates and reorders datagrams by a seeded
random source, and records what it moved. For whole nodes there is `covey.testing`; this is for the core alone.

It also holds the core to its contract: no call raises, `transmit` ends, and a deadline that has passed is acted on,
so that virtual time goes on (a real driver would spin).
"""

from __future__ import annotations

import heapq
import random
import zlib
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

from covey.base.types import CongestionControl, Identity
from covey.core.connection import Connection
from covey.core.endpoint import Endpoint
from covey.core.events import ConnectionLive, Event, StreamReadable
from covey.core.handshake import Target
from covey.core.limits import LIFETIMES, Lifetimes
from covey.core.path import Route
from covey.core.stream import Stream
from covey.crypto.credentials import Credentials

WALL_START = 1_800_000_000_000_000
TURNS_LIMIT = 100
"""Turns without time going on: more means that a deadline lies in the past and nobody acts on it."""
TRAINS_LIMIT = 5_000
"""Trains of one side in one turn: more than all windows together hold."""

Address = tuple[str, int]
E = TypeVar("E", bound=Event)


class Side:
    """One endpoint, its address, and the events it gave."""

    def __init__(self, wire: Wire, name: str, seed: int, address: Address | None = None) -> None:
        source = random.Random(f"{name} {seed}")
        self.wire = wire
        self.name = name
        self.address = address or _address(name)
        self.source = source
        self.clock_error_us = 0
        """How far this side's wall clock is ahead."""
        self.credentials, _ = Credentials.create(source.randbytes, WALL_START)
        self.endpoint = self._endpoint()
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] | None = None

    def _endpoint(self) -> Endpoint:
        endpoint = Endpoint(
            self.credentials,
            wall=self.wall,
            random=self.source.randbytes,
            lifetimes=self.wire.lifetimes,
            congestion=self.wire.congestion,
        )
        endpoint.set_ports([(0, 6 if ":" in self.address[0] else 4)])
        return endpoint

    def wall(self) -> int:
        return self.wire.wall() + self.clock_error_us

    def adopt(self, credentials: Credentials) -> None:
        """New keys, as a node takes them up."""
        self.credentials = credentials
        self.endpoint.adopt(self.wire.now, credentials)

    @property
    def identity(self) -> Identity:
        return self.credentials.identity

    @property
    def target(self) -> Target:
        return Target(self.credentials.identity, self.credentials.current.key.public)

    def connect(self, other: Side, *routes: Route) -> Connection:
        return self.endpoint.connect(self.wire.now, other.target, list(routes) or [Route(0, other.address)])

    def connection(self, other: Side) -> Connection:
        return self.endpoint.connections[other.identity]

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def restart(self) -> None:
        """The process dies: the same credentials and address, nothing else."""
        self.endpoint = self._endpoint()
        self.events.clear()

    def move(self, address: Address) -> None:
        """From now on others see another source address, and the old one leads nowhere."""
        del self.wire.sides[self.address]
        self.address = address
        self.wire.sides[address] = self


class Wire:
    """Connects sides by address. All impairments are probabilities per datagram; `delay` and `jitter` are seconds."""

    def __init__(
        self,
        seed: int = 0,
        *,
        delay: float = 0.01,
        jitter: float = 0.0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        corrupt: float = 0.0,
        mtu: int = 65_535,
        lifetimes: Lifetimes = LIFETIMES,
        congestion: CongestionControl = "cubic",
    ) -> None:
        self.lifetimes = lifetimes
        self.congestion = congestion
        self.random = random.Random(seed)
        self.seed = seed
        self.now = 1000.0
        self.delay, self.jitter, self.loss = delay, jitter, loss
        self.duplicate, self.corrupt, self.mtu = duplicate, corrupt, mtu
        self.sides: dict[Address, Side] = {}
        self.blocked: Callable[[Address, Address], bool] = lambda source, target: False
        self.delays: dict[frozenset[Address], float] = {}
        """Other delays than `delay`, by the two addresses."""
        self.tap: Callable[[Address, Address, bytes], bytes | None] | None = None
        self.sent_bytes = 0
        self.datagrams = 0
        self.trace: list[tuple[float, str, int]] | None = None
        """Set to [] to record (time, sender, size) of every datagram."""
        self.recorded: list[tuple[Address, Address, bytes]] | None = None
        """Set to [] to keep every datagram that was sent."""
        self._flying: list[tuple[float, int, Address, Address, bytes]] = []
        self._timers: list[tuple[float, int, Callable[[], Any]]] = []
        self._count = count()
        self._out = memoryview(bytearray(65_536))

    def wall(self) -> int:
        return WALL_START + int((self.now - 1000.0) * 1e6)

    def side(self, name: str, address: Address | None = None) -> Side:
        side = Side(self, name, self.seed, address)
        self.sides[side.address] = side
        return side

    def inject(self, source: Address, target: Address, datagram: bytes, delay: float = 0.0) -> None:
        heapq.heappush(self._flying, (self.now + delay, next(self._count), source, target, datagram))

    def after(self, seconds: float, action: Callable[[], Any]) -> None:
        """Has `action` called in virtual time."""
        heapq.heappush(self._timers, (self.now + seconds, next(self._count), action))

    def run(self, seconds: float = 10.0, until: Callable[[], bool] | None = None) -> bool:
        """Lets time pass until `until()` or for `seconds`. True if `until` was reached."""
        end = self.now + seconds
        stuck = 0
        while True:
            self._turns()
            if until is not None and until():
                return True
            times = [side.endpoint.deadline() for side in self.sides.values()]
            times.append(self._flying[0][0] if self._flying else None)
            times.append(self._timers[0][0] if self._timers else None)
            due = min((time for time in times if time is not None), default=None)
            if due is None or due > end:
                self.now = end
                return until is None
            stuck = stuck + 1 if due <= self.now else 0
            assert stuck <= TURNS_LIMIT, self._busy()
            self.now = max(self.now, due)
            self._deliver()
            while self._timers and self._timers[0][0] <= self.now:
                heapq.heappop(self._timers)[2]()
            for side in list(self.sides.values()):
                deadline = side.endpoint.deadline()
                if deadline is not None and deadline <= self.now:
                    side.endpoint.expire(self.now)

    def _busy(self) -> str:
        sessions = [
            (side.name, session.deadline(), session.deadlines() if hasattr(session, "deadlines") else "")
            for side in self.sides.values()
            for session in side.endpoint._sessions.values()
        ]
        deadlines = {side.name: side.endpoint.deadline() for side in self.sides.values()}
        return f"time stands still at {self.now}: {deadlines} {sessions}"

    def _turns(self) -> None:
        busy = True
        turns = 0
        while busy:
            busy = False
            turns += 1
            assert turns <= TURNS_LIMIT, "events without end"
            for side in list(self.sides.values()):
                busy = self._dispatch(side) or busy
                trains = 0
                while (train := side.endpoint.transmit(self.now, self._out)) is not None:
                    busy = True
                    trains += 1
                    assert trains <= TRAINS_LIMIT, "transmit without end"
                    assert 0 < train.segment <= train.size <= 65_507
                    for start in range(0, train.size, train.segment):
                        stop = min(start + train.segment, train.size)
                        self._fly(side.address, train.remote, bytes(self._out[start:stop]))
                busy = self._dispatch(side) or busy

    def _dispatch(self, side: Side) -> bool:
        events = side.endpoint.events()
        for event in events:
            side.events.append(event)
            if side.on_event is not None:
                side.on_event(event)
        return bool(events)

    def _fly(self, source: Address, target: Address, datagram: bytes) -> None:
        self.sent_bytes += len(datagram)
        self.datagrams += 1
        if self.trace is not None:
            self.trace.append((self.now, source[0], len(datagram)))
        if self.recorded is not None:
            self.recorded.append((source, target, datagram))
        if len(datagram) > self.mtu or self.blocked(source, target) or self.random.random() < self.loss:
            return
        if self.tap is not None:
            changed = self.tap(source, target, datagram)
            if changed is None:
                return
            datagram = changed
        if self.corrupt and self.random.random() < self.corrupt:
            at = self.random.randrange(len(datagram))
            datagram = datagram[:at] + bytes([datagram[at] ^ (1 << self.random.randrange(8))]) + datagram[at + 1 :]
        delay = self.delays.get(frozenset((source, target)), self.delay)
        for _ in range(2 if self.random.random() < self.duplicate else 1):
            self.inject(source, target, datagram, delay + self.random.random() * self.jitter)

    def _deliver(self) -> None:
        flying = self._flying
        while flying and flying[0][0] <= self.now:
            _, _, source, target, datagram = heapq.heappop(flying)
            train, segment = bytearray(datagram), len(datagram)
            # Equal datagrams that arrive together come as one train, as GRO delivers them.
            while flying and flying[0][0] <= self.now and flying[0][2:4] == (source, target) and len(train) < 60_000:
                size = len(flying[0][4])
                if size > segment:
                    break
                train += heapq.heappop(flying)[4]
                if size < segment:
                    break
            side = self.sides.get(target)
            if side is not None and train:
                side.endpoint.receive(self.now, memoryview(train), segment, 0, source)


def _address(name: str) -> Address:
    """An endpoint of its own for every name."""
    number = zlib.crc32(name.encode())
    return f"198.18.{number >> 8 & 255}.{number & 255}", 4000


def admit(event: Event) -> None:
    if isinstance(event, ConnectionLive):
        event.connection.admit()


class Chatter:
    """A stream from one side to the other with something on it all the time."""

    def __init__(self, wire: Wire, source: Side, target: Side, *, pause: float = 0.2, size: int = 1000) -> None:
        self.wire, self.source, self.target = wire, source, target
        self.random = random.Random(5)
        self.pause, self.size = pause, size
        self.sent, self.received = bytearray(), bytearray()
        self.stream: Stream = source.connection(target).open("chatter")
        self.running = True
        before = target.on_event

        def on_event(event: Event) -> None:
            if before is not None:
                before(event)
            if isinstance(event, StreamReadable) and event.stream.id == self.stream.id:
                self.received.extend(event.stream.read())

        target.on_event = on_event
        self._tick()

    def _tick(self) -> None:
        if self.running:
            data = self.random.randbytes(self.size)
            self.sent += data
            self.stream.write(data)
            self.wire.after(self.pause, self._tick)

    def stop(self) -> None:
        self.running = False
        assert self.wire.run(15, until=lambda: len(self.received) == len(self.sent)), len(self.received)
        assert self.received == self.sent
