"""Two agents with two relays, an exchange of questions and answers, bulk beside it, and what may be cut."""

from __future__ import annotations

import random

from covey.core.events import ConnectionLive, Event, StreamOffered, StreamReadable
from covey.core.path import Route
from covey.core.relay import RelayTable
from covey.core.session import Session
from covey.core.stream import Stream
from covey.core.traffic import Traffic
from covey.wire.control import Candidate, CandidateKind
from tests.core.pair import Address, Side, Wire

A, B, C, R1, R2 = ("10.0.0.1", 4000), ("10.0.0.2", 4000), ("10.0.7.1", 4000), ("10.0.0.9", 4000), ("10.0.0.8", 4000)
RELAYS = (R1, R2)
QUESTION = 64


class World:
    """a and b, clients of two relays, with a direct path if `direct`. Behind a box one hears only whom one spoke to."""

    def __init__(
        self, seed: int = 1, *, direct: bool = True, boxes: bool = True, relays: int = 2, **wire: float
    ) -> None:
        self.wire = Wire(seed, **wire)  # type: ignore[arg-type]
        self.random = random.Random(f"failover {seed}")
        self.a, self.b = self.wire.side("a", A), self.wire.side("b", B)
        self.relays = [self.wire.side(f"r{number}", address) for number, address in enumerate(RELAYS[:relays])]
        self._relays = {relay.identity for relay in self.relays}
        self.cut: set[Address] = set()
        """Addresses that nothing reaches or leaves."""
        self.direct = direct
        self.boxes = boxes
        self.narrow = 0
        """Datagrams of so many bytes and more do not pass directly; 0 for no limit."""
        self._spoken: set[tuple[Address, Address]] = set()
        self.wire.blocked = self._blocked
        self.wire.tap = self._tap
        for side in (self.a, self.b):
            side.endpoint.set_candidates([Candidate(CandidateKind.HOST, side.address)])
            side.on_event = self._on_event
        for relay in self.relays:
            relay.endpoint.relay = RelayTable()
            for side in (self.a, self.b):
                side.endpoint.relays[relay.address] = relay.identity
                side.connect(relay)
        assert self.wire.run(5, until=lambda: all(len(relay.of(ConnectionLive)) == 2 for relay in self.relays))
        for relay in self.relays:
            for side in (self.a, self.b):
                side.connection(relay).keepalive = 25.0
        self.wire.run(1)
        routes = [Route(0, relay.address, self._circuit(relay)) for relay in self.relays]
        self.connection = self.a.connect(self.b, routes[0])
        assert self.wire.run(5, until=lambda: self.connection.session is not None)
        self.wire.run(1)
        for route in routes[1:]:
            self.a.endpoint.offer_routes(self.wire.now, self.connection, [route])
        self.wire.run(1)

    def _circuit(self, relay: Side) -> int:
        table = relay.endpoint.relay
        assert table is not None
        return table.open(self.wire.now, relay.connection(self.a), relay.connection(self.b), 0xC0FFEE)

    def _blocked(self, source: Address, target: Address) -> bool:
        if source in self.cut or target in self.cut:
            return True
        if source in RELAYS or target in RELAYS:
            return False
        self._spoken.add((source, target))
        return not self.direct or (self.boxes and (target, source) not in self._spoken)

    def _tap(self, source: Address, target: Address, datagram: bytes) -> bytes | None:
        direct = source not in RELAYS and target not in RELAYS
        return None if direct and self.narrow and len(datagram) >= self.narrow else datagram

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ConnectionLive):
            event.connection.admit(direct=event.connection.peer not in self._relays)

    def session(self, here: Side, there: Side) -> Session:
        session = here.connection(there).session
        assert session is not None
        return session

    def move(self, side: Side, address: Address, *, notice: bool) -> None:
        """Another uplink: the old one is gone, and with it all that boxes remember of it."""
        self.cut.add(side.address)
        side.move(address)
        if notice:
            side.endpoint.network_changed(self.wire.now)
            side.endpoint.set_candidates([Candidate(CandidateKind.HOST, address)])


class Exchange:
    """Questions of 64 bytes from a to b, each after the answer to the last; bulk beside it at `rate` bytes/s.

    Or one every 10 ms, answered or not, if it is `steady`.
    """

    def __init__(
        self,
        world: World,
        *,
        pause: float = 0.005,
        rate: int = 300_000,
        steady: bool = False,
        traffic: Traffic = Traffic.DEFAULT,
    ) -> None:
        self.world, self.wire = world, world.wire
        self.steady = steady
        self.pause, self.rate = pause, rate
        self.gap = 0.0
        self.answers = 0
        self.answered_at = self.wire.now
        self.running = True
        self._asked = self._heard = 0
        self.bulk_sent, self.bulk_received = bytearray(), bytearray()
        self.bulk_gap = 0.0
        self._bulk_at = self.wire.now
        self.question = world.connection.open("question")
        self.bulk = world.connection.open("bulk", traffic=traffic) if rate else None
        self._ends: dict[int, Stream] = {}
        self._source = random.Random(3)
        self._listen(world.a, self._on_a)
        self._listen(world.b, self._on_b)
        self._ask()
        if rate:
            self._pour()

    @staticmethod
    def _listen(side: Side, listener: object) -> None:
        before = side.on_event

        def on_event(event: Event) -> None:
            if before is not None:
                before(event)
            listener(event)  # type: ignore[operator]

        side.on_event = on_event

    def _ask(self) -> None:
        if self.running:
            self.question.write(self._asked.to_bytes(8, "big") * (QUESTION // 8))
            self._asked += 1
            if self.steady:
                self.wire.after(0.01, self._ask)

    def _pour(self) -> None:
        assert self.bulk is not None
        if self.running:
            data = self._source.randbytes(int(self.rate * 0.02))
            self.bulk_sent += data
            self.bulk.write(data)
            self.wire.after(0.02, self._pour)

    def _on_b(self, event: Event) -> None:
        if isinstance(event, StreamOffered | StreamReadable):
            stream = event.stream
            data = stream.read()
            if not data:
                return
            if stream.id == self.question.id:
                stream.write(bytes(data))
            elif self.bulk is not None and stream.id == self.bulk.id:
                self.bulk_gap = max(self.bulk_gap, self.wire.now - self._bulk_at)
                self._bulk_at = self.wire.now
                self.bulk_received += data

    def _on_a(self, event: Event) -> None:
        if isinstance(event, StreamReadable) and event.stream is self.question:
            self._heard += len(self.question.read())
            if self.steady or self._heard == QUESTION * self._asked:
                self.gap = max(self.gap, self.wire.now - self.answered_at)
                self.answered_at = self.wire.now
                self.answers += 1
                if not self.steady:
                    self.wire.after(self.pause, self._ask)

    def reset(self) -> None:
        self.gap = self.bulk_gap = 0.0

    def finish(self) -> None:
        """Ends it: nothing was lost, nothing came twice."""
        self.running = False
        if self.bulk is not None:
            assert self.wire.run(20, until=lambda: len(self.bulk_received) >= len(self.bulk_sent)), (
                len(self.bulk_received),
                len(self.bulk_sent),
            )
            assert self.bulk_received == self.bulk_sent
        self.gap = max(self.gap, self.wire.now - self.answered_at) if self._heard < QUESTION * self._asked else self.gap
        assert self.wire.run(20, until=lambda: self._heard == QUESTION * self._asked)
