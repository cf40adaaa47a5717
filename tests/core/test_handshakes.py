"""What message 1 and 2 do and do not do (PROTOCOL 10 to 12), between whole endpoints."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from covey.core import limits
from covey.core.events import (
    ConnectionClosed,
    ConnectionLive,
    ConnectionStalled,
    HandshakeConfirmed,
    HandshakeFailed,
    StreamOffered,
)
from covey.core.handshake import Attempt, Target
from covey.core.path import Route
from covey.core.session import CloseCode
from covey.core.stream import StreamCode
from covey.crypto.certificates import TransportCertificate
from covey.crypto.credentials import Credentials, TransportPair
from covey.crypto.keys import TransportKey
from covey.wire.datagram import INITIATION, INITIATION_SIZE, RESPONSE, Response
from tests.core.pair import WALL_START, Address, Side, Wire

A, B = ("10.0.0.1", 4000), ("10.0.0.2", 4000)
MINUTE = 60_000_000


def pair(seed: int = 1) -> tuple[Wire, Side, Side]:
    wire = Wire(seed)
    wire.recorded = []
    return wire, wire.side("a", A), wire.side("b", B)


def know(a: Side, b: Side, *, pinned: bool = True) -> None:
    """Both have each other's log, as after an earlier meeting."""
    for side, other in ((a, b), (b, a)):
        side.endpoint.pin(other.identity, pinned=pinned)
        side.endpoint.add_log(other.credentials.log)


def sent(wire: Wire, kind: int, source: Address) -> list[bytes]:
    assert wire.recorded is not None
    return [datagram for origin, _, datagram in wire.recorded if origin == source and datagram[0] == kind]


def use(side: Side, credentials: Credentials) -> None:
    side.credentials = side.endpoint.credentials = credentials


# --- silence --------------------------------------------------------------------------------------------------------


def change(index: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:index] + bytes([raw[index] ^ 1]) + raw[index + 1 :]


SILENT = {
    "one bit of the sender index": change(4),
    "one bit of the psk tag": change(8),
    "one bit of the ephemeral": change(20),
    "one bit of the payload": change(500),
    "one bit of mac1": change(INITIATION_SIZE - 32),
    "a byte less": lambda raw: raw[:-1],
    "a byte more": lambda raw: raw + b"\0",
    "another version": change(1),
}


@pytest.mark.parametrize("damage", SILENT.values(), ids=SILENT.keys())
def test_initiation_that_is_not_right_gets_silence_and_costs_nothing(damage: Callable[[bytes], bytes]) -> None:
    wire, a, b = pair()
    wire.tap = lambda source, target, datagram: damage(datagram)
    a.connect(b)
    wire.run(5)
    assert len(sent(wire, INITIATION, A)) > 2
    assert sent(wire, RESPONSE, B) == []
    assert (b.endpoint.handshakes.half_open, b.endpoint._sessions, b.endpoint.connections) == (0, {}, {})


def test_initiation_for_another_key_gets_silence() -> None:
    wire, a, b = pair()
    stranger = wire.side("c")
    a.endpoint.connect(wire.now, Target(b.identity, stranger.target.transport_key), [Route(0, B)])
    wire.run(5)
    assert sent(wire, RESPONSE, B) == []


def test_record_that_certifies_someone_elses_key_fails_at_message_one() -> None:
    """a believes a false record: identity of c, transport key of b. b must not complete a handshake as c."""
    wire, a, b = pair()
    c = wire.side("c")
    a.endpoint.connect(wire.now, Target(c.identity, b.target.transport_key), [Route(0, B)])
    wire.run(20)
    assert sent(wire, RESPONSE, B) == []
    assert [event.code for event in a.of(HandshakeFailed)] == ["no-answer"]


def certified(side: Side, **changes: object) -> Credentials:
    """The side's credentials with another certificate."""
    own, log = side.credentials.current, side.credentials.log
    values: dict[str, object] = {
        "key": own.key,
        "identity": log.identity,
        "public": own.key.public,
        "from_us": own.certificate.from_us,
        "until_us": own.certificate.until_us,
        "operational": side.credentials.operational,
    } | changes
    certificate = TransportCertificate.make(
        values["operational"],
        values["identity"],
        values["public"],
        values["from_us"],
        values["until_us"],  # type: ignore[arg-type]
    )
    return replace(side.credentials, transport_keys=(TransportPair(values["key"], certificate),))  # type: ignore[arg-type]


def test_initiator_with_the_certificate_of_another_key_fails_at_message_one() -> None:
    wire, a, b = pair()
    other = TransportKey(bytes(range(32)))
    use(a, certified(a, key=other))
    a.connect(b)
    wire.run(5)
    assert sent(wire, RESPONSE, B) == []


@pytest.mark.parametrize("known", [True, False], ids=["log-known", "log-unknown"])
def test_initiator_that_claims_another_identity_fails_at_message_one(known: bool) -> None:
    wire, a, b = pair()
    c = wire.side("c")
    if known:
        b.endpoint.add_log(c.credentials.log)
    use(a, certified(a, identity=c.identity))
    a.connect(b)
    wire.run(5)
    assert sent(wire, RESPONSE, B) == []


@pytest.mark.parametrize(
    ("from_us", "until_us"),
    [(WALL_START - 50 * MINUTE, WALL_START), (WALL_START + 11 * MINUTE, WALL_START + 60 * MINUTE)],
    ids=["expired", "not-yet-valid"],
)
def test_initiator_with_a_certificate_out_of_its_time_fails_at_message_one(from_us: int, until_us: int) -> None:
    wire, a, b = pair()
    use(a, certified(a, from_us=from_us, until_us=until_us))
    a.connect(b)
    wire.run(5)
    assert sent(wire, RESPONSE, B) == []


def test_initiator_enforces_the_responders_expiry() -> None:
    wire, a, b = pair()
    target = b.target
    use(b, certified(b, until_us=WALL_START + MINUTE))
    wire.run(61)
    a.endpoint.connect(wire.now, target, [Route(0, B)])
    wire.run(5)
    assert len(sent(wire, RESPONSE, B)) == 1
    assert [event.code for event in a.of(HandshakeFailed)] == ["expired"]
    assert not a.endpoint._sessions
    assert not a.endpoint.connections


def test_nobody_shakes_hands_with_itself() -> None:
    wire, a, _ = pair()
    copy = wire.side("copy", ("10.0.0.3", 4000))
    use(copy, a.credentials)
    attempt = Attempt(copy.target, bytes(8), [], wire.now, wire.now)
    attempt.initiate(wire.now, a.credentials, TransportKey(bytes(31) + b"\1"), 1, 1)
    raw = attempt.datagram(wire.now, Route(0, A))
    wire.inject(A, ("10.0.0.3", 4000), raw)
    wire.run(1)
    assert sent(wire, RESPONSE, ("10.0.0.3", 4000)) == []


# --- message 1 has no effect ----------------------------------------------------------------------------------------


def test_repeated_message_one_gets_the_same_answer_on_the_way_it_came() -> None:
    wire, a, b = pair()
    know(a, b)
    wire.blocked = lambda source, target: target == A
    a.connect(b)
    wire.run(0.1)
    (first,) = sent(wire, INITIATION, A)
    for number in range(3):
        wire.inject(("10.7.7.7", number), B, first)
    wire.run(0.1)
    answers = sent(wire, RESPONSE, B)
    assert len(answers) == 4
    assert len(set(answers)) == 1
    assert [target for source, target, datagram in wire.recorded or [] if source == B] == [
        A,
        *(("10.7.7.7", number) for number in range(3)),
    ]
    assert b.endpoint.handshakes.half_open == len(b.endpoint.sessions.half_open) == 1
    assert not b.endpoint._sessions


def test_message_one_is_forgotten_after_five_seconds() -> None:
    wire, a, b = pair()
    wire.blocked = lambda source, target: target == A
    a.connect(b)
    wire.run(0.1)
    assert b.endpoint.handshakes.half_open == 1
    a.endpoint.handshakes.cancel(b.identity)
    wire.run(limits.HALF_OPEN_LIFE)
    assert (b.endpoint.handshakes.half_open, b.endpoint.sessions.half_open, b.endpoint._sessions) == (0, {}, {})


def test_responder_sends_nothing_before_the_initiator_confirmed() -> None:
    wire, a, b = pair()
    know(a, b)
    sessions = b.endpoint.sessions
    sessions.new_connection(wire.now, a.identity, sessions.half(a.identity)).open("s", min_epoch=0)
    wire.blocked = lambda source, target: target == A
    a.connect(b)
    wire.run(3)
    assert {datagram[0] for source, _, datagram in wire.recorded or [] if source == B} == {RESPONSE}


def test_half_open_handshakes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HALF_OPEN_LIMIT", 10)
    wire, a, b = pair()
    wire.blocked = lambda source, target: target == A
    for number in range(20):
        attempt = Attempt(b.target, bytes(8), [], wire.now, wire.now)
        ephemeral = TransportKey(random.Random(number).randbytes(32))
        attempt.initiate(wire.now, a.credentials, ephemeral, number + 1, number + 1)
        wire.inject(A, B, attempt.datagram(wire.now, Route(0, B)))
    wire.run(0.1)
    assert b.endpoint.handshakes.half_open == len(b.endpoint.sessions.half_open) == 5


# --- message 2 ------------------------------------------------------------------------------------------------------


def test_forged_answers_do_not_spoil_the_handshake() -> None:
    wire, a, b = pair()
    know(a, b)
    source = random.Random(1)

    def tap(origin: Address, target: Address, datagram: bytes) -> bytes:
        if datagram[0] == RESPONSE:
            for _ in range(20):
                at = source.randrange(12, len(datagram))
                wire.inject(origin, target, datagram[:at] + bytes([datagram[at] ^ 1]) + datagram[at + 1 :])
            receiver = Response.parse(datagram).receiver_index
            wire.inject(origin, target, Response(9, receiver, source.randbytes(600)).encode())
            wire.inject(origin, target, Response(9, receiver ^ 1, source.randbytes(600)).encode())
        return datagram

    wire.tap = tap
    a.connect(b)
    wire.run(2)
    assert len(a.of(ConnectionLive)) == len(b.of(ConnectionLive)) == 1
    assert len(a.endpoint._sessions) == 1
    assert not a.of(HandshakeFailed)


def test_late_answer_to_an_earlier_try_is_taken_once() -> None:
    wire, a, b = pair()
    know(a, b)
    wire.delay = 0.4
    a.connect(b)
    wire.run(5)
    assert len(sent(wire, INITIATION, A)) > 1
    assert len(sent(wire, RESPONSE, B)) > 1
    assert len(a.of(ConnectionLive)) == 1
    wire.run(5)
    assert len(a.endpoint._sessions) == len(b.endpoint._sessions) == 1


def test_retries_are_fresh_double_and_keep_the_order_of_time() -> None:
    wire, a, b = pair()
    wire.blocked = lambda source, target: True
    wire.trace = []
    a.connect(b)
    wire.run(8)
    times = [at - 1000 for at, _, size in wire.trace if size == INITIATION_SIZE]
    assert times == pytest.approx([0.0, 0.25, 0.75, 1.75, 3.75, 5.75, 7.75])
    tries = sent(wire, INITIATION, A)
    assert len(set(tries)) == len(tries)
    assert a.endpoint.handshakes.last_timestamp == WALL_START + 7_750_000


def test_timestamps_never_go_back_with_the_clock() -> None:
    wire, a, b = pair()
    a.endpoint.handshakes.last_timestamp = WALL_START * 2
    wire.blocked = lambda source, target: True
    a.connect(b)
    wire.run(0.3)
    assert a.endpoint.handshakes.last_timestamp == WALL_START * 2 + 2


# --- replay state ---------------------------------------------------------------------------------------------------


def test_timestamp_of_a_pinned_peer_is_remembered_at_confirmation() -> None:
    wire, a, b = pair()
    know(a, b)
    wire.blocked = lambda source, target: target == A
    a.connect(b)
    wire.run(0.1)
    assert len(b.endpoint.handshakes.replays) == 0
    wire.blocked = lambda source, target: False
    wire.run(2)
    (event,) = b.of(HandshakeConfirmed)
    assert b.endpoint.handshakes.replays.newest(a.identity, a.target.transport_key) == event.timestamp
    assert (event.identity, event.key) == (a.identity, a.target.transport_key)
    assert not a.of(HandshakeConfirmed)


def test_older_initiation_of_a_pinned_peer_gets_silence() -> None:
    wire, a, b = pair()
    know(a, b)
    b.endpoint.handshakes.replays.confirm(a.identity, a.target.transport_key, WALL_START + MINUTE)
    a.connect(b)
    wire.run(1)
    assert sent(wire, RESPONSE, B) == []
    a.endpoint.handshakes.last_timestamp = WALL_START + MINUTE
    wire.run(2)
    assert len(a.of(ConnectionLive)) == 1


def test_strangers_leave_no_replay_state() -> None:
    wire, a, b = pair()
    a.connect(b)
    wire.run(2)
    assert len(b.of(ConnectionLive)) == 1
    assert len(b.endpoint.handshakes.replays) == 0
    assert not b.of(HandshakeConfirmed)


# --- keys that change -----------------------------------------------------------------------------------------------


def test_initiation_to_an_older_transport_key_is_answered() -> None:
    wire, a, b = pair()
    target = b.target
    for number in range(3):
        use(b, b.credentials.rotate_transport(bytes([number]) * 32, WALL_START))
    assert b.target != target
    a.endpoint.connect(wire.now, target, [Route(0, B)])
    wire.run(2)
    assert len(a.of(ConnectionLive)) == len(b.of(ConnectionLive)) == 1


def test_connect_with_a_newer_key_replaces_the_attempt() -> None:
    wire, a, b = pair()
    a.endpoint.connect(wire.now, Target(b.identity, TransportKey(bytes(31) + b"\5").public), [Route(0, B)])
    wire.run(1)
    a.connect(b)
    wire.run(1)
    assert len(a.of(ConnectionLive)) == 1


# --- crossing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head_start", [0.0, 0.005, 0.01, 0.02, 0.03, 0.05])
@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("known", [True, False], ids=["logs-known", "logs-unknown"])
def test_simultaneous_opens_end_on_the_same_session(head_start: float, first: str, known: bool) -> None:
    wire, a, b = pair()
    if known:
        know(a, b)
    one, two = (a, b) if first == "a" else (b, a)
    one.connect(two)
    wire.run(head_start)
    two.connect(one)
    wire.run(limits.HALF_OPEN_LIFE + 1)
    assert len(a.endpoint._sessions) == len(b.endpoint._sessions) == 1
    mine, theirs = a.connection(b).session, b.connection(a).session
    assert mine is not None
    assert theirs is not None
    assert (mine.local_index, mine.peer_index) == (theirs.peer_index, theirs.local_index)
    assert not a.of(ConnectionClosed) + b.of(ConnectionClosed)
    assert a.endpoint.handshakes.attempts == 0
    assert b.endpoint.handshakes.attempts == 0


@pytest.mark.parametrize("seed", range(10))
def test_simultaneous_opens_under_jitter_and_loss_end_on_the_same_session(seed: int) -> None:
    wire = Wire(seed, delay=0.01, jitter=0.1, loss=0.1, duplicate=0.2)
    a, b = wire.side("a", A), wire.side("b", B)
    a.connect(b)
    b.connect(a)
    wire.run(20)
    mine, theirs = a.connection(b).session, b.connection(a).session
    assert mine is not None
    assert theirs is not None
    assert (mine.local_index, mine.peer_index) == (theirs.peer_index, theirs.local_index)
    assert not a.of(ConnectionClosed) + b.of(ConnectionClosed)


def test_half_of_a_connection_changes_only_when_a_connection_with_that_peer_ended() -> None:
    wire, a, b = pair()
    others = [wire.side(f"x{number}") for number in range(3)]
    half = a.endpoint.sessions.half(b.identity)
    for other in others:
        connection = a.connect(other)
        wire.run(1)
        a.endpoint.close(wire.now, connection)
    assert a.endpoint.sessions.half(b.identity) == half
    connection = a.connect(b)
    wire.run(1)
    assert connection.local_half == a.endpoint.sessions.half(b.identity) == half
    a.endpoint.close(wire.now, connection)
    assert a.endpoint.sessions.half(b.identity) != half


def test_half_of_a_connection_is_never_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOGS_LIMIT", 2)
    wire, a, b = pair()
    peers = [b, *(wire.side(f"x{number}") for number in range(3))]
    used: set[bytes] = set()
    for _ in range(3):
        for peer in peers:
            connection = a.connect(peer)
            assert connection.local_half not in used
            used.add(connection.local_half)
            wire.run(1)
            a.endpoint.close(wire.now, connection)
    assert len(a.endpoint.sessions.halves) <= 2


def test_handshake_under_way_ends_with_the_connection_it_was_for() -> None:
    """a accepts b's renewal, loses the connection, and then b's first packet comes: b must not believe it goes on."""
    wire, a, b = pair()
    know(a, b)
    connection = b.connect(a)
    wire.run(2)
    stream = connection.open("s")
    stream.write(b"before")
    wire.run(1)
    connection.stalled_at = wire.now
    b.connect(a)
    wire.run(0.012)
    assert (len(a.endpoint._sessions), len(a.endpoint.sessions.half_open)) == (1, 1)
    wire.blocked = lambda source, target: source == A and target == B
    a.endpoint.close(wire.now, a.connection(b))
    wire.run(0.001)
    wire.blocked = lambda source, target: False
    stream.write(b"after")
    for side, other in ((a, b), (b, a)):
        side.on_event = lambda event, side=side, other=other: (
            side.connect(other) if isinstance(event, ConnectionStalled) and not event.connection.closed else None
        )
    wire.run(10)
    assert [event.connection for event in b.of(ConnectionClosed)] == [connection]
    assert stream.failed == StreamCode.LOST_STATE
    assert [event.code for event in a.of(ConnectionClosed)] == [CloseCode.DONE]
    assert len(a.of(StreamOffered)) == 1
    assert b.connection(a).remote_half != connection.remote_half


def test_connection_that_was_closed_while_connecting_stays_closed() -> None:
    wire, a, b = pair()
    connection = a.connect(b)
    wire.run(0.025)
    assert len(a.endpoint.sessions.unverified) == 1
    a.endpoint.close(wire.now, connection)
    wire.run(30)
    assert not a.of(ConnectionLive)
    assert not a.endpoint.connections
    assert not a.endpoint._sessions


def test_strangers_push_out_the_oldest_stranger_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STRANGER_CONNECTIONS", 2)
    wire, a, b = pair()
    friend, silent = wire.side("friend"), ("10.0.9.9", 1)
    a.endpoint.pin(friend.identity)
    waiting = a.endpoint.connect(wire.now, Target(b.identity, b.target.transport_key), [Route(0, silent)])
    trusted = a.connect(friend)
    wire.run(1)
    strangers = [wire.side(f"x{number}") for number in range(4)]
    for stranger in strangers:
        stranger.connect(a)
        wire.run(1)
    closed = [event.connection.peer for event in a.of(ConnectionClosed)]
    assert closed == [strangers[0].identity, strangers[1].identity]
    assert not waiting.closed
    assert not trusted.closed


def test_initiation_is_never_shorter_than_its_answer() -> None:
    wire, a, b = pair()
    a.connect(b)
    wire.run(1)
    (first,), (answer,) = sent(wire, INITIATION, A), sent(wire, RESPONSE, B)
    assert len(first) == INITIATION_SIZE
    assert len(answer) <= len(first)
