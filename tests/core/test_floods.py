"""Floods of handshakes against one endpoint, while a trusted peer connects (PROTOCOL 15).

Every attacker here knows the endpoint's transport key, as whoever has its record does: without it, mac1 is wrong and a
datagram costs a hash. Time is virtual, and handshakes take the time that `limits.HANDSHAKE_COST` says.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from covey.core import limits
from covey.core.events import ConnectionLive
from covey.core.handshake import Attempt
from covey.core.path import Route
from covey.crypto.cookie import mac2
from covey.crypto.credentials import Credentials
from covey.crypto.keys import TransportKey
from covey.crypto.mac import mac1, mac1_key
from covey.wire.datagram import (
    COOKIE_REPLY,
    RESPONSE,
    Initiation,
)
from tests.core.pair import WALL_START, Address, Side, Wire

A, B, R = ("10.0.0.1", 4000), ("10.0.0.2", 4000), ("10.0.0.9", 4000)
PER_SECOND = 4000
"""Initiations of a flood: twice what a core can answer."""
IDLE_SECONDS = 0.045
"""A pinned peer connects in two round trips of 20 ms when nothing else happens."""

Sources = Callable[[int], Address]


def world(seed: int = 1) -> tuple[Wire, Side, Side]:
    """a and b, who trust each other and know each other's log."""
    wire = Wire(seed)
    wire.recorded = []
    a, b = wire.side("a", A), wire.side("b", B)
    for side, other in ((a, b), (b, a)):
        side.endpoint.pin(other.identity)
        side.endpoint.add_log(other.credentials.log)
    return wire, a, b


def junk(target: Side, source: random.Random) -> bytes:
    """An initiation that costs its maker one hash: its mac1 is right and nothing else."""
    key = target.target.transport_key
    prefix = Initiation.prefix(source.getrandbits(32), bytes(8), source.randbytes(1096))
    return Initiation.finish(prefix + mac1(mac1_key(key), prefix))


def initiations(target: Side, count: int, seed: int = 1) -> Iterator[bytes]:
    """Initiations of as many strangers that can be answered; nobody will confirm them."""
    source = random.Random(seed)
    credentials, _ = Credentials.create(source.randbytes, WALL_START)
    for number in range(count):
        attempt = Attempt(target.target, bytes(8), [], 0.0, 0.0)
        ephemeral = TransportKey(source.randbytes(32))
        attempt.initiate(0.0, credentials, ephemeral, source.getrandbits(32), WALL_START + number)
        yield attempt.datagram(0.0, Route(0, B))


def flood(wire: Wire, target: Side, sources: Sources, seconds: float, wrap: Callable[[bytes], bytes] = bytes) -> None:
    """`PER_SECOND` initiations a second; none of the sources listens."""
    source = random.Random(2)
    for number in range(int(PER_SECOND * seconds)):
        wire.inject(sources(number), target.address, wrap(junk(target, source)), number / PER_SECOND)


def one(number: int) -> Address:
    return ("10.66.0.1", 6000)


def ports(number: int) -> Address:
    return ("10.66.0.1", 1024 + number % 60_000)


def forged(number: int) -> Address:
    return (f"10.{66 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}", 6000)


def answers(wire: Wire, source: Address = B, apart: tuple[Address, ...] = (A, R)) -> Counter[int]:
    """Kinds of what `source` sent to others than `apart`."""
    return Counter(
        datagram[0] for origin, target, datagram in wire.recorded or [] if origin == source and target not in apart
    )


def connect_seconds(wire: Wire, a: Side, b: Side, *routes: Route) -> float:
    """How long it takes a to have a live connection with b."""
    began, before = wire.now, len(a.of(ConnectionLive))
    a.connect(b, *routes)
    assert wire.run(15, until=lambda: len(a.of(ConnectionLive)) > before), "no connection"
    return wire.now - began


# --- floods ---------------------------------------------------------------------------------------------------------


def test_trusted_peer_connects_in_two_round_trips_when_idle() -> None:
    wire, a, b = world()
    assert connect_seconds(wire, a, b) < IDLE_SECONDS


@pytest.mark.parametrize("sources", [one, ports, forged], ids=["one-source", "one-host", "forged-sources"])
def test_trusted_peer_connects_while_sources_that_prove_nothing_flood(sources: Sources) -> None:
    """At the cost of one more round trip, for its cookie, and of what was taken before there was load."""
    wire, a, b = world()
    flood(wire, b, sources, 1.5)
    wire.run(0.5)
    assert b.endpoint.handshakes.loaded(wire.now)
    assert connect_seconds(wire, a, b) < IDLE_SECONDS + 0.02 + limits.LOAD_ITEMS * limits.HANDSHAKE_COST
    assert answers(wire)[RESPONSE] == 0


@pytest.mark.parametrize("sources", [one, ports])
def test_one_source_gets_no_more_cookies_than_initiations_it_may_send(sources: Sources) -> None:
    wire, _, b = world()
    flood(wire, b, sources, 2.0)
    wire.run(2.5)
    assert answers(wire)[COOKIE_REPLY] <= limits.SOURCE_BURST + 2 * limits.SOURCE_RATE + 1
    assert set(answers(wire)) <= {COOKIE_REPLY}


class Swarm:
    """Attackers that listen: they take the cookies they are sent, and send real initiations with real proofs."""

    def __init__(self, wire: Wire, target: Side, count: int) -> None:
        self.wire, self.target = wire, target
        self.answered = 0
        self._source = random.Random(3)
        self._pool = list(initiations(target, 600))
        self._at = 0
        self._cookies: dict[Address, bytes] = {}
        self.hosts = [(f"10.77.{number // 250}.{number % 250 + 1}", 7000) for number in range(count)]
        tap = wire.tap

        def listen(source: Address, to: Address, datagram: bytes) -> bytes | None:
            if to[0].startswith("10.77."):
                self._hear(to, datagram)
            return datagram if tap is None else tap(source, to, datagram)

        wire.tap = listen

    def attack(self, seconds: float, per_host: float = 25.0) -> None:
        """Each host a little faster than it is allowed to."""
        for number in range(int(seconds * per_host)):
            for place, host in enumerate(self.hosts):
                at = (number + place / len(self.hosts)) / per_host
                self.wire.after(at, lambda host=host: self._send(host))  # type: ignore[misc]

    def _send(self, host: Address) -> None:
        raw = self._pool[self._at % len(self._pool)]
        self._at += 1
        cookie = self._cookies.get(host)
        if cookie is not None:
            raw = Initiation.finish(raw[:-16], mac2(cookie, raw[:-16]))
        self.wire.inject(host, self.target.address, raw, 0.001)

    def _hear(self, host: Address, datagram: bytes) -> None:
        if datagram[0] == RESPONSE:
            self.answered += 1
        elif datagram[0] == COOKIE_REPLY:
            # What opening it would give; the attacker knows the key and what it sent.
            self._cookies[host] = self.target.endpoint.handshakes._admission.cookie(self.wire.now, Route(0, host))


def test_trusted_peer_connects_while_two_hundred_hosts_flood_with_good_cookies() -> None:
    """More than twice what a core can answer, all of it proven and within its rate: sources take turns."""
    wire, a, b = world()
    swarm = Swarm(wire, b, 200)
    swarm.attack(3.0)
    wire.run(1.5)
    assert swarm.answered > 100
    assert b.endpoint.handshakes.loaded(wire.now)
    assert connect_seconds(wire, a, b) < 0.5


def test_trusted_peer_that_was_there_before_does_not_wait_with_those_who_were_not() -> None:
    wire, a, b = world()
    connect_seconds(wire, a, b)
    a.endpoint.close(wire.now, a.connection(b))
    wire.run(1)
    Swarm(wire, b, 200).attack(3.0)
    wire.run(1.5)
    assert b.endpoint.handshakes.loaded(wire.now)
    assert connect_seconds(wire, a, b) < IDLE_SECONDS + 0.03


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """No load, however much waits: every initiation is answered."""
    monkeypatch.setattr(limits, "LOAD_ITEMS", 1 << 30)
    monkeypatch.setattr(limits, "LOAD_SECONDS", 1e9)


@pytest.mark.usefixtures("unlimited")
def test_strangers_that_flood_leave_half_of_the_half_open_places() -> None:
    wire, _, b = world()
    for raw in initiations(b, 3 * limits.HALF_OPEN_LIMIT):
        wire.inject(one(0), B, raw, wire.random.random())
    wire.run(1.0)
    assert b.endpoint.handshakes.half_open == limits.HALF_OPEN_LIMIT // 2
    assert len(b.endpoint._sessions) == limits.HALF_OPEN_LIMIT // 2


@pytest.mark.usefixtures("unlimited")
def test_half_open_handshake_of_a_trusted_peer_is_not_pushed_out_by_strangers() -> None:
    wire, a, b = world()
    wire.delays[frozenset((A, B))] = 0.5
    a.connect(b)
    wire.run(0.6)
    assert b.endpoint.handshakes.half_open > 0
    for raw in initiations(b, limits.HALF_OPEN_LIMIT):
        wire.inject(one(0), B, raw, 0.3 * wire.random.random())
    wire.run(1.5)
    assert len(b.of(ConnectionLive)) == 1
