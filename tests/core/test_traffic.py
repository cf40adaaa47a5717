"""Traffic classes: who goes first on one connection."""

from __future__ import annotations

from covey.core import limits
from covey.core.stream import Stream
from covey.core.traffic import INTERACTIVE_BYTES, ReadyStreams, Traffic
from covey.wire.datagram import PACKET
from tests.core.joint import Joint
from tests.core.pair import Wire, admit

EPOCH = 1


def streams(*traffic: Traffic) -> tuple[Joint, ReadyStreams, list[Stream]]:
    """A connection and streams of these classes whose names have arrived."""
    joint = Joint()
    opened = [joint.low.connection.open("s", traffic=each) for each in traffic]
    joint.settle()
    return joint, joint.low.connection.ready, opened


def order(ready: ReadyStreams) -> list[Stream]:
    return list(ready.in_turn(EPOCH))


def test_interactive_goes_before_bulk_whoever_was_first() -> None:
    _, ready, (bulk, plain, interactive) = streams(Traffic.BULK, Traffic.DEFAULT, Traffic.INTERACTIVE)
    for stream in (bulk, plain, interactive):
        stream.write(b"x")
    assert order(ready) == [plain, interactive, bulk]
    assert list(ready.in_turn(EPOCH, "interactive")) == [plain, interactive]


def test_default_stream_is_bulk_while_much_of_it_is_on_its_way() -> None:
    joint, ready, (stream, other) = streams(Traffic.DEFAULT, Traffic.DEFAULT)
    stream.write(bytes(INTERACTIVE_BYTES))
    assert not stream.bulk
    stream.write(b"x")
    other.write(b"x")
    assert stream.bulk
    assert order(ready) == [other, stream]
    joint.settle()
    stream.write(b"y")
    assert not stream.bulk, "all that was on its way has arrived"


def test_default_stream_stays_bulk_until_all_of_it_has_arrived() -> None:
    joint, _, (stream,) = streams(Traffic.DEFAULT)
    stream.write(bytes(INTERACTIVE_BYTES + 1))
    packet = joint.low.packet(room=2 * INTERACTIVE_BYTES)
    stream.write(b"y")
    assert stream.bulk
    joint.high.deliver(packet)
    joint.low.acknowledged(packet)
    joint.settle()
    stream.write(b"z")
    assert not stream.bulk


def test_named_classes_do_not_change() -> None:
    _, _, (bulk, interactive) = streams(Traffic.BULK, Traffic.INTERACTIVE)
    bulk.write(b"x")
    interactive.write(bytes(4 * INTERACTIVE_BYTES))
    assert (bulk.bulk, interactive.bulk) == (True, False)


def test_bulk_leaves_room_in_the_connections_window() -> None:
    """Readers that stop reading bulk stop nobody else."""
    joint = Joint(admit=False)
    for stream in [joint.low.connection.open("s", traffic=Traffic.BULK) for _ in range(5)]:
        stream.write(bytes(limits.STRANGER_STREAM_WINDOW))
    joint.settle()
    chat = joint.low.connection.open("chat")
    chat.write(b"hello")
    joint.settle()
    assert [stream.read() for stream in joint.high.offered() if stream.service == "chat"] == [b"hello"]


class Loaded:
    """Question and answer beside a stream that always has more to send than the window lets through."""

    def __init__(self) -> None:
        self.wire = wire = Wire(delay=0.01)
        a, b = wire.side("a"), wire.side("b")
        a.on_event = b.on_event = admit
        a.connect(b)
        assert wire.run(5, until=lambda: bool(b.endpoint.connections) and b.connection(a).admitted)
        wire.run(1)
        self.a, self.b = a, b
        self.bulk = a.connection(b).open("bulk")
        self.chat = a.connection(b).open("chat")
        wire.run(1)
        taken = {stream.service: stream for stream in b.connection(a).streams.values()}
        self.arriving, self.heard = taken["bulk"], taken["chat"]
        self.running = True
        self._swallow()
        wire.run(0.2)
        assert self.bulk.bulk

    def _swallow(self) -> None:
        if self.running:
            self.bulk.write(bytes(max(0, 4_000_000 - self.bulk.outgoing.held)))
            self.wire.after(0.001, self._swallow)
        self.arriving.read()

    def ask(self, within: float) -> float:
        """Seconds until a question has arrived."""
        began = self.wire.now
        self.chat.write(bytes(64))
        assert self.wire.run(within, until=lambda: bool(self.heard.incoming.available))
        assert self.heard.read() == bytes(64)
        return self.wire.now - began


def is_lane(datagram: bytes) -> bool:
    return datagram[0] == PACKET and limits.LANE <= datagram[1] < limits.PROBE_PATH


def test_question_arrives_in_half_a_round_trip_beside_bulk() -> None:
    loaded = Loaded()
    loaded.wire.recorded = recorded = []
    before = loaded.arriving.incoming.next
    for _ in range(10):
        assert loaded.ask(1) <= 0.0111, "it waited for the window that bulk fills"
    assert loaded.arriving.incoming.next - before > 1_000_000
    lane = [datagram for _, _, datagram in recorded if is_lane(datagram)]
    assert len(lane) == 10
    assert max(map(len, lane)) < 500, "no bulk takes the lane"


def test_datagram_takes_the_lane() -> None:
    loaded = Loaded()
    loaded.wire.recorded = recorded = []
    loaded.a.connection(loaded.b).send_datagram(loaded.chat, bytes(300))
    loaded.wire.run(0.001)
    assert [len(datagram) > 300 for _, _, datagram in recorded if is_lane(datagram)] == [True]


def test_what_overtook_bulk_makes_none_of_it_lost() -> None:
    loaded = Loaded()
    late = loaded.wire
    late.tap = lambda source, target, datagram: (
        datagram if is_lane(datagram) else late.inject(source, target, datagram, 0.03)
    )
    for _ in range(10):
        assert loaded.ask(1) <= 0.0111
    assert loaded.a.connection(loaded.b).session.active.recovery.lost_bytes == 0


def test_lane_that_leads_nowhere_costs_time_only() -> None:
    loaded = Loaded()
    loaded.wire.tap = lambda source, target, datagram: None if is_lane(datagram) else datagram
    loaded.running = False
    assert loaded.ask(1) > 0.02
    loaded.running = True
    loaded._swallow()
    loaded.ask(0.5)


def test_without_bulk_there_is_no_lane() -> None:
    loaded = Loaded()
    loaded.running = False
    loaded.wire.run(1)
    loaded.wire.recorded = recorded = []
    loaded.ask(1)
    assert not any(is_lane(datagram) for _, _, datagram in recorded)


def test_peer_that_used_its_lane_is_followed_when_it_moves() -> None:
    loaded = Loaded()
    loaded.ask(1)
    loaded.a.move(("198.19.0.1", 4000))
    loaded.running = False
    loaded.wire.run(2)
    assert loaded.b.connection(loaded.a).session.active.route.remote == ("198.19.0.1", 4000)
    loaded.ask(1)


def test_question_to_one_peer_goes_before_bulk_to_many() -> None:
    wire = Wire(delay=0.01)
    hub = wire.side("hub")
    hub.on_event = admit
    others = [wire.side(f"peer{number}") for number in range(12)]
    for other in others:
        other.on_event = admit
        hub.connect(other)
    assert wire.run(10, until=lambda: all(hub.connection(other).admitted for other in others))
    wire.run(1)
    streams = [hub.connection(other).open("s") for other in others]
    wire.run(1)
    for stream in streams[:-1]:
        stream.write(bytes(500_000))
    out = memoryview(bytearray(65_536))
    first = hub.endpoint.transmit(wire.now, out)
    assert first is not None
    assert first.remote == others[0].address
    streams[-1].write(b"hello")
    second, third = hub.endpoint.transmit(wire.now, out), hub.endpoint.transmit(wire.now, out)
    assert second is not None
    assert third is not None
    assert [second.remote, third.remote] == [others[-1].address, others[1].address]


def test_bulk_streams_of_a_connection_take_turns_by_trains() -> None:
    loaded = Loaded()
    loaded.running = False
    loaded.wire.run(1)
    connection, session = loaded.a.connection(loaded.b), loaded.a.connection(loaded.b).session
    assert session is not None
    streams = [connection.open(f"bulk{number}") for number in range(4)]
    connection._max_send = 1 << 40
    for stream in streams:
        stream.max_send = 1 << 40
        stream.write(bytes(4_000_000))
    out = memoryview(bytearray(65_536))
    for _ in range(40):
        session.active.recovery.congestion.window = 1 << 30
        session.active.recovery.pacer.left = 1 << 20
        assert session.transmit(loaded.wire.now, out) is not None
    moved = [stream.outgoing.sent for stream in streams]
    assert min(moved) > 500_000
    assert max(moved) - min(moved) <= len(out), moved
