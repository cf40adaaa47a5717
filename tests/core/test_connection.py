from __future__ import annotations

import random

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from covey.base.errors import LimitError, ParseError, StateError
from covey.core import limits
from covey.core.events import (
    DatagramsReceived,
    StreamOffered,
    StreamReadable,
    StreamReset,
)
from covey.core.stream import Stream, StreamCode
from covey.wire import frames
from tests.core.joint import Awake, End, Joint, Packet

# --- everything at once ---------------------------------------------------------------------------------------------


class ConnectionMachine(RuleBasedStateMachine):
    """Programs on both sides, and a network that delivers, repeats, reorders, loses and acknowledges as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.joint = Joint()
        self.flying: list[tuple[End, End, Packet]] = []
        self.written: dict[tuple[int, End], bytearray] = {}
        self.read: dict[tuple[int, End], bytearray] = {}
        self.streams: dict[End, list[Stream]] = {self.joint.low: [], self.joint.high: []}
        self.source = random.Random(1)

    ends = st.sampled_from(["low", "high"])

    def sides(self, name: str) -> tuple[End, End]:
        low, high = self.joint.low, self.joint.high
        return (low, high) if name == "low" else (high, low)

    def known(self, end: End) -> list[Stream]:
        for stream in end.offered():
            if stream not in self.streams[end]:
                self.streams[end].append(stream)
        return self.streams[end]

    @rule(name=ends)
    def open(self, name: str) -> None:
        end, _ = self.sides(name)
        if len(end.connection.streams) < 6:
            self.streams[end].append(end.connection.open("s"))

    def pick(self, name: str, data: st.DataObject) -> tuple[End, End, Stream | None]:
        end, other = self.sides(name)
        streams = self.known(end)
        return end, other, data.draw(st.sampled_from(streams)) if streams else None

    @rule(name=ends, data=st.data(), size=st.sampled_from([0, 1, 10, 900, 3000]))
    def write(self, name: str, data: st.DataObject, size: int) -> None:
        end, _, stream = self.pick(name, data)
        if stream is None:
            return
        content = self.source.randbytes(size)
        try:
            stream.write(content)
        except StateError:
            assert stream.finished or stream.reset_code is not None or stream.closed or stream.failed is not None
            return
        self.written.setdefault((stream.id, end), bytearray()).extend(content)

    @rule(name=ends, data=st.data(), what=st.sampled_from(["finish", "reset", "stop"]))
    def end(self, name: str, data: st.DataObject, what: str) -> None:
        _, _, stream = self.pick(name, data)
        if stream is not None:
            getattr(stream, what)()

    @rule(name=ends, data=st.data(), limit=st.sampled_from([-1, 1, 500]))
    def take(self, name: str, data: st.DataObject, limit: int) -> None:
        _, other, stream = self.pick(name, data)
        if stream is not None:
            got = self.read.setdefault((stream.id, other), bytearray())
            got += stream.read(limit)
            written = self.written.get((stream.id, other), bytearray())
            assert written[: len(got)] == got
            if stream.at_end and not stream.quiet:
                assert got == written

    @rule(name=ends, room=st.sampled_from([30, 200, 1000]))
    def send(self, name: str, room: int) -> None:
        end, other = self.sides(name)
        packet = end.packet(room)
        if packet:
            self.flying.append((end, other, packet))

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        _, other, packet = data.draw(st.sampled_from(self.flying))
        other.deliver(packet)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.flying) - 1))
        end, _, packet = self.flying[at]
        if packet.delivered:
            end.acknowledged(packet)
            if data.draw(st.booleans()):
                del self.flying[at]
        else:
            end.lost(packet)

    @invariant()
    def windows_hold(self) -> None:
        for end, other in self.joint.ends():
            connection, peer = end.connection, other.connection
            assert connection._consumed <= connection._received <= peer._sent <= peer._max_send
            for stream in connection.streams.values():
                assert stream._counted <= stream.incoming.highest <= stream.max_receive
                assert stream.outgoing.sent <= stream.max_send

    def teardown(self) -> None:
        """Whatever happened: once all is delivered and every stream is ended, nothing is left, and credit is even."""
        for end, other, packet in self.flying:
            other.deliver(packet)
            end.acknowledged(packet)
        self.joint.settle()
        for end, other in self.joint.ends():
            for stream in self.known(end):
                got = self.read.setdefault((stream.id, other), bytearray())
                got += stream.read()
                assert self.written.get((stream.id, other), bytearray())[: len(got)] == got
        for _ in range(2):
            for end, _ in self.joint.ends():
                for stream in self.known(end):
                    stream.reset()
                self.joint.settle()
        for end, other in self.joint.ends():
            assert not end.connection.streams
            assert other.connection._sent == end.connection._received == end.connection._consumed


TestConnectionMachine = ConnectionMachine.TestCase
TestConnectionMachine.settings = hypothesis_settings(max_examples=150, stateful_step_count=50, deadline=None)


# --- opening --------------------------------------------------------------------------------------------------------


def test_stream_numbers_say_who_opened() -> None:
    joint = Joint()
    assert [joint.low.connection.open("s").id for _ in range(3)] == [0, 2, 4]
    assert [joint.high.connection.open("s").id for _ in range(3)] == [1, 3, 5]


@pytest.mark.parametrize("service", ["", "x" * 129, "ä"])
def test_impossible_service_names_are_our_own_mistake(service: str) -> None:
    with pytest.raises(ValueError):
        Joint().low.connection.open(service)


def test_service_name_arrives_before_the_stream_is_offered() -> None:
    joint = Joint()
    stream = joint.low.connection.open("tcp/8080")
    packets = []
    for _ in range(9):
        packet = Packet()
        joint.low._stream(packet, stream, 1)
        packet.data = packet.data[:1]
        packets.append(packet)
    for packet in packets[:-1]:
        joint.high.deliver(packet)
        assert joint.high.offered() == []
    joint.high.deliver(packets[-1])
    (accepted,) = joint.high.offered()
    assert (accepted.service, accepted.opener, accepted.early) == ("tcp/8080", False, False)


def test_stream_that_begins_in_epoch_zero_is_marked() -> None:
    joint = Joint()
    joint.low.connection.open("s", min_epoch=0)
    joint.high.deliver(joint.low.packet(epoch=0), epoch=0)
    assert joint.high.offered()[0].early


def test_stream_waits_for_its_epoch() -> None:
    joint = Joint()
    joint.low.connection.open("s", min_epoch=1)
    joint.low.packet(epoch=0)
    assert not joint.low.packet(epoch=0).data
    assert joint.low.packet(epoch=1).data


def test_open_on_a_closed_connection_is_an_error() -> None:
    joint = Joint()
    joint.low.connection.lose(StreamCode.LOST_STATE)
    with pytest.raises(StateError):
        joint.low.connection.open("s")


@pytest.mark.parametrize("admit", [False, True], ids=["stranger", "admitted"])
def test_streams_are_bounded(admit: bool) -> None:
    joint = Joint(admit=admit)
    joint.settle()
    most = limits.STREAMS if admit else limits.STRANGER_STREAMS
    streams = [joint.low.connection.open("s") for _ in range(most)]
    with pytest.raises(LimitError):
        joint.low.connection.open("s")
    joint.settle()
    for stream in (*streams, *joint.high.offered()):
        stream.finish()
        stream.read()
    joint.settle()
    assert not joint.low.connection.streams
    joint.low.connection.open("s")


def test_more_streams_than_allowed_break_the_protocol() -> None:
    joint = Joint(admit=False)
    with pytest.raises(ParseError):
        joint.high.connection.receive_stream(limits.STRANGER_STREAMS << 1, 0, memoryview(b"\1s"), False, 1, 0.0)


def test_stream_of_ours_that_we_never_opened_breaks_the_protocol() -> None:
    joint = Joint()
    for receive in (
        lambda: joint.low.connection.receive_stop(0, 1),
        lambda: joint.low.connection.receive_reset(0, 1, 0),
        lambda: joint.low.connection.receive_limit(frames.MAX_STREAM_DATA, 0, 1),
        lambda: joint.low.connection.receive_stream(0, 0, memoryview(b""), False, 1, 0.0),
    ):
        with pytest.raises(ParseError):
            receive()


def test_frames_of_a_stream_that_is_over_are_ignored() -> None:
    joint = Joint()
    stream = joint.low.connection.open("s")
    stream.finish()
    joint.settle()
    (accepted,) = joint.high.offered()
    accepted.finish()
    accepted.read()
    joint.settle()
    assert not joint.high.connection.streams
    events = len(joint.high.events)
    connection = joint.high.connection
    connection.receive_stream(0, 0, memoryview(b"\1sxyz"), True, 1, 0.0)
    connection.receive_reset(0, 1, 5)
    connection.receive_stop(0, 1)
    connection.receive_limit(frames.MAX_STREAM_DATA, 0, 1 << 40)
    assert len(joint.high.events) == events
    assert not connection.streams


# --- flow control ---------------------------------------------------------------------------------------------------


def test_bytes_beyond_the_streams_window_break_the_protocol() -> None:
    joint = Joint(admit=False)
    connection = joint.high.connection
    window = limits.STRANGER_STREAM_WINDOW
    connection.receive_stream(0, 0, memoryview(b"\1s" + bytes(window - 2)), False, 1, 0.0)
    with pytest.raises(ParseError):
        connection.receive_stream(0, window, memoryview(b"x"), False, 1, 0.0)


def test_bytes_beyond_the_connections_window_break_the_protocol() -> None:
    joint = Joint(admit=False)
    connection = joint.high.connection
    window = limits.STRANGER_STREAM_WINDOW
    for number in range(4):
        connection.receive_stream(2 * number, window - 1, memoryview(b"x"), False, 1, 0.0)
    with pytest.raises(ParseError):
        connection.receive_stream(8, 0, memoryview(b"x"), False, 1, 0.0)


def test_sender_stops_at_the_connections_window() -> None:
    joint = Joint(admit=False)
    streams = [joint.low.connection.open("s") for _ in range(8)]
    for stream in streams:
        stream.write(bytes(60_000))
    joint.settle()
    assert joint.low.connection._sent == limits.STRANGER_CONNECTION_WINDOW
    assert joint.low.connection.send_allowance(streams[0]) == 0
    for stream in joint.high.offered():
        stream.read()
    joint.settle()
    for stream in joint.high.offered():
        stream.read()
    joint.settle()
    assert sum(stream.outgoing.sent for stream in streams) == 8 * 60_002


def test_window_grows_for_a_reader_that_keeps_pace() -> None:
    joint = Joint()
    stream = joint.low.connection.open("s")
    joint.settle()
    (accepted,) = joint.high.offered()
    for _ in range(60):
        stream.write(bytes(1_000_000))
        joint.settle(3000)
        accepted.read()
    assert accepted.window > 16 * limits.STREAM_WINDOW
    assert joint.high.connection._window > limits.CONNECTION_WINDOW


def test_window_of_a_stranger_does_not_grow() -> None:
    joint = Joint(admit=False)
    stream = joint.low.connection.open("s")
    joint.settle()
    (accepted,) = joint.high.offered()
    for _ in range(30):
        stream.write(bytes(60_000))
        joint.settle()
        accepted.read()
    assert accepted.window == limits.STRANGER_STREAM_WINDOW


def test_admit_widens_what_is_open() -> None:
    joint = Joint(admit=False)
    stream = joint.low.connection.open("s")
    stream.write(bytes(500_000))
    joint.settle()
    assert stream.outgoing.sent == limits.STRANGER_STREAM_WINDOW
    joint.high.connection.admit()
    joint.settle()
    assert stream.outgoing.sent == 500_002
    before = len(joint.high.connection._limit_dirty)
    joint.high.connection.admit()
    assert len(joint.high.connection._limit_dirty) == before


def test_credit_lost_on_the_way_is_given_again() -> None:
    joint = Joint(admit=False)
    stream = joint.low.connection.open("s")
    stream.write(bytes(200_000))
    joint.settle()
    (accepted,) = joint.high.offered()
    accepted.read()
    packet = joint.high.packet()
    assert packet.control
    joint.high.lost(packet)
    joint.settle()
    assert stream.outgoing.sent > limits.STRANGER_STREAM_WINDOW


def test_limits_never_go_back() -> None:
    joint = Joint()
    joint.settle()
    connection = joint.low.connection
    stream = connection.open("s")
    joint.settle()
    before = (connection._max_send, connection._streams_allowed, stream.max_send)
    connection.receive_limit(frames.MAX_DATA, 0, 1)
    connection.receive_limit(frames.MAX_STREAMS, 0, 1)
    connection.receive_limit(frames.MAX_STREAM_DATA, stream.id, 1)
    assert (connection._max_send, connection._streams_allowed, stream.max_send) == before


# --- another session ------------------------------------------------------------------------------------------------


def test_rebind_says_everything_again() -> None:
    joint = Joint()
    joint.settle()
    stream = joint.low.connection.open("s")
    stream.write(b"x")
    (packet,) = [joint.low.packet()]
    joint.low.lost(packet)
    session = Awake()
    joint.low.connection.session = None
    joint.low.connection.rebind(session)  # type: ignore[arg-type]
    assert session.woken
    again = joint.low.packet()
    kinds = {item[0] for _, item in again.control}
    assert kinds == {frames.MAX_DATA, frames.MAX_STREAMS, frames.MAX_STREAM_DATA}
    assert [data for _, _, data, _ in again.data] == [b"\x01sx"]


def test_write_without_keys_asks_for_them_once() -> None:
    joint = Joint()
    connection = joint.low.connection
    stream = connection.open("s")
    connection.session = None
    stream.write(b"x")
    stream.write(b"y")
    assert joint.low.stalled() == 1
    connection.rebind(Awake())  # type: ignore[arg-type]
    connection.session = None
    stream.write(b"z")
    assert joint.low.stalled() == 2


def test_write_before_the_first_session_waits_quietly() -> None:
    joint = Joint()
    connection = joint.low.connection
    connection.session, connection.live = None, False
    connection.open("s").write(b"x")
    assert joint.low.stalled() == 0


# --- the end --------------------------------------------------------------------------------------------------------


def test_lost_connection_resets_its_streams_once() -> None:
    joint = Joint()
    stream = joint.low.connection.open("s")
    joint.settle()
    joint.low.connection.lose(StreamCode.LOST_STATE)
    assert [(event.stream, event.code) for event in joint.low.of(StreamReset)] == [(stream, StreamCode.LOST_STATE)]
    assert stream.closed
    assert not joint.low.connection.streams


def test_lost_connection_with_unread_bytes_is_survived() -> None:
    """The peer finished, we finished, and nobody had read yet."""
    joint = Joint()
    stream = joint.low.connection.open("s")
    stream.write(b"unread")
    stream.finish()
    joint.settle()
    (accepted,) = joint.high.offered()
    accepted.finish()
    joint.settle()
    joint.high.connection.lose(StreamCode.LOST_STATE)
    assert not joint.high.of(StreamReset)
    assert accepted.read() == b"unread"
    assert accepted.at_end


def test_lost_connection_resets_what_is_incomplete() -> None:
    joint = Joint()
    stream = joint.low.connection.open("s")
    stream.write(b"unread")
    joint.settle()
    (accepted,) = joint.high.offered()
    accepted.finish()
    joint.settle()
    joint.high.connection.lose(StreamCode.LOST_STATE)
    assert [event.stream for event in joint.high.of(StreamReset)] == [accepted]
    assert not accepted.at_end


def test_stream_that_was_never_offered_ends_silently() -> None:
    joint = Joint()
    stream = joint.low.connection.open("s")
    stream.reset()
    joint.settle()
    assert not joint.high.of(StreamOffered)
    assert not joint.high.of(StreamReset)
    assert not joint.low.connection.streams
    assert not joint.high.connection.streams


# --- datagrams ------------------------------------------------------------------------------------------------------


def test_datagrams_of_unknown_streams_are_dropped() -> None:
    joint = Joint()
    stream = joint.low.connection.open("s")
    joint.high.connection.receive_datagrams([(stream.id, b"early")])
    joint.settle()
    joint.high.connection.receive_datagrams([(77, b"whose"), (stream.id, b"in"), (stream.id, b"time"), (77, b"else")])
    assert [event.datagrams for event in joint.high.of(DatagramsReceived)] == [[b"in", b"time"]]


def test_datagrams_wait_for_room_and_epoch() -> None:
    joint = Joint()
    connection = joint.low.connection
    stream = connection.open("s")
    connection.send_datagram(stream, bytes(100))
    connection.send_datagram(stream, bytes(50))
    assert connection.take_datagrams(99, 0, 1) == []
    assert connection.take_datagrams(106, 7, 1) == []
    assert connection.take_datagrams(157, 0, 0) == []
    assert connection.take_datagrams(163, 7, 1) == [(stream.id, bytes(100))]
    assert connection.has_datagrams
    assert connection.take_datagrams(1000, 7, 1) == [(stream.id, bytes(50))]
    assert not connection.has_datagrams


def test_datagrams_of_a_stream_that_is_over_are_dropped() -> None:
    joint = Joint()
    connection = joint.low.connection
    stream = connection.open("s")
    joint.settle()
    connection.send_datagram(stream, b"x")
    stream.reset()
    assert connection.take_datagrams(100, 0, 1) == []
    assert not connection.has_datagrams


# --- fairness -------------------------------------------------------------------------------------------------------


def test_streams_take_turns() -> None:
    joint = Joint()
    streams = [joint.low.connection.open("s") for _ in range(3)]
    for stream in streams:
        stream.write(bytes(100))
    first = [next(iter(joint.low.connection.ready.in_turn(1))) for _ in range(6)]
    assert [stream.id for stream in first] == [0, 2, 4, 0, 2, 4]


def test_control_frames_go_before_data_and_fit_their_room() -> None:
    joint = Joint()
    joint.settle()
    streams = [joint.low.connection.open("s") for _ in range(50)]
    joint.settle()
    for stream in streams:
        stream.reset()
    taken = 0
    while joint.low.connection.has_control:
        frames_now = list(joint.low.connection.take_control(100))
        assert sum(len(encoded) for encoded, _ in frames_now) <= 100
        taken += len(frames_now)
        assert taken <= 200
    assert taken == 100


def test_readable_is_told_once_until_something_was_read() -> None:
    joint = Joint()
    stream = joint.low.connection.open("s")
    for _ in range(5):
        stream.write(b"x")
        joint.settle()
    assert len(joint.high.of(StreamReadable)) == 1
    joint.high.offered()[0].read()
    stream.write(b"x")
    joint.settle()
    assert len(joint.high.of(StreamReadable)) == 2
