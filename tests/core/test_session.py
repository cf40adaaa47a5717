"""Keys and packets of one handshake, seen through two endpoints."""

from __future__ import annotations

import itertools
import random

import pytest

from covey.base.errors import StateError
from covey.core import limits
from covey.core.connection import Connection
from covey.core.epochs import Epochs
from covey.core.events import (
    ConnectionClosed,
    ConnectionLive,
    ConnectionStalled,
    Event,
    HandshakeFailed,
    PathsChanged,
    StreamOffered,
    StreamReadable,
    StreamReset,
)
from covey.core.path import Route
from covey.core.session import CloseCode, Session
from covey.core.stream import Stream
from covey.crypto.certificates import Delegation, TransportCertificate
from covey.crypto.credentials import Credentials
from covey.crypto.packet import NONCE
from covey.wire import control, frames
from covey.wire.datagram import HEADER, PACKET
from tests.core.pair import WALL_START, Address, Chatter, Side, Wire, admit

A, B = ("10.0.0.1", 4000), ("10.0.0.2", 4000)


def connected(
    seed: int = 1, *, lifetimes: limits.Lifetimes = limits.LIFETIMES, **impairments: float
) -> tuple[Wire, Side, Side]:
    wire = Wire(seed, lifetimes=lifetimes, **impairments)  # type: ignore[arg-type]
    a, b = wire.side("a", A), wire.side("b", B)
    for side in (a, b):
        side.on_event = admit
    a.connect(b)
    assert wire.run(10, until=lambda: bool(a.of(ConnectionLive) and b.of(ConnectionLive)))
    wire.run(1)
    return wire, a, b


def session_of(side: Side, other: Side) -> Session:
    session = side.connection(other).session
    assert session is not None
    return session


def opened(wire: Wire, target: Address, datagram: bytes) -> list[frames.Frame]:
    """What a datagram says: the test holds every key."""
    if datagram[0] != PACKET:
        return []
    _, path, epoch, index, counter = HEADER.unpack_from(datagram)
    session = wire.sides[target].endpoint._sessions.get(index)
    key = session.epochs.receiving.get(epoch) if session is not None else None
    if key is None:
        return []
    return list(frames.parse_frames(key.aead.decrypt(NONCE.pack(path, counter), datagram[16:], datagram[:16])))


def drop(wire: Wire, *kinds: type) -> None:
    """From now on datagrams with such frames vanish."""

    def tap(source: Address, target: Address, datagram: bytes) -> bytes | None:
        return None if any(isinstance(frame, kinds) for frame in opened(wire, target, datagram)) else datagram

    wire.tap = tap


def send(wire: Wire, session: Session, plain: bytes, source: Address, target: Address) -> None:
    """A packet as a broken or hostile peer with the right keys would send it."""
    path = session.active
    out = bytearray(len(plain) + 32)
    session.sender.seal(memoryview(out), 0, path.id, path.counter, memoryview(plain))
    path.counter += 1
    wire.inject(source, target, bytes(out), wire.delay)


# --- the ratchet ----------------------------------------------------------------------------------------------------


def test_ratchet_runs_every_two_minutes_under_traffic() -> None:
    wire, a, b = connected(loss=0.02, jitter=0.005)
    forth, back = Chatter(wire, a, b), Chatter(wire, b, a)
    wire.run(600)
    forth.stop()
    back.stop()
    for side, other in ((a, b), (b, a)):
        epochs = session_of(side, other).epochs
        assert epochs.epoch == 5 + 1
        assert sorted(epochs.receiving) == [6]
    assert not a.of(ConnectionStalled) + b.of(ConnectionStalled)


def test_idle_session_ratchets_once_an_hour_and_at_once_when_something_is_said() -> None:
    wire, a, b = connected()
    for side, other in ((a, b), (b, a)):
        side.connection(other).keepalive = 20.0
        side.connection(other).wake()
    wire.run(2.5 * 3600)
    session = session_of(a, b)
    assert session.created < 1001
    assert session.epochs.epoch == 3
    for source, target in ((a, b), (b, a)):
        epoch = session.epochs.epoch
        wire.run(600)
        assert session.epochs.epoch == epoch
        stream = source.connection(target).open("s")
        stream.write(b"x")
        wire.run(1)
        assert session.epochs.epoch == session_of(b, a).epochs.epoch == epoch + 1
        wire.run(600)
        assert session.epochs.epoch == epoch + 1, "what was said is protected: the next key is idle again"
    assert not a.of(ConnectionStalled) + b.of(ConnectionStalled)


def test_ratchet_goes_on_after_a_while_without_crypto_frames() -> None:
    wire, a, b = connected()
    chatter = Chatter(wire, a, b)
    wire.run(110)
    drop(wire, frames.CryptoFrame)
    wire.run(30)
    assert session_of(a, b).epochs.epoch == 1
    wire.tap = None
    wire.run(5)
    assert session_of(a, b).epochs.epoch == session_of(b, a).epochs.epoch == 2
    chatter.stop()


@pytest.mark.parametrize("seconds", [0.2, 1.0, 5.0])
def test_ratchet_whose_first_new_packets_are_lost_goes_on(seconds: float) -> None:
    """The responder answers, and then hears nothing for longer than the initiator's overlap: both keep the old keys."""
    wire, a, b = connected()
    wire.run(100)
    chatter = Chatter(wire, b, a)

    def tap(source: Address, target: Address, datagram: bytes) -> bytes | None:
        if target == B and datagram[0] == PACKET and HEADER.unpack_from(datagram)[2] == 2:
            started.append(wire.now)
            if wire.now < started[0] + seconds:
                return None
        return datagram

    started: list[float] = []
    wire.tap = tap
    wire.run(40)
    assert started
    chatter.stop()
    assert session_of(a, b).epochs.epoch == session_of(b, a).epochs.epoch == 2
    assert session_of(a, b).created < 1001


def test_session_without_ratchet_stops_after_three_minutes_and_streams_go_on() -> None:
    wire, a, b = connected()
    first = session_of(a, b)
    for side, other in ((a, b), (b, a)):
        side.on_event = lambda event, side=side, other=other: (
            admit(event),
            side.connect(other) if isinstance(event, ConnectionStalled) else None,
        )
    chatter = Chatter(wire, a, b)

    def tap(source: Address, target: Address, datagram: bytes) -> bytes | None:
        mine = first.created > wire.now - limits.LIFETIMES.hard_seconds
        crypto = any(isinstance(each, frames.CryptoFrame) for each in opened(wire, target, datagram))
        return None if mine and crypto else datagram

    wire.tap = tap
    wire.run(limits.LIFETIMES.hard_seconds + 5)
    assert first.ended
    assert session_of(a, b) is not first
    chatter.stop()
    assert not a.of(ConnectionClosed)


@pytest.mark.parametrize("initiator_sends", [True, False], ids=["initiator-sends", "responder-sends"])
def test_keys_are_replaced_after_so_many_packets(initiator_sends: bool) -> None:
    """The responder counts its own packets and asks: without that its key would be used up, with no way to say so."""
    wire, a, b = connected(lifetimes=limits.Lifetimes(rekey_packets=200, hard_packets=2000))
    source, target = (a, b) if initiator_sends else (b, a)
    chatter = Chatter(wire, source, target, pause=0.01, size=2000)
    wire.run(30)
    chatter.stop()
    assert 6 < session_of(a, b).epochs.epoch <= 32
    assert len(a.endpoint._sessions) == 1
    assert not a.of(ConnectionStalled) + b.of(ConnectionStalled)


def test_keys_are_replaced_after_so_many_bytes() -> None:
    wire, a, b = connected(lifetimes=limits.Lifetimes(rekey_bytes=100_000))
    chatter = Chatter(wire, b, a, pause=0.01, size=2000)
    wire.run(10)
    chatter.stop()
    assert 3 < session_of(a, b).epochs.epoch <= 12


def test_key_that_is_used_up_seals_nothing_more() -> None:
    wire, a, b = connected(lifetimes=limits.Lifetimes(hard_packets=100))
    connection = a.connection(b)
    stream = connection.open("s")
    stream.write(bytes(1_000_000))
    sent: list[int] = []
    wire.tap = lambda source, target, datagram: sent.append(source == A and datagram[0] == PACKET) or datagram  # type: ignore[func-returns-value]
    wire.run(5)
    assert 0 < sum(sent) <= 100
    assert connection.session is None
    assert a.of(ConnectionStalled)
    assert not stream.closed


def test_demand_for_new_keys_is_met_once_a_second_at_most() -> None:
    wire, a, b = connected()
    session = session_of(b, a)
    for _ in range(100):
        session.send_control(control.WANT_REKEY)
        wire.run(0.05)
    assert 2 <= session.epochs.epoch <= 1 + 6


# --- who the peer is ------------------------------------------------------------------------------------------------


def impostor(wire: Wire, victim: Side, *, sequence: int = 7) -> Side:
    """Claims the victim's identity with certificates of its own, and a log that nobody has seen."""
    side = wire.side("impostor", ("10.6.6.6", 4000))
    own = side.credentials
    log = victim.credentials.log
    source = random.Random(3)
    fake, _ = Credentials.create(source.randbytes, WALL_START)
    pair = fake.current
    certificate = TransportCertificate.make(
        fake.operational, log.identity, pair.key.public, pair.certificate.from_us, pair.certificate.until_us
    )

    class Log:
        identity = log.identity
        head = bytes(32)
        raw = own.log.raw

    Log.sequence = sequence  # type: ignore[attr-defined]
    claimed = object.__new__(Credentials)
    object.__setattr__(claimed, "log", Log())
    object.__setattr__(claimed, "delegation", Delegation.parse(fake.delegation.raw))
    object.__setattr__(claimed, "operational", fake.operational)
    object.__setattr__(claimed, "transport_keys", (pair._replace(certificate=certificate),))
    side.credentials = claimed
    side.endpoint.credentials = claimed
    return side


@pytest.mark.parametrize("known", [True, False], ids=["log-known", "log-unknown"])
def test_claim_without_proof_touches_nothing(known: bool) -> None:
    """Anybody can claim an identity whose log we lack, or a newer log: until it is shown, nothing happens."""
    wire, a, b = connected()
    if not known:
        b.endpoint.keyring._logs.clear()
    connection = b.connection(a)
    stream = connection.open("s")
    wire.run(1)
    thief = impostor(wire, a)
    events = len(b.events)
    thief.connect(b)
    wire.run(5)
    assert not thief.of(StreamOffered)
    assert [event for event in b.events[events:] if isinstance(event, ConnectionClosed | ConnectionLive)] == []
    assert b.connection(a) is connection
    assert not stream.closed
    stream.write(b"still yours")
    wire.run(1)
    assert a.of(StreamOffered)[0].stream.read() == b"still yours"
    wire.run(30)
    assert len(b.endpoint.sessions.unverified) == 0
    assert len(b.endpoint._sessions) == 1


def test_claim_without_proof_gets_no_byte_of_a_stream() -> None:
    wire, a, b = connected()
    b.restart()
    connection = b.endpoint.sessions.new_connection(wire.now, a.identity, b.endpoint.sessions.half(a.identity))
    connection.open("secret", min_epoch=0).write(b"for a alone")
    thief = impostor(wire, a)
    del wire.sides[A]
    seen: list[frames.Frame] = []

    def tap(source: Address, target: Address, datagram: bytes) -> bytes:
        if source == B:
            seen.extend(opened(wire, target, datagram))
        return datagram

    wire.tap = tap
    thief.connect(b)
    wire.run(20)
    assert seen
    assert not any(isinstance(frame, frames.StreamFrame) for frame in seen)


def test_peers_whose_log_never_comes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNVERIFIED_LIMIT", 3)
    wire = Wire(1)
    b = wire.side("b", B)
    strangers = [wire.side(f"x{number}", (f"10.0.1.{number}", 4000)) for number in range(6)]

    def tap(source: Address, target: Address, datagram: bytes) -> bytes | None:
        found = opened(wire, target, datagram)
        return None if target == B and any(isinstance(each, frames.CryptoFrame) for each in found[1:]) else datagram

    for stranger in strangers:
        stranger.endpoint.own_log = lambda: b""  # type: ignore[method-assign]
        stranger.connect(b)
    wire.tap = tap
    wire.run(3)
    assert len(b.endpoint.sessions.unverified) == 3
    assert not b.endpoint.connections
    wire.run(60)
    assert not b.endpoint.sessions.unverified
    assert not b.endpoint._sessions


def test_attempt_fails_when_the_target_cannot_prove_itself() -> None:
    wire = Wire(1)
    a, b = wire.side("a", A), wire.side("b", B)
    b.endpoint.own_log = lambda: a.credentials.log.raw  # type: ignore[method-assign]
    connection = a.connect(b)
    wire.run(5)
    assert len(a.of(HandshakeFailed)) == 1
    assert connection.closed
    assert not a.endpoint.connections
    assert not a.of(ConnectionLive)


def test_stream_frames_before_the_log_are_sent_again_not_lost() -> None:
    """They are not acknowledged: whatever becomes of the session, the peer still has them."""
    wire = Wire(1)
    a, b = wire.side("a", A), wire.side("b", B)
    b.endpoint.add_log(a.credentials.log)
    served = b.endpoint.own_log
    b.endpoint.own_log = lambda: b""  # type: ignore[method-assign]
    a.connect(b)
    assert wire.run(5, until=lambda: bool(b.of(ConnectionLive)))
    stream = b.connection(a).open("s", min_epoch=0)
    stream.write(b"early")
    stream.finish()
    wire.run(1)
    assert not a.of(StreamOffered)
    assert stream.outgoing.acked == 0
    b.endpoint.own_log = served  # type: ignore[method-assign]
    b.connection(a).session.control_messages._log_served = False
    session = next(iter(a.endpoint._sessions.values()))
    session.crypto.log_wanted = False
    session.request_log()
    wire.run(3)
    assert a.of(StreamOffered)[0].stream.read() == b"early"


def test_log_that_does_not_come_in_time_costs_a_session_not_the_connection() -> None:
    """b knows who answers and sends; a never gets b's log. That may be the network's fault."""
    wire = Wire(1)
    a, b = wire.side("a", A), wire.side("b", B)
    b.endpoint.add_log(a.credentials.log)
    served = b.endpoint.own_log
    b.endpoint.own_log = lambda: b""  # type: ignore[method-assign]
    b.connect(a)
    wire.run(1)
    connection = b.connection(a)
    stream = connection.open("s")
    stream.write(b"patience")
    wire.run(limits.VERIFY_SECONDS + 2)
    assert not b.of(ConnectionClosed)
    b.endpoint.own_log = served  # type: ignore[method-assign]
    assert not a.endpoint._sessions
    stream.write(b"!")
    b.connect(a)
    wire.run(3)
    assert b.connection(a) is connection
    assert a.of(StreamOffered)[0].stream.read() == b"patience!"


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_log_larger_than_the_crypto_buffer_is_fetched(loss: float) -> None:
    """64 KiB of log in a CRYPTO stream of which the peer keeps 16 KiB: the sender waits for acknowledgements."""
    wire = Wire(2, loss=loss, jitter=0.01)
    a, b = wire.side("a", A), wire.side("b", B)
    logs: list[bytes] = []
    raw = random.Random(1).randbytes(65_000)
    b.endpoint.own_log = lambda: raw  # type: ignore[method-assign]

    def learnt(session: Session, raw: bytes, now: float) -> None:
        logs.append(raw)

    a.endpoint.sessions.log_received = learnt  # type: ignore[method-assign]
    a.connect(b)
    assert wire.run(14, until=lambda: bool(logs))
    assert logs == [raw]


# --- a peer that breaks the rules -----------------------------------------------------------------------------------

STREAM_OF_A = 1 << 20

VIOLATIONS = {
    "empty packet": b"",
    "unknown frame": b"\x7f",
    "cut frame": frames.encode_reset(0, 0, 0)[:-1],
    "padding that is not zero": b"\x01\x00\x01",
    "acknowledgement of what was never sent": frames.encode_ack(0, 0, [(10_000, 10_000)]),
    "stream of ours that we never opened": frames.encode_stop(0xFFFF_0000, 0),
    "more streams than allowed": None,
    "bytes beyond the window": None,
    "crypto beyond the buffer": frames.CRYPTO_HEAD.pack(frames.CRYPTO, 100_000, 1) + b"x",
    "unknown control message": None,
    "log that nobody asked for": None,
    "answer to no offer": None,
    "offer out of turn": None,
    "candidates that do not parse": None,
    "impossible service name": None,
    "stream without a service name": None,
}


def violation(name: str, session: Session, connection: Connection) -> bytes | None:
    """The packet, or None if it was put into the CRYPTO stream."""
    plain = VIOLATIONS[name]
    if plain is not None:
        return plain
    head, first = frames.STREAM_HEAD, connection._parity
    match name:
        case "more streams than allowed":
            return head.pack(frames.STREAM, 0, limits.STREAMS * 2 << 1 | first, 0, 0)
        case "bytes beyond the window":
            return head.pack(frames.STREAM, 0, first, limits.STREAM_WINDOW, 1) + b"x"
        case "impossible service name":
            return head.pack(frames.STREAM, 0, first, 0, 4) + b"\x03\xff\xff\xff"
        case "stream without a service name":
            return head.pack(frames.STREAM, 1, first, 0, 0) + head.pack(frames.STREAM, 1, first, 0, 1)[:0] + b""
        case "unknown control message":
            session.send_control(0x77)
        case "log that nobody asked for":
            session.send_control(control.LOG, b"\x01log")
        case "answer to no offer":
            session.send_control(control.ANSWER, bytes(1128))
        case "offer out of turn":
            session.send_control(control.OFFER, bytes(1224))
        case "candidates that do not parse":
            session.send_control(control.CANDIDATES, b"\xff")
    return None


@pytest.mark.parametrize("name", [name for name in VIOLATIONS if name != "stream without a service name"])
def test_peer_that_breaks_the_protocol_is_told_and_left(name: str) -> None:
    wire, a, b = connected()
    connection, session = a.connection(b), session_of(a, b)
    plain = violation(name, session, connection)
    if plain is not None:
        send(wire, session, plain, A, B)
    wire.run(1)
    (closed,) = b.of(ConnectionClosed)
    assert closed.code == CloseCode.PROTOCOL
    assert closed.reason
    (told,) = a.of(ConnectionClosed)
    assert (told.code, told.reason) == (CloseCode.PROTOCOL, closed.reason)
    assert not b.endpoint._sessions


def test_stream_that_ends_before_its_service_name_is_refused() -> None:
    wire, a, b = connected()
    head, number = frames.STREAM_HEAD, a.connection(b)._parity
    # The end overtakes the beginning.
    send(wire, session_of(a, b), head.pack(frames.STREAM, 1, number, 2, 0), A, B)
    wire.run(0.1)
    send(wire, session_of(a, b), head.pack(frames.STREAM, 0, number, 0, 2) + b"\x05a", A, B)
    wire.run(1)
    assert [event.code for event in b.of(ConnectionClosed)] == [CloseCode.PROTOCOL]


@pytest.mark.parametrize("source", [A, ("10.6.6.6", 66)])
def test_packet_full_of_challenges_gets_no_more_than_three_times_its_size(source: Address) -> None:
    """A peer writes any source address on its packets: ours must not be the larger part of a flood of that address."""
    wire, a, b = connected()
    sent: list[bytes] = []

    def tap(origin: Address, target: Address, datagram: bytes) -> bytes:
        if origin == B and target == source:
            sent.append(datagram)
        return datagram

    wire.tap = tap
    for size in (1, 10, 120):
        sent.clear()
        plain = b"".join(frames.encode_path(frames.PATH_CHALLENGE, bytes([number]) * 8) for number in range(size))
        send(wire, session_of(a, b), plain, source, B)
        wire.run(1)
        assert sent
        assert sum(map(len, sent)) <= 3 * (len(plain) + 32)


def test_peer_with_hundreds_of_addresses_has_few_paths_and_is_still_followed() -> None:
    """Each address answers its challenge: what a path costs us, a peer must not be able to ask for 255 times."""
    wire, a, b = connected()
    for port in range(5000, 5100):
        wire.sides[A[0], port] = a
        send(wire, session_of(a, b), bytes([frames.PING]), (A[0], port), B)
        wire.run(0.3)
        assert len(session_of(b, a).paths) <= limits.PATHS_LIMIT
    assert len(b.of(PathsChanged)) > limits.PATHS_LIMIT
    stream = a.connection(b).open("s")
    a.move((A[0], 7000))
    for _ in range(20):
        stream.write(b"x")
        wire.run(0.3)
    assert session_of(b, a).active.route == Route(0, (A[0], 7000))
    assert b.of(StreamOffered)[-1].stream.read() == b"x" * 20


def frame(source: random.Random, mine: int) -> bytes:
    numbers = [mine, mine + 2, 1 - mine, 17]
    offsets = [0, 1, 2, 5, 10, 1000]
    data = source.choice([b"", b"\x02s1", b"\x01x", source.randbytes(20)])
    match source.randrange(10):
        case 0:
            return (
                frames.STREAM_HEAD.pack(
                    frames.STREAM, source.randrange(2), source.choice(numbers), source.choice(offsets), len(data)
                )
                + data
            )
        case 1:
            return frames.encode_reset(source.choice(numbers), 5, source.choice(offsets))
        case 2:
            return frames.encode_stop(source.choice(numbers), 5)
        case 3:
            kind = source.choice([frames.MAX_DATA, frames.MAX_STREAM_DATA, frames.MAX_STREAMS])
            return frames.encode_limit(kind, source.choice(numbers), source.randrange(1 << 32))
        case 4:
            return frames.DATAGRAM_HEAD.pack(frames.DATAGRAM, source.choice(numbers), len(data)) + data
        case 5:
            return frames.encode_path(source.choice([frames.PATH_CHALLENGE, frames.PATH_RESPONSE]), source.randbytes(8))
        case 6:
            return frames.encode_ack(0, 0, [(0, source.randrange(3))])
        case 7:
            return frames.CRYPTO_HEAD.pack(frames.CRYPTO, source.choice([0, 2000]), len(data)) + data
        case _:
            return bytes([frames.PING])


@pytest.mark.parametrize("seed", range(60))
def test_nothing_an_authenticated_peer_sends_breaks_the_core(seed: int) -> None:
    source = random.Random(seed)
    wire, a, b = connected(seed)
    session, mine = session_of(a, b), a.connection(b)._parity
    streams: list[Stream] = []

    def on_event(event: Event) -> None:
        if isinstance(event, StreamOffered):
            streams.append(event.stream)
        if isinstance(event, StreamOffered | StreamReadable | StreamReset) and source.random() < 0.4:
            getattr(event.stream, source.choice(["reset", "stop", "finish", "read"]))()

    b.on_event = on_event
    own = b.connection(a).open("own")
    own.write(bytes(50_000))
    for _ in range(40):
        plain = b"".join(frame(source, mine) for _ in range(source.choice([1, 1, 2, 5])))
        if not session.ended:
            send(wire, session, plain, A if source.random() < 0.9 else ("10.9.9.9", source.randrange(1, 9)), B)
        if source.random() < 0.5:
            wire.run(source.choice([0.0, 0.02, 1.0]))
    wire.run(5)
    for stream in (*streams, own):
        stream.reset()
    wire.run(400)
    assert len(b.endpoint._schedule) <= 128


# --- the end --------------------------------------------------------------------------------------------------------


def test_ended_session_gives_its_bytes_back_to_the_connection() -> None:
    wire, a, b = connected()
    stream = a.connection(b).open("s")
    wire.blocked = lambda source, target: True
    stream.write(bytes(10_000))
    wire.run(0.01)
    session = session_of(a, b)
    a.endpoint.sessions.ended(session, wire.now, CloseCode.IDLE, "", by_peer=False)
    assert stream.outgoing.lost.size() == 10_000 + 2
    assert a.connection(b).session is None


def crossed() -> tuple[Wire, Side, Side]:
    """Both opened at once: two sessions on each side for another second."""
    wire = Wire(1)
    a, b = wire.side("a", A), wire.side("b", B)
    a.connect(b)
    b.connect(a)
    wire.run(0.2)
    assert len(a.endpoint._sessions) == len(b.endpoint._sessions) == 2
    return wire, a, b


def test_side_that_connected_anew_tells_the_other_to_come_along() -> None:
    """Only a noticed that nothing answers. The old handshake is one that b would prefer; a says that it is over."""
    wire, a, b = connected()
    first = session_of(a, b)
    stream = b.connection(a).open("s")
    a.connection(b).stalled_at = wire.now
    a.connect(b)
    wire.run(0.5)
    assert session_of(a, b) is not first
    assert len(a.endpoint._sessions) == len(b.endpoint._sessions) == 1
    assert session_of(b, a).local_index == session_of(a, b).peer_index
    stream.write(b"x")
    wire.run(0.5)
    assert a.of(StreamOffered)[0].stream.read() == b"x"


def test_superseded_session_hands_over_to_the_one_that_is_left() -> None:
    wire, a, b = crossed()
    used = session_of(a, b)
    (other,) = [session for session in a.endpoint._sessions.values() if session is not used]
    b.endpoint.sessions.ended(session_of(b, a), wire.now, CloseCode.SUPERSEDED, "", by_peer=False)
    wire.run(30)
    assert session_of(a, b) is other
    assert session_of(b, a).local_index == other.peer_index
    assert not a.of(ConnectionStalled) + b.of(ConnectionStalled)


def test_stalled_session_hands_over_to_one_that_is_not() -> None:
    wire, a, b = crossed()
    used = session_of(a, b)
    used.paths.stalled = True
    a.endpoint.sessions.stalled(used, wire.now)
    assert session_of(a, b) is not used
    assert not a.of(ConnectionStalled)
    session_of(a, b).paths.stalled = True
    a.endpoint.sessions.stalled(session_of(a, b), wire.now)
    wire.run(0.0)
    assert len(a.of(ConnectionStalled)) == 1


def test_peer_that_keeps_all_its_old_sessions_in_use_has_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handshake after handshake, and a packet on every session that there ever was: none is taken for unused."""
    monkeypatch.setattr(Epochs, "forget", lambda _: None)  # such a peer keeps its keys
    wire, a, b = connected()
    connection = a.connection(b)
    held = [session_of(a, b)]

    def silence(source: Address, target: Address, datagram: bytes) -> bytes | None:
        ends = source == A and any(isinstance(frame, frames.CloseFrame) for frame in opened(wire, target, datagram))
        return None if ends else datagram

    wire.tap = silence
    for _ in range(3 * limits.SESSIONS_OF_A_PEER):
        a.endpoint.handshakes.connect(wire.now, b.target, connection.local_half, [Route(0, B)])
        assert wire.run(1.0, until=lambda: session_of(a, b) is not held[-1])
        held.append(session_of(a, b))
        wire.run(0.1)
        for session in held:
            if session.epochs.key is not None:
                session.active.counter += 1000
                send(wire, session, bytes([frames.PING]), A, B)
        wire.run(0.3)
    assert len(b.endpoint._sessions) <= limits.SESSIONS_OF_A_PEER
    assert session_of(b, a).peer_index == held[-1].local_index
    stream = connection.open("s")
    stream.write(b"still there")
    wire.run(1.0)
    assert b.of(StreamOffered)[-1].stream.read() == b"still there"


def test_write_after_the_connection_is_lost_is_an_error() -> None:
    wire, a, b = connected()
    stream = a.connection(b).open("s")
    a.endpoint.close(wire.now, a.connection(b))
    with pytest.raises(StateError):
        stream.write(b"x")
    assert stream.read() == b""


def test_receiver_asks_each_time_the_silence_has_doubled_and_then_lets_the_path_go_quiet() -> None:
    wire, a, b = connected()
    stream = a.connection(b).open("s")
    stream.write(b"x")
    wire.run(0.1)
    asked: list[float] = []
    began = wire.now

    def tap(source: Address, target: Address, datagram: bytes) -> bytes:
        if source == b.address:
            asked.append(wire.now - began)
        return datagram

    wire.tap = tap
    wire.run(limits.ACTIVE_SECONDS + limits.PATH_KEEPALIVE_SECONDS)
    moments = [asked[0], *(later for sooner, later in itertools.pairwise(asked) if later - sooner > 0.1)]
    assert moments[0] == pytest.approx(limits.QUIET_SECONDS, abs=0.15)
    grown = [later / sooner for sooner, later in itertools.pairwise(moments) if later < limits.PATH_KEEPALIVE_SECONDS]
    assert len(grown) >= 3
    assert all(1.7 < each < 2.7 for each in grown)
    assert len(moments) <= 9
    asked.clear()
    wire.run(limits.LIFETIMES.rekey_seconds - (wire.now - began) - 10)
    assert asked == []


def test_keepalive_keeps_a_silent_session() -> None:
    wire, a, b = connected()
    a.connection(b).keepalive = b.connection(a).keepalive = 25.0
    session = session_of(a, b)
    wire.run(3600)
    assert session_of(a, b) is session
    assert not a.of(ConnectionStalled) + b.of(ConnectionStalled)


def test_data_that_finds_no_keys_any_more_says_so() -> None:
    """After a sleep of both sides: the session is over before the data has left, and nobody else would ask for keys."""
    for keepalive in (None, 20.0):
        wire, a, b = connected()
        connection = a.connection(b)
        connection.keepalive = keepalive
        stream = connection.open("s")
        wire.run(1)
        wire.now += 3600
        if keepalive is None:
            stream.write(b"good morning")
        else:
            a.endpoint.expire(wire.now)
        wire.run(0.001)
        assert [event.connection for event in a.of(ConnectionStalled)] == [connection]
        assert connection.session is None
        assert not stream.closed


def ciphers(side: Side, other: Side) -> list[bool]:
    epochs = session_of(side, other).epochs
    return [not key.resting for key in (epochs.key, *epochs.receiving.values())]


def test_idle_session_gives_its_ciphers_back_and_speaks_again() -> None:
    wire, a, b = connected()
    wire.run(5)
    assert not any(ciphers(a, b) + ciphers(b, a))
    stream = a.connection(b).open("echo")
    stream.write(b"x" * 5000)
    wire.run(1)
    assert all(ciphers(a, b) + ciphers(b, a))
    stream.reset()
    wire.run(3)
    assert not any(ciphers(a, b) + ciphers(b, a))
    stream = a.connection(b).open("echo")
    stream.write(b"again")
    wire.run(1)
    assert b.of(StreamOffered)[-1].stream.incoming.highest == len(b"\x04echoagain")


def test_nothing_is_repeated_while_the_answer_may_wait_to_be_read() -> None:
    """A core that cannot keep up has answers in its socket; after a second without any, it is something else."""
    wire, a, b = connected()
    wire.blocked = lambda source, target: source == B
    sent: list[float] = []

    def tap(source: Address, target: Address, datagram: bytes) -> bytes:
        if source == A:
            sent.append(wire.now)
        return datagram

    wire.tap = tap
    a.endpoint.unread = True
    began = wire.now
    a.connection(b).open("s").write(b"x")
    wire.run(3)
    repeated = [at - began for at in sent if at > began + 0.1 and at < began + 0.9]
    later = [at - began for at in sent if at >= began + 0.9]
    assert len(repeated) <= 4  # challenges of a path that is suspect
    assert len(later) > len(repeated)


@pytest.mark.parametrize("unread", [False, True])
def test_core_that_cannot_keep_up_gives_its_peers_a_second_more(unread: bool) -> None:
    wire, a, b = connected()
    wire.blocked = lambda source, target: source == B
    a.endpoint.unread = unread
    began = wire.now
    a.connection(b).open("s").write(b"x")
    assert wire.run(5, until=lambda: bool(a.of(ConnectionStalled)))
    assert (wire.now - began > 1.5) == unread
