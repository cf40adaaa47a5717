from __future__ import annotations

import pytest

from covey.base.errors import ParseError, StateError
from covey.core.events import StreamOffered, StreamReadable, StreamReset, StreamWritable
from covey.core.stream import Stream, StreamCode
from tests.core.joint import Joint


def opened(service: str = "s") -> tuple[Joint, Stream, Stream]:
    """A stream that both sides know, from `low` to `high`."""
    joint = Joint()
    stream = joint.low.connection.open(service)
    joint.settle()
    return joint, stream, joint.high.offered()[0]


def finish(joint: Joint, *streams: Stream) -> None:
    for stream in streams:
        stream.finish()
    joint.settle()


# --- bytes ----------------------------------------------------------------------------------------------------------


def test_bytes_go_both_ways() -> None:
    joint, stream, accepted = opened()
    stream.write(b"forth")
    accepted.write(b"back")
    joint.settle()
    assert (accepted.read(), stream.read()) == (b"forth", b"back")


def test_read_takes_no_more_than_asked() -> None:
    joint, stream, accepted = opened()
    stream.write(b"abcdef")
    joint.settle()
    assert [accepted.read(4), accepted.read(4), accepted.read(4)] == [b"abcd", b"ef", b""]


def test_append_adds_to_what_waits_and_to_nothing_else() -> None:
    joint, stream, accepted = opened()
    assert not stream.append(b"first"), "nothing waits: somebody has to be woken"
    stream.write(b"first ")
    assert stream.append(b"second ")
    assert stream.append(b"third")
    joint.settle()
    assert accepted.read() == b"first second third"
    assert not stream.append(b"late")


@pytest.mark.parametrize("how", ["finish", "reset", "stopped", "reset by the peer", "lost"])
def test_append_to_a_closed_stream_is_refused(how: str) -> None:
    joint, stream, _ = opened()
    stream.write(b"waits")
    if how == "finish":
        stream.finish()
    elif how == "reset":
        stream.reset()
    elif how == "stopped":
        joint.low.connection.receive_stop(stream.id, 1)
    elif how == "reset by the peer":
        joint.low.connection.receive_reset(stream.id, 1, 0)
    else:
        joint.low.connection.lose(1)
    assert not stream.append(b"more")
    with pytest.raises(StateError):
        stream.write(b"more")


def test_take_gives_small_messages_and_credits_them_in_the_end() -> None:
    joint, stream, accepted = opened()
    messages = [bytes([number % 251]) * 100 for number in range(400)]
    stream.write(b"".join(messages))
    joint.settle()
    taken = []
    while accepted.incoming.available or len(taken) < len(messages):
        message = accepted.take(100)
        if message is None:
            message = accepted.read(100)
            assert accepted._uncredited == 0
        taken.append(message)
    assert taken == messages
    assert accepted.take(100) is None
    assert joint.high.connection._consumed == joint.high.connection._received
    assert accepted._counted == accepted.incoming.highest


def test_what_was_taken_is_credited_when_the_rest_is_dropped() -> None:
    joint, stream, accepted = opened()
    stream.write(bytes(1000))
    joint.settle()
    assert accepted.take(300) == bytes(300)
    accepted.stop()
    assert joint.high.connection._consumed == joint.high.connection._received


def test_half_closed_stream_still_carries_the_other_direction() -> None:
    joint, stream, accepted = opened()
    stream.write(b"question")
    finish(joint, stream)
    assert (accepted.read(), accepted.at_end) == (b"question", True)
    accepted.write(b"answer")
    finish(joint, accepted)
    assert not stream.closed
    assert (stream.read(), stream.at_end, stream.closed) == (b"answer", True, True)
    joint.settle()
    assert accepted.closed
    assert not joint.low.connection.streams
    assert not joint.high.connection.streams


def test_end_is_not_the_end_before_everything_was_read() -> None:
    joint, stream, accepted = opened()
    stream.write(b"ab")
    finish(joint, stream)
    assert not accepted.at_end
    accepted.read(1)
    assert not accepted.at_end
    accepted.read(1)
    assert accepted.at_end


def test_end_without_bytes_is_told() -> None:
    joint, stream, accepted = opened()
    finish(joint, stream)
    assert [event.stream for event in joint.high.of(StreamReadable)] == [accepted]
    assert accepted.at_end


def test_finish_again_changes_nothing() -> None:
    joint, stream, accepted = opened()
    finish(joint, stream, stream)
    finish(joint, stream)
    assert accepted.at_end


def test_write_after_the_end_is_an_error() -> None:
    _, stream, _ = opened()
    stream.finish()
    with pytest.raises(StateError) as info:
        stream.write(b"x")
    assert info.value.code == "stream-closed"


def test_lost_end_is_sent_again() -> None:
    joint, stream, accepted = opened()
    stream.write(b"abc")
    stream.finish()
    packet = joint.low.packet()
    joint.low.lost(packet)
    joint.settle()
    assert (accepted.read(), accepted.at_end) == (b"abc", True)


def test_end_acknowledged_before_its_bytes_is_not_done() -> None:
    joint, stream, accepted = opened()
    accepted.finish()
    joint.settle()
    stream.write(b"abc")
    first = joint.low.packet()
    stream.finish()
    second = joint.low.packet()
    joint.high.deliver(second)
    joint.low.acknowledged(second)
    assert not stream.sending_done
    joint.low.lost(first)
    joint.settle()
    assert accepted.read() == b"abc"
    joint.settle()
    assert stream.closed


# --- back-pressure --------------------------------------------------------------------------------------------------


def test_writer_without_room_is_told_when_there_is_some() -> None:
    joint, stream, accepted = opened()
    assert stream.writable == 4 * 1024 * 1024
    stream.write(bytes(4 * 1024 * 1024))
    assert stream.writable == 0
    while not joint.low.of(StreamWritable):
        joint.settle(20_000)
        accepted.read()
    assert stream.writable >= 2 * 1024 * 1024
    assert len(joint.low.of(StreamWritable)) == 1


def test_writer_that_never_asked_is_not_told() -> None:
    joint, stream, accepted = opened()
    stream.write(bytes(3 * 1024 * 1024))
    for _ in range(4):
        joint.settle(20_000)
        accepted.read()
    assert not joint.low.of(StreamWritable)


# --- reset ----------------------------------------------------------------------------------------------------------


def test_reset_gives_up_both_directions() -> None:
    joint, stream, accepted = opened()
    stream.write(b"never read")
    accepted.write(b"never read")
    joint.settle()
    stream.reset(StreamCode.LIMIT)
    joint.settle()
    assert [(event.stream, event.code) for event in joint.high.of(StreamReset)] == [(accepted, StreamCode.LIMIT)]
    assert not joint.low.of(StreamReset)
    assert (stream.closed, accepted.closed) == (True, True)
    assert (accepted.read(), accepted.at_end) == (b"", False)
    with pytest.raises(StateError):
        accepted.write(b"x")


def test_reset_again_changes_nothing() -> None:
    joint, stream, accepted = opened()
    stream.reset(1)
    stream.reset(2)
    joint.settle()
    assert accepted.failed == 1
    accepted.reset(3)
    joint.settle()
    assert not joint.low.of(StreamReset)


def test_reset_of_both_at_once() -> None:
    joint, stream, accepted = opened()
    stream.write(b"x")
    stream.reset(1)
    accepted.reset(2)
    joint.settle()
    assert (stream.closed, accepted.closed) == (True, True)
    assert not joint.low.connection.streams
    assert not joint.high.connection.streams


@pytest.mark.parametrize("order", ["reset-first", "stop-first"])
def test_reset_and_stop_in_any_order_leave_nothing(order: str) -> None:
    """STOP alone must not make the receiver deaf to the RESET behind it: the stream would never end."""
    joint, stream, accepted = opened()
    stream.write(b"x")
    joint.settle()
    stream.reset(5)
    packet = joint.low.packet()
    assert len(packet.control) == 2
    reset, stop = packet.control
    for control in ([reset], [stop]) if order == "reset-first" else ([stop], [reset]):
        packet.control = control
        joint.high.deliver(packet)
        joint.low.acknowledged(packet)
    joint.settle()
    assert accepted.closed
    assert stream.closed
    assert len(joint.high.of(StreamReset)) == 1
    assert joint.low.connection._sent == joint.high.connection._consumed


def test_lost_reset_and_stop_are_sent_again_with_their_code() -> None:
    joint, stream, accepted = opened()
    stream.reset(StreamCode.NEEDS_PQ)
    joint.low.lost(joint.low.packet())
    again = joint.low.packet()
    assert len(again.control) == 2
    joint.high.deliver(again)
    assert accepted.failed == StreamCode.NEEDS_PQ
    assert accepted.reset_code == StreamCode.NEEDS_PQ


def test_reset_after_an_acknowledged_end_still_reaches_the_peer() -> None:
    """FIN arrived, bytes before it did not: giving up now must tell the peer, or it waits for ever."""
    joint, stream, accepted = opened()
    accepted.finish()
    joint.settle()
    stream.read()
    stream.write(b"lost")
    joint.low.packet()
    stream.finish()
    end = joint.low.packet()
    joint.high.deliver(end)
    joint.low.acknowledged(end)
    stream.reset(6)
    assert not stream.closed
    joint.settle()
    assert (accepted.failed, accepted.closed, stream.closed) == (6, True, True)


def test_bytes_that_arrive_after_a_reset_are_not_counted_twice() -> None:
    joint, stream, accepted = opened()
    stream.write(b"x" * 500)
    late = joint.low.packet()
    stream.reset(1)
    joint.high.deliver(joint.low.packet())
    counted = joint.high.connection._received
    joint.high.deliver(late)
    assert joint.high.connection._received == counted == joint.low.connection._sent
    assert joint.high.connection._consumed == counted
    assert accepted.read() == b""


def test_reset_after_everything_arrived_changes_nothing() -> None:
    joint, stream, accepted = opened()
    stream.write(b"whole")
    stream.finish()
    packet = joint.low.packet()
    joint.high.deliver(packet)
    stream.reset(1)
    joint.high.connection.receive_reset(stream.id, 1, stream.outgoing.end)
    assert not accepted.reset_received
    assert (accepted.read(), accepted.at_end) == (b"whole", True)


def test_stream_that_was_reset_is_not_at_its_end() -> None:
    """All bytes that were sent have arrived, but there might have been more: a truncation must not look whole."""
    joint, stream, accepted = opened()
    stream.write(b"part")
    joint.settle()
    assert accepted.read() == b"part"
    stream.reset(1)
    joint.settle()
    assert accepted.incoming.next == accepted.final_size
    assert not accepted.at_end
    assert accepted.failed == 1


@pytest.mark.parametrize(("final", "message"), [(1, "below"), (1 << 40, "window")])
def test_reset_with_an_impossible_size_breaks_the_protocol(final: int, message: str) -> None:
    joint, stream, _ = opened()
    stream.write(b"abc")
    joint.settle()
    with pytest.raises(ParseError, match=message):
        joint.high.connection.receive_reset(stream.id, 1, final)


def test_reset_that_contradicts_the_end_breaks_the_protocol() -> None:
    joint, stream, _ = opened()
    connection = joint.high.connection
    connection.receive_stream(stream.id, 50, memoryview(b""), True, 1, 0.0)
    with pytest.raises(ParseError):
        connection.receive_reset(stream.id, 1, 60)


# --- stop -----------------------------------------------------------------------------------------------------------


def test_stop_asks_the_writer_to_end() -> None:
    joint, stream, accepted = opened()
    stream.write(b"x" * 5000)
    joint.settle()
    accepted.stop(StreamCode.REFUSED)
    joint.settle()
    assert [(event.stream, event.code) for event in joint.low.of(StreamReset)] == [(stream, StreamCode.REFUSED)]
    with pytest.raises(StateError):
        stream.write(b"x")
    assert accepted.read() == b""
    finish(joint, accepted)
    assert (stream.closed, accepted.closed) == (True, True)


def test_stop_leaves_the_other_direction_whole() -> None:
    """A server that refuses the rest of a request still answers it."""
    joint, stream, accepted = opened()
    stream.write(b"x" * 5000)
    joint.settle()
    accepted.stop()
    accepted.write(b"too large")
    finish(joint, accepted)
    assert stream.failed is not None
    assert (stream.read(), stream.at_end) == (b"too large", True)
    joint.settle()
    assert (stream.closed, accepted.closed) == (True, True)


def test_stop_does_not_end_our_own_writing() -> None:
    joint, stream, accepted = opened()
    stream.write(b"x" * 5000)
    joint.settle()
    accepted.stop()
    joint.settle()
    assert accepted.reset_received
    assert not joint.high.of(StreamReset)
    accepted.write(b"still talking")
    finish(joint, accepted)
    assert stream.read() == b"still talking"


def test_stop_gives_the_connection_its_credit_back() -> None:
    joint, stream, accepted = opened()
    stream.write(b"x" * 5000)
    joint.high.deliver(joint.low.packet())
    accepted.stop()
    joint.settle()
    assert joint.low.connection._sent == joint.high.connection._received == joint.high.connection._consumed


def test_stop_after_the_end_asks_nothing() -> None:
    joint, stream, accepted = opened()
    stream.write(b"abc")
    finish(joint, stream)
    accepted.stop()
    assert not joint.high.packet().control
    assert accepted.receiving_done
    finish(joint, accepted)
    assert stream.closed


def test_stop_of_a_stream_that_is_done_changes_nothing() -> None:
    joint, stream, accepted = opened()
    finish(joint, stream, accepted)
    accepted.read()
    stream.read()
    joint.settle()
    assert accepted.closed
    accepted.stop()
    accepted.reset()
    assert not joint.high.connection.has_control


def test_bytes_after_a_stop_are_dropped_and_credited() -> None:
    joint, stream, accepted = opened()
    stream.write(b"x" * 100)
    first = joint.low.packet()
    stream.write(b"x" * 100)
    second = joint.low.packet()
    accepted.stop()
    joint.high.deliver(second)
    joint.high.deliver(first)
    assert joint.high.connection._consumed == joint.high.connection._received
    assert (accepted.read(), accepted.incoming.available) == (b"", 0)


# --- rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frames",
    [
        [(10, b"", True), (5, b"", True)],
        [(10, b"", True), (10, b"x", False)],
        [(10, b"x", False), (5, b"", True)],
        [(0, b"\x01sabc", False), (2, b"", True)],
    ],
    ids=["two ends", "bytes beyond the end", "end below what was sent", "end inside what was sent"],
)
def test_contradictions_about_the_end_break_the_protocol(frames: list[tuple[int, bytes, bool]]) -> None:
    connection = Joint().high.connection
    with pytest.raises(ParseError):
        for offset, data, fin in frames:
            connection.receive_stream(0, offset, memoryview(data), fin, 1, 0.0)


def test_the_same_end_twice_is_no_contradiction() -> None:
    joint, stream, accepted = opened()
    for _ in range(2):
        joint.high.connection.receive_stream(stream.id, 5, memoryview(b""), True, 1, 0.0)
    assert accepted.final_size == 5


PROLOGUES = {
    "empty": b"\x00",
    "too long": b"\x81" + b"a" * 129,
    "not ASCII": b"\x02\xc3\xa4",
    "not printable": b"\x01\n",
    "with a space": b"\x03a b",
}


@pytest.mark.parametrize("prologue", PROLOGUES.values(), ids=PROLOGUES.keys())
def test_impossible_service_name_breaks_the_protocol(prologue: bytes) -> None:
    joint = Joint()
    with pytest.raises(ParseError):
        joint.high.connection.receive_stream(0, 0, memoryview(prologue), False, 1, 0.0)
    assert not joint.high.of(StreamOffered)


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, b"", True)],
        [(0, b"\x05ab", True)],
        [(3, b"", True), (0, b"\x05ab", False)],
        [(1, b"", True), (0, b"\x05", False)],
    ],
    ids=["nothing", "cut", "end first", "end first, length alone"],
)
def test_stream_that_ends_before_its_service_name_breaks_the_protocol(pieces: list[tuple[int, bytes, bool]]) -> None:
    joint = Joint()
    with pytest.raises(ParseError):
        for offset, data, fin in pieces:
            joint.high.connection.receive_stream(0, offset, memoryview(data), fin, 1, 0.0)


def test_everything_in_one_frame_is_offered_and_readable() -> None:
    joint = Joint()
    joint.high.connection.receive_stream(0, 0, memoryview(b"\x01sall of it"), True, 1, 0.0)
    (accepted,) = joint.high.offered()
    assert [type(event) for event in joint.high.events] == [StreamOffered, StreamReadable]
    assert (accepted.read(), accepted.at_end) == (b"all of it", True)
