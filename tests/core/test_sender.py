"""The shape of what leaves: trains of equal datagrams, small things together, never more than the path takes."""

from __future__ import annotations

from covey.core import limits
from covey.core.events import ConnectionLive, Event, Ponged
from covey.core.sender import Train
from covey.core.session import Session
from covey.crypto.packet import NONCE
from covey.wire import frames
from covey.wire.datagram import HEADER, PACKET_OVERHEAD
from covey.wire.frames import AckFrame, CryptoFrame, Frame, PingFrame, StreamFrame, parse_frames
from tests.core.pair import Side, Wire

A, B = ("10.0.0.1", 4000), ("10.0.0.2", 4000)
CHUNK = 1200 - PACKET_OVERHEAD - frames.STREAM_HEAD.size


def connected() -> tuple[Wire, Side, Side, Session]:
    wire = Wire(1, mtu=1200)
    a, b = wire.side("a", A), wire.side("b", B)

    def admit(event: Event) -> None:
        if isinstance(event, ConnectionLive):
            event.connection.admit()

    a.on_event = b.on_event = admit
    a.connect(b)
    wire.run(3)
    session = a.connection(b).session
    assert session is not None
    return wire, a, b, session


def trains(wire: Wire, session: Session) -> list[tuple[Train, list[list[Frame]]]]:
    """All that may leave now, opened."""
    found = []
    out = memoryview(bytearray(65_536))
    peer = wire.sides[session.active.route.remote].endpoint._sessions[session.peer_index]
    while (train := session.transmit(wire.now, out)) is not None:
        packets = []
        for start in range(0, train.size, train.segment):
            raw = bytes(out[start : min(start + train.segment, train.size)])
            _, path, epoch, _, counter = HEADER.unpack_from(raw)
            key = peer.epochs.receiving.get(epoch)
            assert key is not None
            packets.append(list(parse_frames(key.aead.decrypt(NONCE.pack(path, counter), raw[16:], raw[:16]))))
        found.append((train, packets))
    return found


def kinds(packets: list[list[Frame]]) -> list[list[type]]:
    return [[type(frame) for frame in packet] for packet in packets]


def test_nothing_to_say_is_silence() -> None:
    wire, _, _, session = connected()
    assert trains(wire, session) == []


def test_small_writes_share_a_datagram() -> None:
    wire, a, b, session = connected()
    streams = [a.connection(b).open(f"s{number}") for number in range(10)]
    for stream in streams:
        stream.write(b"hello")
    ((train, packets),) = trains(wire, session)
    assert len(packets) == 1
    assert train.size == train.segment < 1200
    assert {frame.stream for frame in packets[0] if isinstance(frame, StreamFrame)} == {s.id for s in streams}


def test_bulk_leaves_in_full_datagrams_with_one_frame_each() -> None:
    wire, a, b, session = connected()
    stream = a.connection(b).open("s")
    trains(wire, session)
    stream.write(bytes(30_000))
    (train, packets), *_ = trains(wire, session)
    assert (train.local, train.remote, train.segment) == (0, B, 1200)
    assert train.size == 1200 * len(packets)
    assert kinds(packets) == [[StreamFrame]] * len(packets)
    payloads = [frame for packet in packets for frame in packet if isinstance(frame, StreamFrame)]
    assert {len(frame.data) for frame in payloads} == {CHUNK}
    offsets = [frame.offset for frame in payloads]
    assert offsets == [2 + number * CHUNK for number in range(len(payloads))]


def test_the_rest_is_a_shorter_last_datagram() -> None:
    wire, a, b, session = connected()
    stream = a.connection(b).open("s")
    trains(wire, session)
    stream.write(bytes(3 * CHUNK + 100))
    stream.finish()
    ((train, packets),) = trains(wire, session)
    assert len(packets) == 4
    assert 3 * 1200 < train.size < 4 * 1200
    last = packets[-1][-1]
    assert isinstance(last, StreamFrame)
    assert (len(last.data), last.fin) == (100, True)


def test_trains_are_bounded() -> None:
    wire, a, b, session = connected()
    session.active.recovery.congestion.window = 1 << 30
    session.active.recovery.congestion.rate = 1e12
    a.connection(b).open("s").write(bytes(1_000_000))
    for train, packets in trains(wire, session):
        assert train.size <= limits.TRAIN_BYTES
        assert len(packets) <= limits.TRAIN_DATAGRAMS


def test_window_and_pacing_hold_bulk_back() -> None:
    wire, a, b, session = connected()
    congestion = session.active.recovery.congestion
    a.connection(b).open("s").write(bytes(1_000_000))
    trains(wire, session)
    assert congestion.in_flight <= congestion.window
    assert session.sender.ready_at is not None or congestion.window - congestion.in_flight < 1200


def test_control_goes_first_and_out_of_the_windows_reach() -> None:
    wire, a, b, session = connected()
    a.connection(b).open("s").write(bytes(1_000_000))
    trains(wire, session)
    session.active.recovery.congestion.window = 0
    assert trains(wire, session) == []
    session.start_ratchet()
    found = [kind for _, packets in trains(wire, session) for packet in kinds(packets) for kind in packet]
    assert found == [CryptoFrame, CryptoFrame]


def test_probe_after_a_timeout_always_asks_for_an_acknowledgement() -> None:
    """Streams are blocked by the peer's window, and what was in flight is a PING: it must be a PING again."""
    wire, a, b, session = connected()
    connection = a.connection(b)
    stream = connection.open("s")
    wire.run(1)
    stream.write(bytes(100_000))
    connection._max_send = connection._sent
    session.keep_alive()
    assert [kinds(packets) for _, packets in trains(wire, session)] == [[[PingFrame]]]
    session.active.recovery.probes = 1
    assert [kinds(packets) for _, packets in trains(wire, session)] == [[[PingFrame]]]


def test_probe_after_a_timeout_repeats_the_oldest_data() -> None:
    wire, a, b, session = connected()
    stream = a.connection(b).open("s")
    wire.run(1)
    stream.write(bytes(10_000))
    trains(wire, session)
    session.active.recovery.congestion.window = 0
    session.active.recovery.probes = 1
    ((_, packets),) = trains(wire, session)
    first = packets[0][0]
    assert isinstance(first, StreamFrame)
    assert first.offset == 2


def test_acknowledgement_waits_for_data_to_travel_with() -> None:
    wire, a, b, session = connected()
    stream = a.connection(b).open("s")
    wire.run(1)
    session.acks.counters(0).add(1 << 20, wire.now)
    session.acks.note(wire.now, 0, at_once=False)
    assert trains(wire, session) == []
    stream.write(b"x")
    assert [kinds(packets) for _, packets in trains(wire, session)] == [[[AckFrame, StreamFrame]]]
    assert session.acks.at is None


def test_acknowledgement_that_is_due_travels_alone() -> None:
    wire, _, _, session = connected()
    session.acks.counters(0).add(1 << 20, wire.now)
    session.acks.note(wire.now, 0, at_once=True)
    assert [kinds(packets) for _, packets in trains(wire, session)] == [[[AckFrame]]]


def test_packet_full_of_control_is_still_one_datagram() -> None:
    """Many resets at once: no datagram grows beyond the path, whatever its frames' sizes add up to."""
    wire, a, b, session = connected()
    streams = [a.connection(b).open("s") for _ in range(200)]
    wire.run(2)
    for stream in streams:
        stream.reset()
    found = trains(wire, session)
    assert sum(len(packets) for _, packets in found) > 1
    for train, _ in found:
        assert train.segment <= 1200
    wire.run(2)
    assert not a.connection(b).streams


def test_pings_are_numbered_by_their_token() -> None:
    wire, a, b, _ = connected()
    for token in (0, 1, (1 << 64) - 1):
        a.connection(b).ping(token)
    wire.run(1)
    assert {event.token for event in a.of(Ponged)} == {0, 1, (1 << 64) - 1}


def test_counters_of_a_path_never_repeat() -> None:
    wire, a, b, session = connected()
    seen: set[tuple[int, int, int]] = set()

    def tap(source: object, target: object, datagram: bytes) -> bytes:
        if source == A and datagram[0] == 4:
            _, path, epoch, _, counter = HEADER.unpack_from(datagram)
            assert (path, epoch, counter) not in seen
            seen.add((path, epoch, counter))
        return datagram

    wire.tap = tap
    stream = a.connection(b).open("s")
    for _ in range(20):
        stream.write(bytes(20_000))
        session.ping(1)
        wire.run(0.5)
    wire.run(130)
    stream.write(b"x")
    wire.run(1)
    assert {epoch for _, epoch, _ in seen} == {1, 2}


def held_back(size: int) -> tuple[Wire, Session, list[int]]:
    """A fast path whose pacing lets 20,000 bytes go at the moment: the trains that leave of `size` bytes of data."""
    wire, a, b, session = connected()
    stream = a.connection(b).open("bulk")
    stream.max_send = 1 << 30
    trains(wire, session)
    recovery = session.active.recovery
    recovery.congestion.window, recovery.congestion.rate = 10_000_000, 1e9
    recovery.pacer.credit(wire.now, 1e9, 1200)
    recovery.pacer.left = 20_000.0
    stream.write(bytes(size))
    return wire, session, [train.size for train, _ in trains(wire, session)]


def test_pacing_waits_for_a_whole_train_if_there_is_data_for_one() -> None:
    wire, session, sizes = held_back(500_000)
    assert sizes == []
    assert session.active.recovery.limited
    assert session.sender.ready_at is not None
    assert wire.now < session.sender.ready_at <= wire.now + 0.0011
    wire.now = session.sender.ready_at
    sizes = [train.size for train, _ in trains(wire, session)]
    assert len(sizes) > 5
    assert set(sizes[:-1]) == {54 * 1200}, "full trains"


def test_pacing_does_not_wait_for_more_than_there_is_to_send() -> None:
    _, session, sizes = held_back(15_000)
    assert sum(sizes) > 15_000
    assert session.sender.ready_at is None


def test_datagrams_fill_whole_trains() -> None:
    wire, a, b, session = connected()
    stream = a.connection(b).open("s")
    trains(wire, session)
    sent = [bytes([number]) * 200 for number in range(40)]
    for data in sent:
        a.connection(b).send_datagram(stream, data)
    ((train, packets),) = trains(wire, session)
    assert train.segment == 1200
    assert -(-train.size // 1200) == 8
    found = [frame for packet in packets for frame in packet]
    assert [bytes(frame.data) for frame in found if isinstance(frame, frames.DatagramFrame)] == sent
