"""What a relay passes on: packets, and handshakes made for their target, no faster than anybody needs."""

from __future__ import annotations

import pytest

from covey.core import limits
from covey.core.connection import Connection
from covey.core.handshake import Attempt, Target
from covey.core.path import Route
from covey.core.relay_filter import OTHER_KEYS_BURST, OTHER_KEYS_RATE, RelayFilter
from covey.crypto.credentials import TRANSPORT_KEYS_LIMIT, Credentials
from covey.crypto.keys import TransportKey
from covey.crypto.mac import mac1, mac1_key
from covey.wire.datagram import (
    COOKIE_REPLY,
    COOKIE_REPLY_SIZE,
    INITIATION_SIZE,
    PACKET,
    RECORD_REQUEST_SIZE,
    RECORD_RESPONSE,
    RELAYED,
    RESPONSE,
    RecordRequest,
)
from tests.core.pair import WALL_START, Side, Wire

NOW, CIRCUIT = 50.0, 7


def sides() -> tuple[Side, Side]:
    wire = Wire(1)
    return wire.side("a"), wire.side("b")


def target(side: Side) -> Connection:
    """The relay's connection with `side`."""
    return Connection(side.identity, side.identity, bytes(8), lambda event: None)


def initiation(source: Side, to: Target, number: int = 1) -> memoryview:
    attempt = Attempt(to, bytes(8), [], NOW, NOW)
    attempt.initiate(NOW, source.credentials, TransportKey(number.to_bytes(32, "big")), number, WALL_START)
    return memoryview(attempt.datagram(NOW, Route(0, ("10.0.0.1", 1))))


def request(identity: bytes, key: bytes) -> memoryview:
    prefix = RecordRequest.prefix(bytes(8), identity)
    return memoryview(RecordRequest.finish(prefix + mac1(mac1_key(key), prefix)))


def passed(screen: RelayFilter, client: Connection, datagram: memoryview, times: int, now: float = NOW) -> int:
    return sum(screen.passes(now, CIRCUIT, client, datagram) for _ in range(times))


def test_initiations_for_a_known_key_pass_at_the_rate_of_a_source() -> None:
    a, b = sides()
    screen, client = RelayFilter(), target(b)
    screen.learn(client, b.target.transport_key)
    datagram = initiation(a, b.target)
    assert passed(screen, client, datagram, 100) == limits.SOURCE_BURST
    assert sum(passed(screen, client, datagram, 5, NOW + step / 10) for step in range(1, 11)) == limits.SOURCE_RATE


def test_initiations_for_an_unknown_key_pass_once_a_second() -> None:
    a, b = sides()
    screen, client = RelayFilter(), target(b)
    screen.learn(client, TransportKey(b"\7" * 32).public)
    datagram = initiation(a, b.target)
    assert passed(screen, client, datagram, 100) == OTHER_KEYS_BURST
    later = sum(passed(screen, client, datagram, 5, NOW + step / 10) for step in range(1, 101))
    assert later == pytest.approx(10 * OTHER_KEYS_RATE, abs=1)


def test_rubbish_does_not_use_up_the_rate_of_what_fits() -> None:
    a, b = sides()
    screen, client = RelayFilter(), target(b)
    screen.learn(client, b.target.transport_key)
    good = initiation(a, b.target)
    rubbish = memoryview(bytes(good[:100]) + bytes(INITIATION_SIZE - 100))
    passed(screen, client, rubbish, 1000)
    assert passed(screen, client, good, 1) == 1


def test_every_live_key_of_a_client_fits_and_older_ones_are_forgotten() -> None:
    a, b = sides()
    screen, client = RelayFilter(), target(b)
    credentials: Credentials = b.credentials
    keys = [credentials.current.key.public]
    for number in range(TRANSPORT_KEYS_LIMIT):
        credentials = credentials.rotate_transport(bytes([number + 1]) * 32, WALL_START)
        keys.append(credentials.current.key.public)
    for key in keys:
        screen.learn(client, key)
        screen.learn(client, key)
    live = [initiation(a, Target(b.identity, key), place + 1) for place, key in enumerate(keys)]
    passed(screen, client, live[0], 10)
    assert not screen.passes(NOW, CIRCUIT, client, live[0])
    assert all(screen.passes(NOW, CIRCUIT, client, each) for each in live[1:])


def test_directions_and_circuits_have_rates_of_their_own() -> None:
    a, b = sides()
    screen, to_a, to_b = RelayFilter(), target(a), target(b)
    screen.learn(to_a, a.target.transport_key)
    screen.learn(to_b, b.target.transport_key)
    passed(screen, to_b, initiation(a, b.target), 100)
    assert passed(screen, to_a, initiation(b, a.target), 1) == 1
    assert screen.passes(NOW, CIRCUIT + 1, to_b, initiation(a, b.target))


def test_record_requests_pass_for_the_identity_of_the_client_only() -> None:
    a, b = sides()
    screen, client = RelayFilter(), target(b)
    assert passed(screen, client, request(b.identity, a.identity), 100) == 0
    assert passed(screen, client, request(a.identity, a.identity), 100) == 0
    assert passed(screen, client, request(b.identity, b.identity), 100) == limits.SOURCE_BURST


SIZES = {
    "packet": (PACKET, 1400, True),
    "response": (RESPONSE, INITIATION_SIZE, True),
    "longer response": (RESPONSE, INITIATION_SIZE + 1, False),
    "cookie": (COOKIE_REPLY, COOKIE_REPLY_SIZE, True),
    "longer cookie": (COOKIE_REPLY, COOKIE_REPLY_SIZE + 1, False),
    "record": (RECORD_RESPONSE, RECORD_REQUEST_SIZE, True),
    "longer record": (RECORD_RESPONSE, RECORD_REQUEST_SIZE + 1, False),
    "relayed again": (RELAYED, 100, False),
    "nothing known": (0x7F, 100, False),
    "short initiation": (1, INITIATION_SIZE - 1, False),
    "short record request": (6, RECORD_REQUEST_SIZE - 1, False),
}


@pytest.mark.parametrize(("kind", "size", "expected"), SIZES.values(), ids=SIZES.keys())
def test_datagrams_pass_by_kind_and_size(kind: int, size: int, expected: bool) -> None:
    _, b = sides()
    screen, client = RelayFilter(), target(b)
    assert screen.passes(NOW, CIRCUIT, client, memoryview(bytes([kind]) + bytes(size - 1))) is expected


def test_keys_of_a_client_that_is_gone_are_forgotten() -> None:
    _, b = sides()
    screen, client = RelayFilter(), target(b)
    screen.learn(client, b.target.transport_key)
    screen.forget(client)
    assert len(screen) == 0
    screen.forget(client)
