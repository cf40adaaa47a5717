"""Random and mutated datagrams against an endpoint in the middle of its life: nothing comes of them.

A few thousand in the default tier; a million of each in `make fuzz-long`. Fuzzing that is guided: `tests/fuzz`.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest

from covey.base.types import Identity
from covey.core.connection import Connection
from covey.core.events import ConnectionLive, StreamOffered
from covey.core.path import Route
from covey.crypto.mac import mac1, mac1_key
from covey.wire.datagram import INITIATION, MAC_SIZE, RECORD_REQUEST
from tests.core.pair import Address, Side, Wire

A, B, C, R = ("10.0.0.1", 4000), ("10.0.0.2", 4000), ("10.0.0.3", 4000), ("10.0.0.9", 4000)
FEW, MANY = 4_000, 1_000_000
AT_ONCE = 100
"""Datagrams between two turns."""
COUNTS = [FEW, pytest.param(MANY, marks=pytest.mark.slow)]


class Target:
    """b in a session with a, whom it trusts, one stream open; and every kind of datagram that it was ever sent."""

    def __init__(self) -> None:
        self.wire = Wire(1)
        self.wire.recorded = []
        self.a, self.b = self.wire.side("a", A), self.wire.side("b", B)
        for side, other in ((self.a, self.b), (self.b, self.a)):
            side.endpoint.pin(other.identity)
            side.endpoint.add_log(other.credentials.log)
            side.on_event = lambda event: event.connection.admit() if isinstance(event, ConnectionLive) else None
        self.b.endpoint.record = b"record"
        self.b.endpoint.relays[R] = Identity(b"r" * 32)
        self.stream = self.a.connect(self.b).open("s")
        self.stream.write(b"before")
        self.a.endpoint.request_record(self.b.identity, Route(0, B))
        self.b.endpoint.request_record(self.a.identity, Route(0, A))
        self.wire.run(3)
        self.genuine = [datagram for _, target, datagram in self.wire.recorded if target == B]
        assert {1, 4, 6} <= {datagram[0] for datagram in self.genuine}
        self.wire.recorded = []
        self.sent: dict[Address, int] = {}

    @property
    def session(self) -> tuple[Connection, object, int, dict[int, int]]:
        """What must stay as it is."""
        connection = self.b.connection(self.a)
        session = connection.session
        assert session is not None
        highest = {number: counters.highest for number, counters in session.acks.received.items()}
        return connection, session, session.epochs.epoch, highest

    def attack(self, count: int, make: Callable[[], bytes], source: random.Random) -> None:
        """Each datagram from the peer's own address, a stranger's, or our relay's."""
        endpoint, out = self.b.endpoint, memoryview(bytearray(65_536))
        now = self.wire.now
        for number in range(count):
            now += 1e-5
            datagram, origin = make(), source.choice((A, C, R))
            endpoint.receive(now, memoryview(datagram), max(len(datagram), 1), 0, origin)
            self.sent[origin] = self.sent.get(origin, 0) - len(datagram)
            if number % AT_ONCE == 0:
                deadline = endpoint.deadline()
                if deadline is not None and deadline <= now:
                    endpoint.expire(now)
                while (train := endpoint.transmit(now, out)) is not None:
                    self.sent[train.remote] = self.sent.get(train.remote, 0) + train.size
        self.wire.now = now

    def check(self, before: tuple[Connection, object, int, dict[int, int]]) -> None:
        wire, a, b = self.wire, self.a, self.b
        wire.run(6)
        connection, session, _, _ = self.session
        assert (connection, session) == before[:2]
        assert list(b.endpoint.connections) == [a.identity]
        assert len(b.endpoint._sessions) == 1
        assert (b.endpoint.handshakes.half_open, b.endpoint.handshakes.waiting) == (0, 0)
        assert len(b.of(ConnectionLive)) == len(b.of(StreamOffered)) == 1
        self.stream.write(b" and after")
        wire.run(2)
        (offered,) = b.of(StreamOffered)
        assert offered.stream.read() == b"before and after"


@pytest.mark.parametrize("count", COUNTS)
def test_random_datagrams_do_nothing(count: int) -> None:
    target, source = Target(), random.Random(1)
    before = target.session

    def make() -> bytes:
        size = source.choice((source.randrange(1, 64), source.randrange(1500), 1144, 1200, 1152))
        raw = source.randbytes(max(size, 1))
        return bytes([source.randrange(13)]) + raw[1:] if source.random() < 0.8 else raw

    target.attack(count, make, source)
    assert target.session == before
    target.check(before)


def remade(datagram: bytes, target: Side) -> bytes:
    """With the right mac1, as whoever knows the target's record can make it."""
    keys = {INITIATION: target.target.transport_key, RECORD_REQUEST: target.identity}
    if datagram[0] not in keys or len(datagram) < 2 * MAC_SIZE:
        return datagram
    body, tail = datagram[: -2 * MAC_SIZE], datagram[-MAC_SIZE:]
    return body + mac1(mac1_key(keys[datagram[0]]), body) + tail


@pytest.mark.parametrize("count", COUNTS)
def test_mutated_datagrams_do_nothing_but_repeat_an_answer(count: int) -> None:
    """Cut, lengthened, overwritten, bits flipped, with a right mac1 or not: all from what the target was once sent."""
    target, source = Target(), random.Random(2)
    before = target.session

    def make() -> bytes:
        raw = bytearray(source.choice(target.genuine))
        kind = source.randrange(5)
        at = source.randrange(len(raw))
        if kind == 0:
            raw[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            del raw[at:]
        elif kind == 2:
            raw += source.randbytes(source.randrange(1, 40))
        elif kind == 3:
            raw[at : at + 8] = source.randbytes(len(raw[at : at + 8]))
        else:
            raw[source.randrange(min(16, len(raw)))] = source.randrange(256)
        if source.random() < 0.1:
            raw[0:0] = bytes([5, 0, 0, 0]) + source.randbytes(4)
        made = bytes(raw) or b"\0"
        return remade(made, target.b) if source.random() < 0.1 else made

    target.attack(count, make, source)
    assert target.session == before
    # Never more to anybody than came from there.
    assert all(owed <= 0 for owed in target.sent.values())
    target.check(before)


def test_random_datagrams_leave_no_memory_behind() -> None:
    target, source = Target(), random.Random(3)

    def make() -> bytes:
        return bytes([source.randrange(13)]) + source.randbytes(1143)

    target.attack(FEW, make, source)
    tracemalloc.start()
    try:
        target.attack(FEW, make, source)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 50_000
