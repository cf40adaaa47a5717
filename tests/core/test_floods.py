"""Floods of handshakes against one endpoint, while a trusted peer connects (PROTOCOL 15).

Every attacker here knows the endpoint's transport key, as whoever has its record does: without it, mac1 is wrong and a
datagram costs a hash. Time is virtual, and handshakes take the time that `limits.HANDSHAKE_COST` says.
"""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import pytest

from covey.base.types import Identity
from covey.core import limits
from covey.core.events import ConnectionLive, RecordReceived
from covey.core.handshake import Attempt
from covey.core.path import Route
from covey.core.relay import RelayTable
from covey.crypto.cookie import COOKIE_SECONDS, cookie_key, mac2, seal_cookie
from covey.crypto.credentials import Credentials
from covey.crypto.events import commitment
from covey.crypto.keys import SigningKey, TransportKey
from covey.crypto.mac import MAC_SIZE, mac1, mac1_key
from covey.crypto.noise import HandshakeState
from covey.wire.datagram import (
    COOKIE_REPLY,
    COOKIE_REPLY_SIZE,
    INITIATION,
    INITIATION_SIZE,
    RECORD_REQUEST,
    RECORD_RESPONSE,
    RELAY_HEADER,
    RELAY_HEADER_SIZE,
    RELAYED,
    RESPONSE,
    CookieReply,
    Initiation,
    RecordRequest,
    Response,
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


def begun(side: Side) -> int:
    """Sessions that there are, and those that the next packet makes."""
    return len(side.endpoint._sessions) + len(side.endpoint.sessions.half_open)


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
    """Attackers that listen: they take the cookies they are sent, and send real initiations with real proofs.

    Hosts of their own, or circuits that a hostile relay made up.
    """

    def __init__(self, wire: Wire, target: Side, routes: list[Route]) -> None:
        self.wire, self.target, self.routes = wire, target, routes
        self.answered = 0
        self._pool = cycle(initiations(target, 600))
        self._cookies: dict[Route, bytes] = {}
        by_address = {route.remote: route for route in routes}

        def listen(_: Address, to: Address, datagram: bytes) -> bytes:
            route = by_address.get(to)
            if route is not None and route.circuit and datagram[0] == RELAYED:
                route, datagram = Route(0, to, RELAY_HEADER.unpack_from(datagram)[3]), datagram[RELAY_HEADER_SIZE:]
            if route is not None:
                self._hear(route, datagram)
            return datagram

        wire.tap = listen

    def attack(self, seconds: float, per_source: float = 25.0) -> None:
        """Each source a little faster than it is allowed to."""
        for number in range(int(seconds * per_source)):
            for place, route in enumerate(self.routes):
                self.wire.after((number + place / len(self.routes)) / per_source, partial(self._send, route))

    def _send(self, route: Route) -> None:
        raw = next(self._pool)
        cookie = self._cookies.get(route)
        if cookie is not None:
            raw = Initiation.finish(raw[:-MAC_SIZE], mac2(cookie, raw[:-MAC_SIZE]))
        if route.circuit:
            raw = RELAY_HEADER.pack(RELAYED, 0, 0, route.circuit) + raw
        self.wire.inject(route.remote, self.target.address, raw, 0.001)

    def _hear(self, route: Route, datagram: bytes) -> None:
        if datagram[0] == RESPONSE:
            self.answered += 1
        elif datagram[0] == COOKIE_REPLY:
            # What opening it would give: the attacker knows the key and what it sent.
            self._cookies[route] = self.target.endpoint.handshakes._admission.cookie(self.wire.now, route)


def hosts(count: int) -> list[Route]:
    return [Route(0, (f"10.77.{number // 250}.{number % 250 + 1}", 7000)) for number in range(count)]


def test_trusted_peer_connects_while_two_hundred_hosts_flood_with_good_cookies() -> None:
    """More than twice what a core can answer, all of it proven and within its rate: sources take turns."""
    wire, a, b = world()
    swarm = Swarm(wire, b, hosts(200))
    swarm.attack(2.0)
    wire.run(0.8)
    assert swarm.answered > 100
    assert b.endpoint.handshakes.loaded(wire.now)
    assert connect_seconds(wire, a, b) < 0.5


def test_relay_that_makes_up_circuits_delays_nobody_who_comes_another_way() -> None:
    wire, a, b = world()
    b.endpoint.relays[R] = Identity(b"r" * 32)
    swarm = Swarm(wire, b, [Route(0, R, number) for number in range(1, 400)])
    swarm.attack(3.0, 12.0)
    wire.run(0.8)
    assert swarm.answered > 100
    assert b.endpoint.handshakes.loaded(wire.now)
    assert connect_seconds(wire, a, b) < IDLE_SECONDS + 0.03


def test_trusted_peer_connects_through_the_relay_from_behind_which_others_flood() -> None:
    """Sixty attackers with a circuit each send what they can; the relay and b each let through what is fair."""
    wire, a, b = world()
    relaying = wire.side("r", R)
    table = relaying.endpoint.relay = RelayTable()
    attackers = [wire.side(f"x{number}", (f"10.88.0.{number + 1}", 4000)) for number in range(60)]
    for side in (a, b, *attackers):
        side.endpoint.relays[R] = relaying.identity
        side.connect(relaying)
    wire.run(3)
    assert len(relaying.of(ConnectionLive)) == 62
    circuits = [
        table.open(wire.now, relaying.connection(side), relaying.connection(b), 100 + number)
        for number, side in enumerate((a, *attackers))
    ]
    source = random.Random(4)
    before = begun(b)
    for number in range(int(PER_SECOND * 1.5)):
        place = number % len(attackers)
        raw = RELAY_HEADER.pack(RELAYED, 0, 0, circuits[place + 1]) + junk(b, source)
        wire.inject(attackers[place].address, R, raw, number / PER_SECOND)
    wire.run(0.5)
    assert b.endpoint.handshakes.loaded(wire.now)
    assert relaying.endpoint.relay.dropped_bytes > 1000 * INITIATION_SIZE
    assert connect_seconds(wire, a, b, Route(0, R, circuits[0])) < 2 * IDLE_SECONDS + 0.04 + 0.03
    assert begun(b) == before + 1


def test_trusted_peer_that_was_there_before_does_not_wait_with_those_who_were_not() -> None:
    wire, a, b = world()
    connect_seconds(wire, a, b)
    a.endpoint.close(wire.now, a.connection(b))
    wire.run(1)
    Swarm(wire, b, hosts(200)).attack(2.0)
    wire.run(0.8)
    assert b.endpoint.handshakes.loaded(wire.now)
    assert connect_seconds(wire, a, b) < IDLE_SECONDS + 0.03


def test_trusted_peer_of_an_earlier_life_does_not_wait_with_strangers_either() -> None:
    wire, a, b = world()
    b.endpoint.handshakes.expect(A)
    Swarm(wire, b, hosts(200)).attack(2.0)
    wire.run(0.8)
    assert b.endpoint.handshakes.loaded(wire.now)
    assert connect_seconds(wire, a, b) < IDLE_SECONDS + 0.03


def long_log(side: Side, events: int) -> None:
    """Gives a side an identity that rotated its root so often."""
    credentials, roots = Credentials.create(side.source.randbytes, WALL_START)
    root = roots.next_root
    for _ in range(events - 1):
        following = SigningKey(side.source.randbytes(32))
        credentials = credentials.rotate_root(root, commitment(following.public), side.source.randbytes(32), WALL_START)
        root = following
    side.credentials = side.endpoint.credentials = credentials.rotate_transport(side.source.randbytes(32), WALL_START)


def test_one_host_does_not_have_us_verify_long_logs_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first agent at an address is believed however long its log; the next ones there have to wait."""
    monkeypatch.setattr(limits, "LOG_BURST", 4_000.0)
    monkeypatch.setattr(limits, "LOG_RATE", 100.0)
    wire, a, b = world()
    strangers = [wire.side(f"s{number}", ("10.55.0.1", 4000 + number)) for number in range(4)]
    elsewhere = wire.side("elsewhere", ("10.55.0.2", 4000))
    for side in (*strangers, elsewhere):
        long_log(side, 20)
        side.connect(b)
        wire.run(1)
    believed = {event.connection.peer for event in b.of(ConnectionLive)}
    assert believed == {strangers[0].identity, elsewhere.identity}
    assert connect_seconds(wire, a, b) < IDLE_SECONDS


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
    assert len(b.endpoint.sessions.half_open) == limits.HALF_OPEN_LIMIT // 2


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


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_flood_of_forged_sources_leaves_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as many sources as there is room for: every table is full and none is larger."""
    monkeypatch.setattr(limits, "SOURCES_LIMIT", 500)
    _, _, b = world()
    source = random.Random(5)
    datagrams = [memoryview(junk(b, source)) for _ in range(500)]
    out = memoryview(bytearray(65_536))

    def attack(first: int) -> None:
        for number in range(first, first + 5000):
            now = 1000.0 + number / 10_000
            b.endpoint.receive(now, datagrams[number % 500], INITIATION_SIZE, 0, forged(number))
            if number % 32 == 0:
                b.endpoint.expire(now)
            while b.endpoint.transmit(now, out) is not None:
                pass

    attack(0)
    tracemalloc.start()
    try:
        attack(5000)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    handshakes = b.endpoint.handshakes
    assert len(handshakes._admission) <= 3 * 500
    assert handshakes.waiting <= limits.BACKLOG_LANE
    assert (handshakes.half_open, b.endpoint._sessions, b.endpoint.connections) == (0, {}, {})
    assert grown < 400_000
    assert not b.endpoint.events()


def every_request(side: Side) -> dict[str, bytes]:
    """One of each kind of datagram that a stranger may hope to be answered."""
    prefix = RecordRequest.prefix(b"n" * 8, side.identity)
    return {
        "initiation": next(initiations(side, 1)),
        "junk": junk(side, random.Random(6)),
        "record request": RecordRequest.finish(prefix + mac1(mac1_key(side.identity), prefix)),
        "packet": bytes([4]) + bytes(1199),
        "response": bytes([2, 1, 0, 0]) + bytes(442),
        "cookie": CookieReply(bytes(8), bytes(12), bytes(32)).encode(),
        "relayed": bytes([5, 0, 0, 0, 0, 0, 0, 1]) + next(initiations(side, 1, 7)),
    }


@pytest.mark.parametrize("loaded", [False, True], ids=["idle", "under load"])
def test_nothing_that_is_sent_back_is_larger_than_what_came(loaded: bool) -> None:
    """Nor more of it: all that is ever sent to whoever sent one datagram and nothing else."""
    wire, _, b = world()
    b.endpoint.record = bytes(900)
    b.endpoint.relays[("10.5.0.8", 1)] = Identity(b"r" * 32)
    requests = every_request(b)
    if loaded:
        flood(wire, b, forged, 1.0)
        wire.run(0.9)
    answered = set()
    for number, (name, request) in enumerate(requests.items()):
        source = ("10.5.0.8" if name == "relayed" else "10.5.0.1", 1 if name == "relayed" else 100 + number)
        wire.inject(source, B, request)
    wire.run(20)
    for number, (name, request) in enumerate(requests.items()):
        source = ("10.5.0.8" if name == "relayed" else "10.5.0.1", 1 if name == "relayed" else 100 + number)
        sent = [datagram for _, target, datagram in wire.recorded or [] if target == source]
        assert sum(map(len, sent)) <= len(request), name
        answered |= {name} if sent else set()
    assert answered >= {"initiation", "record request", "relayed"}


# --- cookies --------------------------------------------------------------------------------------------------------


def loaded_world() -> tuple[Wire, Side, Side]:
    """b is under load for a while, by somebody who proves nothing."""
    wire, a, b = world()
    flood(wire, b, one, 3.0)
    wire.run(0.3)
    assert b.endpoint.handshakes.loaded(wire.now)
    wire.recorded = []
    return wire, a, b


def from_a(wire: Wire) -> list[bytes]:
    return [datagram for source, _, datagram in wire.recorded or [] if source == A and datagram[0] == INITIATION]


def to_a(wire: Wire, kind: int) -> list[bytes]:
    return [datagram for _, target, datagram in wire.recorded or [] if target == A and datagram[0] == kind]


def test_initiator_answers_a_cookie_at_once_with_a_fresh_message() -> None:
    wire, a, b = loaded_world()
    assert connect_seconds(wire, a, b) < limits.HANDSHAKE_RETRY
    first, second = map(Initiation.parse, from_a(wire))
    assert (first.mac2, second.mac2 == bytes(MAC_SIZE)) == (bytes(MAC_SIZE), False)
    assert first.sender_index != second.sender_index
    assert first.noise[:32] != second.noise[:32]
    (reply,) = to_a(wire, COOKIE_REPLY)
    assert len(reply) == COOKIE_REPLY_SIZE


def test_cookie_is_used_until_it_expires() -> None:
    wire, a, b = loaded_world()
    wire.blocked = lambda source, target: source == A and len(from_a(wire)) > 1
    a.connect(b)
    wire.run(3)
    sent = [Initiation.parse(raw) for raw in from_a(wire)]
    assert len(sent) >= 4
    assert len({message.mac2 for message in sent}) == len(sent)
    assert len(to_a(wire, COOKIE_REPLY)) == 1


def test_cookie_that_is_not_for_our_message_is_ignored() -> None:
    wire, a, b = loaded_world()
    wire.blocked = lambda source, target: source == B
    a.connect(b)
    wire.run(0.01)
    (raw,) = from_a(wire)
    tag = Initiation.parse(raw).mac1
    key, nonce = cookie_key(b.target.transport_key), b"n" * 12
    other_key = cookie_key(a.target.transport_key)
    for reply in (
        CookieReply(raw[4:12], nonce, seal_cookie(key, nonce, b"c" * 16, b"m" * 16)),
        CookieReply(raw[4:12], nonce, seal_cookie(other_key, nonce, b"c" * 16, tag)),
        CookieReply(raw[4:12], nonce, bytes(32)),
        CookieReply(b"\1" * 8, nonce, seal_cookie(key, nonce, b"c" * 16, tag)),
    ):
        wire.inject(B, A, reply.encode())
    wire.inject(("10.6.6.6", 6), A, CookieReply(raw[4:12], nonce, seal_cookie(key, nonce, b"c" * 16, tag)).encode())
    wire.run(0.1)
    assert from_a(wire) == [raw]


def test_false_and_repeated_cookies_of_somebody_on_the_path_cost_one_message_each_retry() -> None:
    """Who reads our message 1 and knows b's key can make a cookie that opens. It must not make us flood b."""
    wire, a, b = loaded_world()
    wire.blocked = lambda source, target: source == B
    a.connect(b)
    key, nonce = cookie_key(b.target.transport_key), b"n" * 12
    for _ in range(400):
        raw = from_a(wire)[-1] if from_a(wire) else b""
        if raw:
            reply = CookieReply(
                raw[4:12], nonce, seal_cookie(key, nonce, b"false cookie 16b", Initiation.parse(raw).mac1)
            )
            for _ in range(3):
                wire.inject(B, A, reply.encode())
        wire.run(0.005)
    retries = 1 + sum(at < 2.0 for at in (0.25, 0.75, 1.75))
    assert len(from_a(wire)) == 2 * retries
    wire.blocked = lambda source, target: False
    assert wire.run(5, until=lambda: bool(a.of(ConnectionLive)))


def test_cookie_of_a_route_is_used_on_that_route_only() -> None:
    wire, a, b = loaded_world()
    lost = ("10.0.0.77", 4000)
    a.connect(b, Route(0, B), Route(0, lost))
    wire.run(0.4)
    elsewhere = [datagram for _, target, datagram in wire.recorded or [] if target == lost]
    assert elsewhere
    assert {Initiation.parse(raw).mac2 for raw in elsewhere} == {bytes(MAC_SIZE)}


def test_message_one_with_the_mac2_of_another_source_or_time_gets_a_cookie_and_no_answer() -> None:
    wire, a, b = loaded_world()
    connect_seconds(wire, a, b)
    proven = from_a(wire)[-1]
    fresh = list(initiations(b, 2))
    gate = b.endpoint.handshakes._admission
    stolen = mac2(gate.cookie(wire.now, Route(0, A)), fresh[0][:-MAC_SIZE])
    expired = mac2(gate.cookie(wire.now - 2 * COOKIE_SECONDS, Route(0, ("10.9.0.2", 1))), fresh[1][:-MAC_SIZE])
    wire.recorded = []
    wire.inject(("10.9.0.1", 1), B, fresh[0][:-MAC_SIZE] + stolen)
    wire.inject(("10.9.0.2", 1), B, fresh[1][:-MAC_SIZE] + expired)
    wire.inject(("10.9.0.3", 1), B, fresh[1][:-MAC_SIZE] + proven[-MAC_SIZE:])
    wire.run(0.05)
    assert answers(wire, apart=(A, one(0))) == {COOKIE_REPLY: 3}


def test_proven_message_that_is_replayed_gets_the_same_answer_and_no_second_entry() -> None:
    wire, a, b = loaded_world()
    connect_seconds(wire, a, b)
    proven, sessions = from_a(wire)[-1], begun(b)
    wire.recorded = []
    for _ in range(50):
        wire.inject(A, B, proven)
    wire.run(0.05)
    assert len(set(to_a(wire, RESPONSE))) == 1
    assert begun(b) == sessions
    wire.run(limits.HALF_OPEN_LIFE)
    wire.recorded = []
    wire.inject(A, B, proven)
    wire.run(0.05)
    assert to_a(wire, RESPONSE) == []


def test_record_is_served_under_load_to_whoever_answers_the_cookie() -> None:
    wire, a, b = loaded_world()
    b.endpoint.record = b"record"
    a.endpoint.request_record(b.identity, Route(0, B))
    wire.run(0.1)
    assert [event.record for event in a.of(RecordReceived)] == [b"record"]
    assert len(to_a(wire, COOKIE_REPLY)) == len(to_a(wire, RECORD_RESPONSE)) == 1


def test_record_requests_have_the_rate_of_initiations() -> None:
    wire, _, b = loaded_world()
    b.endpoint.record = b"record"
    source = ("10.9.0.1", 1)
    for number in range(100):
        prefix = RecordRequest.prefix(number.to_bytes(8, "big"), b.identity)
        message = prefix + mac1(mac1_key(b.identity), prefix)
        tag = mac2(b.endpoint.handshakes._admission.cookie(wire.now, Route(0, source)), message)
        wire.inject(source, B, RecordRequest.finish(message, tag))
    wire.run(0.1)
    assert answers(wire, apart=(one(0),)) == {RECORD_RESPONSE: limits.SOURCE_BURST}


def test_cookie_for_a_record_request_is_answered_once() -> None:
    wire, a, b = world()
    wire.blocked = lambda source, target: source == B
    a.endpoint.request_record(b.identity, Route(0, B))
    wire.run(0.01)
    ((_, _, raw),) = wire.recorded or []
    key, nonce, tag = cookie_key(b.identity), b"n" * 12, RecordRequest.parse(raw).mac1
    reply = CookieReply(raw[4:12], nonce, seal_cookie(key, nonce, b"c" * 16, tag)).encode()
    wire.inject(("10.6.6.6", 6), A, reply)
    for _ in range(10):
        wire.inject(B, A, reply)
    wire.run(0.1)
    sent = [datagram for source, _, datagram in wire.recorded or [] if source == A and datagram[0] == RECORD_REQUEST]
    assert len(sent) == 2
    assert RecordRequest.parse(sent[1]).mac2 == mac2(b"c" * 16, sent[1][:-MAC_SIZE])


def test_false_answers_to_an_attempt_are_looked_at_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    wire, a, b = world()
    wire.blocked = lambda source, target: source == A
    a.connect(b)
    wire.run(0.01)
    index = Initiation.parse(from_a(wire)[0]).sender_index
    looked: list[int] = []
    real = HandshakeState.copy
    monkeypatch.setattr(HandshakeState, "copy", lambda state: looked.append(1) or real(state))
    source = random.Random(8)
    for _ in range(1000):
        wire.inject(B, A, Response(1, index, source.randbytes(434)).encode())
    wire.run(0.1)
    assert len(looked) == limits.FALSE_ANSWERS
    wire.blocked = lambda source, target: False
    assert wire.run(5, until=lambda: bool(a.of(ConnectionLive)))
