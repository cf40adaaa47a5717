"""Endpoints on a wire of lists: the core without asyncio, sockets or a real clock.

`Wire` moves trains between endpoints in virtual time, drops, delays, duplicates and reorders datagrams by a seeded
random source, and records what it moved. For whole nodes there is `covey.testing`; this is for the core alone.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count

from covey.core.endpoint import Endpoint
from covey.core.events import Event
from covey.core.handshake import Target
from covey.core.path import Route
from covey.crypto.credentials import Credentials

WALL_START = 1_800_000_000_000_000


class Side:
    """One endpoint, its address, and the events it gave."""

    def __init__(self, wire: Wire, name: str, seed: int) -> None:
        source = random.Random(f"{name} {seed}")
        self.wire = wire
        self.name = name
        self.address = (name, 4000)
        self.credentials, _ = Credentials.create(source.randbytes, WALL_START)
        self.endpoint = Endpoint(self.credentials, wall=wire.wall, random=source.randbytes)
        self.endpoint.set_ports([(0, 4)])
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] | None = None

    @property
    def identity(self) -> bytes:
        return self.credentials.identity

    @property
    def target(self) -> Target:
        return Target(self.credentials.identity, self.credentials.current.key.public)

    def connect(self, other: Side):
        return self.endpoint.connect(self.wire.now, other.target, [Route(0, other.address)])

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


class Wire:
    """Connects sides by address. All impairments are probabilities per datagram; `delay` and `jitter` are seconds."""

    def __init__(self, seed: int = 0, *, delay: float = 0.01, jitter: float = 0.0, loss: float = 0.0,
                 duplicate: float = 0.0, corrupt: float = 0.0, mtu: int = 65_535) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.now = 1000.0
        self.delay, self.jitter, self.loss = delay, jitter, loss
        self.duplicate, self.corrupt, self.mtu = duplicate, corrupt, mtu
        self.sides: dict[tuple[str, int], Side] = {}
        self.blocked: Callable[[tuple[str, int], tuple[str, int]], bool] = lambda source, target: False
        self.tap: Callable[[tuple[str, int], tuple[str, int], bytes], bytes | None] | None = None
        self.sent_bytes = 0
        self.datagrams = 0
        self._flying: list[tuple[float, int, tuple[str, int], tuple[str, int], bytes]] = []
        self._count = count()
        self._out = memoryview(bytearray(65_536))

    def wall(self) -> int:
        return WALL_START + int((self.now - 1000.0) * 1e6)

    def side(self, name: str) -> Side:
        side = Side(self, name, self.seed)
        self.sides[side.address] = side
        return side

    def inject(self, source: tuple[str, int], target: tuple[str, int], datagram: bytes, delay: float = 0.0) -> None:
        heapq.heappush(self._flying, (self.now + delay, next(self._count), source, target, datagram))

    def run(self, seconds: float = 10.0, until: Callable[[], bool] | None = None) -> bool:
        """Lets time pass until `until()` or for `seconds`. True if `until` was reached."""
        end = self.now + seconds
        while True:
            self._turns()
            if until is not None and until():
                return True
            times = [side.endpoint.deadline() for side in self.sides.values()]
            times.append(self._flying[0][0] if self._flying else None)
            due = min((time for time in times if time is not None), default=None)
            if due is None or due > end:
                self.now = end
                return until is None
            self.now = max(self.now, due)
            self._deliver()
            for side in self.sides.values():
                deadline = side.endpoint.deadline()
                if deadline is not None and deadline <= self.now:
                    side.endpoint.expire(self.now)

    def _turns(self) -> None:
        busy = True
        while busy:
            busy = False
            for side in list(self.sides.values()):
                busy = self._dispatch(side) or busy
                while (train := side.endpoint.transmit(self.now, self._out)) is not None:
                    busy = True
                    for start in range(0, train.size, train.segment):
                        self._fly(side.address, train.remote, bytes(self._out[start : min(start + train.segment, train.size)]))
                busy = self._dispatch(side) or busy

    def _dispatch(self, side: Side) -> bool:
        events = side.endpoint.events()
        for event in events:
            side.events.append(event)
            if side.on_event is not None:
                side.on_event(event)
        return bool(events)

    def _fly(self, source: tuple[str, int], target: tuple[str, int], datagram: bytes) -> None:
        self.sent_bytes += len(datagram)
        self.datagrams += 1
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
        for _ in range(2 if self.random.random() < self.duplicate else 1):
            self.inject(source, target, datagram, self.delay + self.random.random() * self.jitter)

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
            if side is not None:
                side.endpoint.receive(self.now, memoryview(train), segment, 0, source)
