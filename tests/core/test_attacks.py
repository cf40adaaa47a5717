"""What somebody on the way may do to datagrams: nothing of it may change what arrives, or what is said back.

Each test names what it proves. Floods are in `test_floods.py`, handshakes with wrong keys and claims in
`test_handshakes.py`, random bytes in `test_floods.py` and `test_endpoint.py`; `docs/security.md` has the whole list.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

from covey.core.events import ConnectionLive, StreamOffered
from covey.core.path import Route
from covey.core.relay import RelayTable
from covey.core.stream import Stream
from covey.wire.datagram import HEADER, HEADER_SIZE, INITIATION, PACKET, RELAY_HEADER, RELAYED, RESPONSE
from tests.core.pair import Address, Side, Wire

A, B, C, MALLORY, R = (
    ("10.0.0.1", 4000),
    ("10.0.0.2", 4000),
    ("10.0.0.3", 4000),
    ("10.6.6.6", 6),
    ("10.0.0.9", 4000),
)


class Talk:
    """Two agents with a stream, and what the wire carried towards the second of them."""

    def __init__(self, *, others: int = 0) -> None:
        self.wire = Wire(1)
        self.a, self.b = self.wire.side("a", A), self.wire.side("b", B)
        for side in (self.a, self.b):
            side.on_event = lambda event: event.connection.admit() if isinstance(event, ConnectionLive) else None
        self.wire.recorded = []
        self.a.connect(self.b)
        assert self.wire.run(10, until=lambda: bool(self.a.of(ConnectionLive) and self.b.of(ConnectionLive)))
        self.wire.run(2)
        self.sending = self.a.connection(self.b).open("talk")
        self.say(b"first")
        self.offered = self.b.of(StreamOffered)[-1].stream
        assert self.hear() == b"first"

    def say(self, data: bytes) -> None:
        self.sending.write(data)
        self.wire.run(1)

    def hear(self) -> bytes:
        return self.offered.read()

    def packets(self) -> list[bytes]:
        """PACKETs that A sent to B so far."""
        assert self.wire.recorded is not None
        return [data for source, target, data in self.wire.recorded if (source, target) == (A, B) and data[0] == PACKET]

    def state(self) -> Any:
        """Everything of B that an unauthentic datagram might touch."""
        session = self.b.connection(self.a).session
        assert session is not None
        return (
            len(self.b.events),
            len(self.b.endpoint._sessions) + len(self.b.endpoint.sessions.half_open),
            len(self.b.endpoint.connections),
            self.b.endpoint.handshakes.half_open,
            session.active.route,
            len(session.paths),
            session.epochs.epoch,
            {path: (list(counters.lows), list(counters.highs)) for path, counters in session.acks.received.items()},
        )

    def unmoved_by(self, datagrams: list[bytes], *, source: Address = A) -> None:
        """B neither changes nor says anything because of `datagrams`, and goes on hearing A."""
        self.wire.run(60)  # until both have stopped asking whether the other is there
        before = self.state()
        assert self.wire.recorded is not None
        self.wire.recorded.clear()
        for number, datagram in enumerate(datagrams):
            self.wire.inject(source, B, datagram, number * 1e-6)
        self.wire.run(0.5)
        assert self.state() == before
        assert [each for each in self.wire.recorded if each[0] == B] == []
        self.say(b"still here")
        assert self.hear() == b"still here"


def header(datagram: bytes) -> list[int]:
    return list(HEADER.unpack_from(datagram))


def with_header(datagram: bytes, **fields: int) -> bytes:
    kind, path, epoch, index, counter = header(datagram)
    names = {"path": path, "epoch": epoch, "index": index, "counter": counter} | fields
    return HEADER.pack(kind, names["path"], names["epoch"], names["index"], names["counter"]) + datagram[HEADER_SIZE:]


# --- packets --------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_packet_makes_it_nothing() -> None:
    talk = Talk()
    packet = talk.packets()[-1]
    flipped = []
    for at in range(len(packet)):
        for bit in range(8):
            damaged = bytearray(packet)
            damaged[at] ^= 1 << bit
            flipped.append(bytes(damaged))
    talk.unmoved_by(flipped)


def test_every_truncated_packet_is_nothing() -> None:
    talk = Talk()
    packet = talk.packets()[-1]
    talk.unmoved_by([packet[:size] for size in range(1, len(packet))])


def test_packet_with_bytes_behind_it_is_nothing() -> None:
    talk = Talk()
    talk.unmoved_by([talk.packets()[-1] + bytes(size) for size in (1, 16, 100)])


def test_replayed_packets_are_nothing_at_once_and_later() -> None:
    talk = Talk()
    for number in range(20):
        talk.say(b"%d" % number)
        talk.hear()
    talk.unmoved_by(talk.packets())
    talk.wire.run(40)
    talk.unmoved_by(talk.packets())


def test_replayed_packets_from_another_address_move_no_path() -> None:
    talk = Talk()
    talk.unmoved_by(talk.packets(), source=MALLORY)


@pytest.mark.parametrize("counter", [1 << 20, (1 << 63), (1 << 64) - 1])
def test_forged_packet_with_the_highest_counter_does_not_slide_the_window(counter: int) -> None:
    talk = Talk()
    talk.unmoved_by([with_header(talk.packets()[-1], counter=counter)])


@pytest.mark.parametrize("field", ["path", "epoch", "counter"])
def test_packet_under_another_path_epoch_or_counter_does_not_open(field: str) -> None:
    talk = Talk()
    packet = talk.packets()[-1]
    values = {"path": range(256), "epoch": [0, 2, 3, 0xFFFF], "counter": range(200, 400)}[field]
    position = ["kind", "path", "epoch", "index", "counter"].index(field)
    talk.unmoved_by([with_header(packet, **{field: value}) for value in values if value != header(packet)[position]])


def test_packet_sent_back_to_its_sender_does_not_open() -> None:
    talk = Talk()
    session = talk.a.connection(talk.b).session
    assert session is not None
    mirrored = [with_header(packet, index=session.local_index) for packet in talk.packets()]
    talk.wire.run(60)
    assert talk.wire.recorded is not None
    talk.wire.recorded.clear()
    before = len(talk.a.events)
    for packet in mirrored:
        talk.wire.inject(B, A, packet)
    talk.wire.run(0.5)
    assert len(talk.a.events) == before
    assert [each for each in talk.wire.recorded if each[0] == A] == []


def test_forged_packets_do_not_open() -> None:
    talk = Talk()
    source = random.Random(1)
    head = header(talk.packets()[-1])
    forged = [
        HEADER.pack(PACKET, head[1], head[2], head[3], head[4] + 1 + number) + source.randbytes(16 + number % 1400)
        for number in range(2000)
    ]
    talk.unmoved_by(forged)


def test_packets_in_any_order_are_heard_once_and_in_order() -> None:
    talk = Talk()
    source = random.Random(2)
    held: list[tuple[Address, Address, bytes]] = []

    def hold(sender: Address, target: Address, datagram: bytes) -> bytes | None:
        if sender == A and datagram[0] == PACKET:
            held.append((sender, target, datagram))
            return None
        return datagram

    talk.wire.tap = hold
    data = source.randbytes(60_000)
    talk.sending.write(data)
    talk.wire.run(0.02)
    talk.wire.tap = None
    assert len(held) > 5
    # The highest counter first, then the rest in any order, each of them twice.
    held = [held[-1], *source.sample(held * 2, 2 * len(held))]
    for number, (sender, target, datagram) in enumerate(held):
        talk.wire.inject(sender, target, datagram, number * 1e-4)
    talk.wire.run(5)
    assert talk.hear() == data


def test_packet_of_one_session_does_not_open_in_another() -> None:
    talk = Talk()
    other = talk.wire.side("c", C)
    other.connect(talk.b)
    talk.wire.run(2)
    session = talk.b.connection(other).session
    assert session is not None
    talk.unmoved_by([with_header(packet, index=session.local_index) for packet in talk.packets()])


# --- handshakes -----------------------------------------------------------------------------------------------------


def recorded(talk: Talk, kind: int) -> list[bytes]:
    assert talk.wire.recorded is not None
    return [data for _, _, data in talk.wire.recorded if data[0] == kind]


def test_replayed_handshake_has_no_effect_after_its_end() -> None:
    talk = Talk()
    initiations, responses = recorded(talk, INITIATION), recorded(talk, RESPONSE)
    talk.wire.run(10)
    before = (len(talk.a.events), len(talk.b.events), talk.b.connection(talk.a).session)
    for datagram in initiations:
        talk.wire.inject(A, B, datagram)
        talk.wire.inject(MALLORY, B, datagram)
    for datagram in responses:
        talk.wire.inject(B, A, datagram)
    talk.wire.run(10)
    assert (len(talk.a.events), len(talk.b.events), talk.b.connection(talk.a).session) == before
    assert talk.b.endpoint.handshakes.half_open == 0
    talk.say(b"still here")
    assert talk.hear() == b"still here"


def test_replayed_handshake_from_elsewhere_gets_no_stream_data_there() -> None:
    talk = Talk()
    (initiation,) = recorded(talk, INITIATION)
    talk.wire.run(10)
    assert talk.wire.recorded is not None
    talk.wire.recorded.clear()
    talk.wire.inject(MALLORY, B, initiation)
    reply = talk.b.connection(talk.a).open("back")
    reply.write(b"secret" * 100)
    talk.wire.run(10)
    elsewhere = [data for _, target, data in talk.wire.recorded if target == MALLORY]
    assert sum(map(len, elsewhere)) <= len(initiation)
    assert all(data[0] == RESPONSE for data in elsewhere)


def test_answer_of_one_handshake_completes_no_other() -> None:
    """Re-binding: the responder's answer to C, readdressed to A's attempt, proves nothing to A."""
    wire = Wire(3)
    a, b, c = (wire.side(name, address) for name, address in (("a", A), ("b", B), ("c", C)))
    indices: dict[Address, bytes] = {}

    def cross(source: Address, target: Address, datagram: bytes) -> bytes | None:
        if datagram[0] == INITIATION:
            indices[source] = datagram[4:8]
        if datagram[0] == RESPONSE and target == C and A in indices:
            wire.inject(B, A, datagram[:8] + indices[A] + datagram[12:], 0.01)
        return None if datagram[0] == RESPONSE and target == A else datagram

    wire.tap = cross
    a.connect(b)
    c.connect(b)
    wire.run(3)
    assert b.identity in a.endpoint.connections
    assert not a.of(ConnectionLive)
    assert c.of(ConnectionLive)
    wire.tap = None
    assert wire.run(10, until=lambda: bool(a.of(ConnectionLive)))


@pytest.mark.parametrize("kind", [INITIATION, RESPONSE])
def test_handshake_with_any_flipped_byte_does_not_complete(kind: int) -> None:
    wire = Wire(4)
    a, b = wire.side("a", A), wire.side("b", B)
    source = random.Random(5)
    positions = iter(source.sample(range(1, 1100), 12))

    def damage(_: Address, __: Address, datagram: bytes) -> bytes:
        if datagram[0] != kind:
            return datagram
        at = next(positions, 1) % len(datagram)
        # A response may be shorter; the relay's header does not occur here.
        return datagram[:at] + bytes([datagram[at] ^ 0x10]) + datagram[at + 1 :]

    wire.tap = damage
    a.connect(b)
    wire.run(9)
    assert not a.of(ConnectionLive)
    assert not b.of(ConnectionLive)


# --- relays ---------------------------------------------------------------------------------------------------------


class Relayed:
    """A and B, and A and C, over a relay that may do what it likes. No two of them can meet otherwise."""

    def __init__(self) -> None:
        self.wire = Wire(6)
        self.relay = self.wire.side("r", R)
        self.relay.endpoint.relay = RelayTable()
        self.a, self.b, self.c = (self.wire.side(name, at) for name, at in (("a", A), ("b", B), ("c", C)))
        for side in (self.a, self.b, self.c):
            side.endpoint.relays[R] = self.relay.identity
            side.connect(self.relay)
            side.on_event = lambda event: event.connection.admit() if isinstance(event, ConnectionLive) else None
        assert self.wire.run(5, until=lambda: len(self.relay.of(ConnectionLive)) == 3)
        self.wire.blocked = lambda source, target: R not in (source, target)
        self.to_b, self.to_c = self._circuit(self.b), self._circuit(self.c)
        self.streams = {side.name: self._stream(side, circuit) for side, circuit in self._circuits()}
        self.heard: dict[str, bytearray] = {"b": bytearray(), "c": bytearray()}
        self.wire.run(3)

    def _circuits(self) -> list[tuple[Side, int]]:
        return [(self.b, self.to_b), (self.c, self.to_c)]

    def _circuit(self, side: Side) -> int:
        table = self.relay.endpoint.relay
        assert table is not None
        return table.open(self.wire.now, self.relay.connection(self.a), self.relay.connection(side), 77)

    def _stream(self, side: Side, circuit: int) -> Stream:
        return self.a.connect(side, Route(0, R, circuit)).open("talk")

    def speak(self, seconds: float) -> None:
        """A says 20 kB to each; both hear exactly what was meant for them."""
        said = {name: f"for {name} only;".encode() * 2000 for name in self.streams}
        for name, stream in self.streams.items():
            stream.write(said[name])
        for each in self.heard.values():
            each.clear()

        def done() -> bool:
            for side in (self.b, self.c):
                for event in side.of(StreamOffered):
                    self.heard[side.name].extend(event.stream.read())
            return all(len(self.heard[name]) >= len(said[name]) for name in said)

        assert self.wire.run(seconds, until=done), {name: len(heard) for name, heard in self.heard.items()}
        assert {name: bytes(heard) for name, heard in self.heard.items()} == said


Meddle = Callable[[Relayed, random.Random], Callable[[Address, Address, bytes], bytes | None]]


def _drops(_: Relayed, source: random.Random) -> Callable[[Address, Address, bytes], bytes | None]:
    return lambda _, __, data: None if data[0] == RELAYED and source.random() < 0.2 else data


def _duplicates_and_delays(stage: Relayed, source: random.Random) -> Callable[[Address, Address, bytes], bytes | None]:
    def meddle(sender: Address, target: Address, data: bytes) -> bytes:
        if data[0] == RELAYED and sender == R:
            for _ in range(3):
                stage.wire.inject(sender, target, data, source.random())
        return data

    return meddle


def _swaps_circuits(stage: Relayed, source: random.Random) -> Callable[[Address, Address, bytes], bytes | None]:
    """What was sent into one circuit comes out of the other, half of the time, and to the other client."""

    def meddle(sender: Address, target: Address, data: bytes) -> bytes | None:
        if data[0] != RELAYED or sender != R or source.random() < 0.5:
            return data
        circuit = RELAY_HEADER.unpack_from(data)[3]
        other = stage.to_c if circuit == stage.to_b else stage.to_b
        swapped = RELAY_HEADER.pack(RELAYED, 0, 0, other) + data[RELAY_HEADER.size :]
        receiver = target if target == A else C if target == B else B
        stage.wire.inject(sender, receiver, swapped, 0.01)
        return None

    return meddle


def _alters(_: Relayed, source: random.Random) -> Callable[[Address, Address, bytes], bytes | None]:
    def meddle(sender: Address, target: Address, data: bytes) -> bytes:
        if data[0] != RELAYED or sender != R or source.random() < 0.7:
            return data
        at = source.randrange(RELAY_HEADER.size, len(data))
        return data[:at] + bytes([data[at] ^ (1 << source.randrange(8))]) + data[at + 1 :]

    return meddle


@pytest.mark.parametrize("meddle", [_drops, _duplicates_and_delays, _swaps_circuits, _alters])
def test_relay_that_meddles_delays_what_arrives_and_changes_nothing(meddle: Meddle) -> None:
    stage = Relayed()
    stage.speak(10)
    stage.wire.tap = meddle(stage, random.Random(7))
    stage.speak(60)
    stage.wire.tap = None
    stage.speak(10)


def test_relay_that_replays_everything_it_ever_carried_changes_nothing() -> None:
    stage = Relayed()
    stage.wire.recorded = []
    stage.speak(10)
    carried = [each for each in stage.wire.recorded if each[2][0] == RELAYED and each[0] == R]
    stage.wire.recorded = None
    assert len(carried) > 20
    before = {side.name: len(side.events) for side in (stage.a, stage.b, stage.c)}
    for number, each in enumerate(random.Random(8).sample(carried, len(carried))):
        stage.wire.inject(*each, number * 1e-5)
    stage.wire.run(1)
    assert {side.name: len(side.events) for side in (stage.a, stage.b, stage.c)} == before
    stage.speak(10)


def test_datagram_that_claims_to_be_relayed_from_elsewhere_is_dropped() -> None:
    stage = Relayed()
    stage.wire.recorded = []
    stage.speak(10)
    carried = [data for source, target, data in stage.wire.recorded if data[0] == RELAYED and target == B]
    before = len(stage.b.events)
    for data in carried:
        stage.wire.inject(MALLORY, B, data)
        stage.wire.inject(MALLORY, B, struct.pack(">BBHI", RELAYED, 0, 0, 0) + data[8:])
    stage.wire.run(1)
    assert len(stage.b.events) == before
