"""Trains sealed and opened at once: the same bytes and the same effects as packet by packet."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.core import endpoint as endpoint_module
from covey.core import receiver as receiver_module
from covey.core.connection import Connection
from covey.core.events import ConnectionLive, Event
from covey.core.received import ReceivedCounters
from covey.core.session import Session
from covey.core.trains import RUN_MINIMUM, TRAIN_LIMIT, TrainOpener, TrainSealer, numbers, run_length
from covey.crypto.packet import NONCE, PacketKey
from covey.wire import frames
from covey.wire.datagram import HEADER, PACKET, PACKET_OVERHEAD, RELAY_HEADER, RELAYED
from covey.wire.frames import STREAM_HEAD
from tests.core.pair import Side, Wire, admit

A, B, ELSEWHERE = ("10.0.0.1", 4000), ("10.0.0.2", 4000), ("10.0.0.9", 4000)
KEY = PacketKey(bytes(range(32)))
SEGMENT = 200
CHUNK = SEGMENT - PACKET_OVERHEAD - STREAM_HEAD.size


# --- the machines -----------------------------------------------------------------------------------------------------


def packet(header: bytes, path: int, counter: int, plain: bytes, key: PacketKey = KEY) -> bytes:
    return header + key.aead.encrypt(NONCE.pack(path, counter), plain, header)


@given(
    count=st.integers(1, 40),
    index=st.integers(0, 3),
    size=st.sampled_from((50, 200, 1199, 1452)),
    circuit=st.sampled_from((0, 7, 0xFFFF_FFFF)),
    counter=st.sampled_from((0, 1000, (1 << 64) - 64)),
    offset=st.sampled_from((0, 5, (1 << 32) - 3, (1 << 48) - 300, (1 << 63) + 17)),
    stream=st.sampled_from((0, 5, 0xFFFF_FFFF)),
    cut=st.integers(1, 5000),
)
@settings(max_examples=60, deadline=None)
def test_sealer_writes_what_packets_sealed_one_by_one_would_be(
    count: int, index: int, size: int, circuit: int, counter: int, offset: int, stream: int, cut: int
) -> None:
    outer = RELAY_HEADER.pack(RELAYED, 0, 0, circuit) if circuit else b""
    segment = size + len(outer) + 16
    chunk = segment - len(outer) - PACKET_OVERHEAD - STREAM_HEAD.size
    data = random.Random(count).randbytes(count * chunk)
    expected = b""
    for number in range(count):
        header = HEADER.pack(PACKET, 3, 0xBEEF, 0xDEAD_BEEF, counter + number)
        head = STREAM_HEAD.pack(frames.STREAM, 0, stream, offset + number * chunk, chunk)
        plain = head + data[number * chunk : (number + 1) * chunk]
        expected += outer + packet(header, 3, counter + number, plain)
    out = memoryview(bytearray(b"\xaa" * 65_536))
    sealer = TrainSealer(bytearray(65_536))
    pieces = [memoryview(data)[start : start + cut] for start in range(0, len(data), cut)]
    header = int.from_bytes(HEADER.pack(PACKET, 3, 0xBEEF, 0xDEAD_BEEF, 0)[:8], "big")
    frame = int.from_bytes(STREAM_HEAD.pack(frames.STREAM, 0, stream, offset, chunk), "big")
    for _ in range(2):  # the second time the buffers are cut already
        sealer.seal(KEY.aead.encrypt_into, out, index, count, segment, circuit, header, counter, frame, pieces)
        start, end = index * segment, (index + count) * segment
        assert bytes(out[start:end]) == expected
        assert set(bytes(out[:start]) + bytes(out[end:])) <= {0xAA}


@given(
    count=st.integers(1, TRAIN_LIMIT),
    size=st.sampled_from((49, 200, 900)),
    outer=st.sampled_from((0, 8)),
    broken=st.none() | st.integers(0, TRAIN_LIMIT - 1),
)
@settings(max_examples=40, deadline=None)
def test_opener_opens_up_to_the_first_that_is_broken(count: int, size: int, outer: int, broken: int | None) -> None:
    plains = [random.Random(number).randbytes(size - PACKET_OVERHEAD) for number in range(count)]
    train = bytearray()
    for number, plain in enumerate(plains):
        header = HEADER.pack(PACKET, 9, 2, 77, 500 + number)
        train += bytes(outer) + packet(header, 9, 500 + number, plain)
    segment = size + outer
    if broken is not None and broken < count:
        train[broken * segment + outer + 20] ^= 1
    opener = TrainOpener()
    high = int.from_bytes(HEADER.pack(PACKET, 9, 2, 77, 0)[:8], "big")
    for _ in range(2):
        run = memoryview(bytes(train))
        opened = opener.open(KEY.aead.decrypt_into, run, count, segment, outer, high, 500)
        assert opened == (count if broken is None else min(broken, count))
        assert [bytes(plain) for plain in opener.plain[:opened]] == plains[:opened]
        assert opener.data(0, opened) == b"".join(plain[STREAM_HEAD.size :] for plain in plains[:opened])
        assert opener.heads == tuple(
            int.from_bytes(plain[at : at + 8], "big") for plain in plains[:opened] for at in (0, 8)
        )


@given(st.lists(st.sampled_from((1, 1, 1, 1, 2, 5)), min_size=1, max_size=20), st.integers(0, 19))
def test_run_length_counts_what_goes_on(steps: list[int], other: int) -> None:
    lows, highs = [10], [7] * len(steps)
    for step in steps[1:]:
        lows.append(lows[-1] + step)
    if other < len(highs):
        highs[other] = 8
    pairs = tuple(number for pair in zip(highs, lows, strict=True) for number in pair)
    for first in range(len(steps)):
        length = 1
        while first + length < len(steps) and (highs[first + length], lows[first + length]) == (
            highs[first],
            lows[first] + length,
        ):
            length += 1
        assert run_length(pairs, first, 1) == length


def test_numbers_stand_where_the_formats_say() -> None:
    raw = bytearray(100)
    HEADER.pack_into(raw, 10, PACKET, 1, 2, 3, 4)
    STREAM_HEAD.pack_into(raw, 50, frames.STREAM, 1, 5, (6 << 48) + 7, 8)
    high, low, head, rest = numbers(2, 40).unpack_from(raw, 10)
    assert (high, low) == (PACKET << 56 | 1 << 48 | 2 << 32 | 3, 4)
    assert (head, rest) == (frames.STREAM << 56 | 1 << 48 | 5 << 16 | 6, 7 << 16 | 8)


@given(st.lists(st.tuples(st.sampled_from((1, 1, 2, 9, 9000)), st.integers(1, 64)), min_size=1, max_size=12))
def test_counters_of_a_run_are_counters_one_by_one(runs: list[tuple[int, int]]) -> None:
    together, single = ReceivedCounters(), ReceivedCounters()
    at = 0
    for gap, length in runs:
        first, last = at + gap - 1, at + gap + length - 2
        expected = [single.add(counter, 1.0) for counter in range(first, last + 1)][-1]
        assert together.add_run(first, last, 1.0) == expected
        assert together.ranges() == single.ranges()
        for counter in (first - 1, first, last, last + 1, last - 8000, first - 20_000):
            assert together.fresh(counter) == single.fresh(counter)
        at = last + 1


# --- the effects ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Packet:
    """What the peer puts into one datagram, and what happens to it on the way."""

    kind: str = "next"
    stream: int = 0
    shift: int = 0
    """Of the offset of stream data, or of the limit it should break."""
    gap: int = 0
    """Counters left out before it; -1 repeats the last one."""
    damage: int = -1
    """The byte that is changed."""
    epoch: int = 0
    path: int = 0
    repeat: int = 1


PACKETS = st.one_of(
    st.builds(Packet, repeat=st.integers(1, 12)),
    st.builds(Packet, stream=st.integers(0, 2), repeat=st.integers(1, 12)),
    st.builds(Packet, gap=st.sampled_from((-1, 1, 3)), stream=st.integers(0, 1), repeat=st.integers(1, 6)),
    st.builds(Packet, shift=st.sampled_from((-CHUNK, -3, 5, CHUNK)), stream=st.integers(0, 1)),
    st.builds(Packet, damage=st.integers(1, SEGMENT - 1)),
    st.builds(Packet, epoch=st.just(1)),
    st.builds(Packet, path=st.just(1), repeat=st.integers(1, 9)),
    st.builds(
        Packet,
        kind=st.sampled_from(
            ("fin", "ack", "ack and data", "ping", "short", "two", "limit", "reset", "stop", "challenge", "datagram")
        ),
        stream=st.integers(0, 1),
    ),
    st.builds(Packet, kind=st.just("datagrams"), stream=st.integers(0, 1), repeat=st.integers(1, 6)),
    st.builds(Packet, kind=st.sampled_from(("beyond", "beyond all", "garbage", "close", "new", "padding"))),
)


class Twins:
    """Two worlds alike. In one, trains are received as they are; in the other, every packet by the general loop."""

    def __init__(self) -> None:
        self.worlds: list[tuple[Wire, Side, Side]] = []
        for _ in range(2):
            wire = Wire(7, delay=0.001)
            a, b = wire.side("a", A), wire.side("b", B)
            for side in (a, b):
                side.on_event = admit
            a.connect(b)
            assert wire.run(10, until=lambda a=a, b=b: bool(a.of(ConnectionLive) and b.of(ConnectionLive)))  # type: ignore[misc]
            for service in ("one", "two"):
                a.connection(b).open(service)
            answer = b.connection(a).open("back")
            answer.write(b"something to acknowledge")
            wire.run(1)
            self.worlds.append((wire, a, b))
        wire, a, b = self.worlds[0]
        session = a.connection(b).session
        assert session is not None
        self.session: Session = session
        # Encapsulation draws on the system's randomness: the second world speaks with the keys of the first.
        first, second = (b.connection(a).session for _, a, b in self.worlds)
        assert first is not None
        assert second is not None
        second.epochs.key = copied(first.epochs.key)
        second.epochs.receiving = {epoch: copied(key) for epoch, key in first.epochs.receiving.items()}
        self.peer = b.connection(a)
        self.streams = list(a.connection(b).streams)[:2]
        self.sent = {number: a.connection(b).streams[number].outgoing.end for number in self.streams}
        self.counters = {session.active.id: session.active.counter, session.active.id + 1: 0}

    def datagram(self, spec: Packet) -> bytes:
        session = self.session
        path = session.active.id + spec.path
        counter = max(self.counters[path] + spec.gap, 0)
        self.counters[path] = counter + 1
        header = HEADER.pack(PACKET, path, session.epochs.wire_epoch + spec.epoch, session.peer_index, counter)
        sealed = packet(header, path, counter, self.plain(spec), session.epochs.key)
        if spec.damage >= 0:
            sealed = sealed[: spec.damage] + bytes([sealed[spec.damage] ^ 4]) + sealed[spec.damage + 1 :]
        return sealed

    def plain(self, spec: Packet) -> bytes:
        size = SEGMENT - PACKET_OVERHEAD
        number = self.streams[spec.stream] if spec.stream < 2 else 40
        match spec.kind:
            case "ping":
                plain = bytes([frames.PING])
            case "garbage":
                plain = b"\xee" * size
            case "ack":
                plain = frames.encode_ack(0, 3, [(0, 0)])
            case "limit":
                plain = frames.encode_limit(frames.MAX_STREAM_DATA, number, 5_000_000)
            case "reset":
                plain = frames.encode_reset(number, 3, self.sent[number])
            case "stop":
                plain = frames.encode_stop(number, 4)
            case "close":
                plain = frames.encode_close(0, "enough")
            case "challenge":
                plain = frames.encode_path(frames.PATH_CHALLENGE, b"12345678")
            case "datagrams":
                plain = b"".join(
                    frames.DATAGRAM_HEAD.pack(frames.DATAGRAM, stream, 5) + b"hello"
                    for stream in (number, number, 99, 1)
                )
            case "datagram":
                plain = frames.DATAGRAM_HEAD.pack(frames.DATAGRAM, number, 5) + b"hello"
            case "new":
                plain = self.frame(number + 8, 0, b"\x03new and more")
            case "beyond":
                stream = self.peer.streams.get(number)
                plain = self.frame(number, stream.max_receive - 5 if stream else 0, bytes(CHUNK))
            case "beyond all":
                plain = self.frame(number, 1 << 40, bytes(CHUNK))
            case "short" | "fin" | "two" | "ack and data":
                room = {"short": 40, "two": 30, "fin": CHUNK, "ack and data": CHUNK - frames.ACK_HEAD.size}[spec.kind]
                plain = self.next(number, room, spec.shift, fin=spec.kind == "fin")
                if spec.kind == "two":
                    plain += self.next(self.streams[1 - spec.stream], 30, 0)
                if spec.kind == "ack and data":
                    plain = frames.encode_ack(0, 3, [(0, 0)]) + plain
            case "padding":
                plain = b""
            case _:
                plain = self.next(number, CHUNK, spec.shift)
        return plain.ljust(size, b"\0")

    def next(self, number: int, size: int, shift: int, *, fin: bool = False) -> bytes:
        offset = max(self.sent.get(number, 0) + shift, 0)
        self.sent[number] = offset + size
        return self.frame(number, offset, bytes((offset + at) % 251 for at in range(size)), fin=fin)

    @staticmethod
    def frame(number: int, offset: int, data: bytes, *, fin: bool = False) -> bytes:
        return STREAM_HEAD.pack(frames.STREAM, fin, number, offset, len(data)) + data

    def deliver(self, train: bytes, source: tuple[str, int]) -> None:
        """To both; whatever can be seen of them from outside is the same afterwards."""
        seen = []
        for general, (wire, a, b) in enumerate(self.worlds):
            with pytest.MonkeyPatch.context() as patch:
                if general:
                    patch.setattr(receiver_module, "RUN_MINIMUM", 1_000_000)
                    patch.setattr(endpoint_module, "RUN_MINIMUM", 1_000_000)
                wire.now += 0.01
                b.endpoint.receive(wire.now, memoryview(train), SEGMENT, 0, source)
            seen.append(self.look(wire, a, b))
        assert seen[0] == seen[1]

    def look(self, wire: Wire, a: Side, b: Side) -> dict[str, Any]:
        happened = [describe(event) for event in b.endpoint.events()]
        left = []
        out = memoryview(bytearray(65_536))
        while (train := b.endpoint.transmit(wire.now, out)) is not None:
            left.append((train, bytes(out[: train.size])))
        connection: Connection | None = b.endpoint.connections.get(a.identity)
        found: dict[str, Any] = {"events": happened, "sent": left, "deadline": b.endpoint.deadline()}
        if connection is not None and connection.session is not None:
            session = connection.session
            found["acks"] = (session.acks.at, {path: each.ranges() for path, each in session.acks.received.items()})
            found["paths"] = [(path.route, path.received_bytes, path.id) for path in session.paths]
            found["streams"] = {
                number: (stream.read(), stream.incoming.next, stream.incoming.highest, stream.at_end, stream.failed)
                for number, stream in list(connection.streams.items())
            }
        return found


def copied(key: PacketKey) -> PacketKey:
    """One of its own: a session that ends overwrites its keys."""
    return PacketKey(bytes(key._key))


def describe(event: Event) -> tuple[Any, ...]:
    stream = getattr(event, "stream", None)
    return (type(event).__name__, stream and stream.id, getattr(event, "code", None), getattr(event, "datagrams", None))


@given(
    st.lists(
        st.tuples(st.lists(PACKETS, min_size=1, max_size=8), st.integers(0, 60), st.booleans()), min_size=1, max_size=3
    )
)
@settings(max_examples=60, deadline=None)
def test_trains_have_the_effects_of_their_packets(script: list[tuple[list[Packet], int, bool]]) -> None:
    twins = Twins()
    for packets, cut, moved in script:
        datagrams = [twins.datagram(each) for each in packets for _ in range(each.repeat)]
        train = b"".join(datagrams)
        twins.deliver(train[: len(train) - cut], ELSEWHERE if moved else A)


def full_train(twins: Twins, count: int, **changes: Any) -> bytes:
    return b"".join(twins.datagram(Packet(**changes)) for _ in range(count))


def opened_at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long the runs were that were opened together."""
    lengths: list[int] = []
    original = TrainOpener.open

    def spy(self: TrainOpener, *args: Any) -> int:
        lengths.append(original(self, *args))
        return lengths[-1]

    monkeypatch.setattr(TrainOpener, "open", spy)
    return lengths


def test_runs_are_opened_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the comparison above compares is not the general loop with itself."""
    lengths = opened_at_once(monkeypatch)
    twins = Twins()
    lengths.clear()
    twins.deliver(full_train(twins, 40), A)
    assert lengths == [40]
    lengths.clear()
    middle = twins.datagram(Packet(damage=50))
    twins.deliver(full_train(twins, 10) + middle + full_train(twins, 10) + twins.datagram(Packet(gap=2)), A)
    assert lengths == [10], "the damaged one was counted, what came after has a counter more"
    lengths.clear()
    twins.deliver(full_train(twins, RUN_MINIMUM - 1), A)
    assert lengths == []


@pytest.mark.parametrize("kind", ["beyond", "beyond all"])
def test_window_holds_in_the_middle_of_a_run(kind: str) -> None:
    """A run that breaks a limit in its last packet is taken up to there, and ends the session."""
    twins = Twins()
    _, a, b = twins.worlds[0]
    connection = b.connection(a)
    stream = connection.streams[twins.streams[0]]
    stream.max_receive = twins.sent[stream.id] + 6 * CHUNK + CHUNK // 2
    if kind == "beyond all":
        stream.max_receive = 1 << 40
        connection._max_receive = connection._received + 6 * CHUNK + CHUNK // 2
    other = twins.worlds[1][2].connection(twins.worlds[1][1])
    other.streams[stream.id].max_receive, other._max_receive = stream.max_receive, connection._max_receive
    twins.deliver(full_train(twins, 10), A)
    assert connection.closed
    assert other.closed
    assert stream.incoming.available == other.streams.get(stream.id, stream).incoming.available
    assert stream.incoming.available == 6 * CHUNK
