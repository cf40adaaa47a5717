"""Traffic classes: who goes first on one connection."""

from __future__ import annotations

from covey.core import limits
from covey.core.stream import Stream
from covey.core.traffic import INTERACTIVE_BYTES, ReadyStreams, Traffic
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
    assert list(ready.in_turn(EPOCH, interactive=True)) == [plain, interactive]


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


def test_question_is_answered_in_one_round_trip_beside_bulk() -> None:
    """Question and answer beside a stream that always has more to send than the window lets through."""
    wire = Wire(delay=0.01)
    a, b = wire.side("a"), wire.side("b")
    a.on_event = b.on_event = admit
    a.connect(b)
    assert wire.run(5, until=lambda: bool(b.endpoint.connections) and b.connection(a).admitted)
    wire.run(1)
    connection = a.connection(b)
    bulk = connection.open("bulk")
    chat = connection.open("chat")
    wire.run(1)
    taken = {stream.service: stream for stream in b.connection(a).streams.values()}

    def swallow() -> None:
        bulk.write(bytes(max(0, 4_000_000 - bulk.outgoing.held)))
        taken["bulk"].read()
        wire.after(0.001, swallow)

    swallow()
    wire.run(0.2)
    assert bulk.bulk
    before = taken["bulk"].incoming.next
    for _ in range(10):
        began = wire.now
        chat.write(bytes(64))
        assert wire.run(1, until=lambda: bool(taken["chat"].incoming.available))
        assert wire.now - began <= 0.0111, "it waited for the window that bulk fills"
        taken["chat"].read()
    assert taken["bulk"].incoming.next - before > 1_000_000
