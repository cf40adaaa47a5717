from __future__ import annotations

import random

import pytest

from covey.base.errors import LimitError, StateError
from covey.core import limits
from covey.core.connection import Connection
from covey.core.events import (
    ConnectionClosed,
    ConnectionLive,
    ConnectionStalled,
    DatagramsReceived,
    HandshakeConfirmed,
    HandshakeFailed,
    LogLearnt,
    Ponged,
    RecordReceived,
    StreamOffered,
    StreamReset,
)
from covey.core.path import Route
from covey.core.session import CloseCode
from covey.core.stream import Stream, StreamCode
from tests.core.pair import Side, Wire
from tests.core.program import Scenario, check_empty

A, B = ("10.0.0.1", 4000), ("10.0.0.2", 4000)


def pair(seed: int = 1, *, admit: bool = True, **impairments: float) -> tuple[Wire, Side, Side]:
    wire = Wire(seed, **impairments)  # type: ignore[arg-type]
    a, b = wire.side("a", A), wire.side("b", B)
    if admit:
        for side in (a, b):
            side.on_event = lambda event: event.connection.admit() if isinstance(event, ConnectionLive) else None
    return wire, a, b


def connected(seed: int = 1, *, admit: bool = True, **impairments: float) -> tuple[Wire, Side, Side]:
    """Both sides live, post-quantum keys in use, everything idle."""
    wire, a, b = pair(seed, admit=admit, **impairments)
    a.connect(b)
    assert wire.run(10, until=lambda: bool(a.of(ConnectionLive) and b.of(ConnectionLive)))
    wire.run(2)
    assert a.connection(b).session.epochs.epoch == 1
    return wire, a, b


def offered(side: Side, count: int = 1) -> list[Stream]:
    streams = [event.stream for event in side.of(StreamOffered)]
    assert len(streams) >= count
    return streams


def collect(wire: Wire, stream: Stream, seconds: float = 30.0) -> bytes:
    """Everything the peer writes, up to its end."""
    data = bytearray()

    def done() -> bool:
        data.extend(stream.read())
        return stream.at_end or stream.failed is not None

    assert wire.run(seconds, until=done), f"{len(data)} bytes, then silence"
    return bytes(data)


# --- random programs ------------------------------------------------------------------------------------------------

FAULTS = {
    "none": (),
    "short": ("short",),
    "block-and-deaf": ("block", "deaf"),
    "four-minutes": ("long",),
    "moves": ("move",),
    "everything": ("short", "deaf", "move", "block"),
}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
def test_endpoint_carries_random_programs(seed: int, faults: tuple[str, ...]) -> None:
    scenario = Scenario(seed, total=200_000, faults=faults)
    scenario.make()
    scenario.run()


REGRESSIONS = {
    "acknowledged-but-held-back-while-unverified": (9, ("move", "deaf")),
    "keepalive-after-an-old-loss-is-not-a-dead-path": (47, ()),
    "stop-before-reset-leaks-no-stream": (31, ()),
    "answers-without-acknowledgements-are-no-storm": (85, ("block", "move", "deaf")),
    "session-verified-late-does-not-take-over": (1229, ("short",)),
    "session-that-answers-replaces-one-that-does-not": (3034, ("short",)),
    "both-sides-agree-after-a-stall-of-one": (3203, ("move",)),
}


@pytest.mark.parametrize(("seed", "faults"), REGRESSIONS.values(), ids=REGRESSIONS.keys())
def test_endpoint_survives_what_once_broke_it(seed: int, faults: tuple[str, ...]) -> None:
    scenario = Scenario(seed, faults=faults)
    scenario.make()
    scenario.run()


def test_endpoint_carries_five_megabytes_both_ways_under_loss() -> None:
    wire, a, b = connected(3, loss=0.01, jitter=0.003, duplicate=0.02)
    data = {side.name: random.Random(side.name).randbytes(5_000_000) for side in (a, b)}
    streams = {side.name: side.connection(other).open("bulk") for side, other in ((a, b), (b, a))}
    for name, stream in streams.items():
        stream.write(data[name])
        stream.finish()
    assert wire.run(10, until=lambda: bool(a.of(StreamOffered) and b.of(StreamOffered)))
    assert collect(wire, offered(b)[0], 120) == data["a"]
    assert collect(wire, offered(a)[0], 120) == data["b"]


@pytest.mark.parametrize(("jitter", "seconds"), [(0.001, 0.5), (0.005, 0.7), (0.02, 1.5)])
def test_endpoint_is_not_slow_where_datagrams_overtake_each_other(jitter: float, seconds: float) -> None:
    """With the fixed limits of RFC 9002 these took 6, 16 and 43 seconds: every late packet counted as lost."""
    wire, a, b = connected(1, jitter=jitter)
    stream = a.connection(b).open("bulk")
    stream.write(bytes(4_000_000))
    stream.finish()
    assert wire.run(1, until=lambda: bool(b.of(StreamOffered)))
    start = wire.now
    collect(wire, offered(b)[0])
    assert wire.now - start < seconds


def test_endpoint_traces_do_not_depend_on_the_librarys_randomness() -> None:
    def trace() -> list[tuple[float, str, int]]:
        scenario = Scenario(12, total=100_000, faults=("short",))
        scenario.wire.trace = []
        scenario.make()
        scenario.run()
        return scenario.wire.trace

    assert trace() == trace()


# --- connecting -----------------------------------------------------------------------------------------------------


def test_connect_gives_live_connections_on_both_sides() -> None:
    _wire, a, b = connected()
    assert [event.resumed for event in a.of(ConnectionLive)] == [False]
    assert [event.resumed for event in b.of(ConnectionLive)] == [False]
    assert [event.log.identity for event in a.of(LogLearnt)] == [b.identity]
    assert [event.log.identity for event in b.of(LogLearnt)] == [a.identity]
    assert a.connection(b).local_half == b.connection(a).remote_half


def test_connect_again_changes_nothing_while_live() -> None:
    wire, a, b = connected()
    sent = wire.datagrams
    assert a.connect(b) is a.connection(b)
    wire.run(1)
    assert a.endpoint.handshakes.attempts == 0
    assert wire.datagrams == sent


def test_connect_to_itself_is_refused() -> None:
    _, a, _ = pair()
    with pytest.raises(StateError) as info:
        a.connect(a)
    assert info.value.code == "self"


def test_connect_gives_up_and_resets_what_waited() -> None:
    wire, a, b = pair()
    wire.blocked = lambda source, target: True
    connection = a.connect(b)
    stream = connection.open("s")
    wire.run(limits.HANDSHAKE_GIVE_UP + 3)
    assert [event.code for event in a.of(HandshakeFailed)] == ["no-answer"]
    assert [event.stream for event in a.of(StreamReset)] == [stream]
    assert [event.connection for event in a.of(ConnectionClosed)] == [connection]
    wire.run(60)
    check_empty(a)


def test_connect_uses_routes_that_are_added_later() -> None:
    wire, a, b = pair()
    a.connect(b, Route(0, ("10.9.9.9", 1)))
    wire.run(0.1)
    a.connect(b, Route(0, B))
    assert wire.run(0.1, until=lambda: bool(a.of(ConnectionLive)))


def test_both_connecting_at_once_agree_on_one_session() -> None:
    wire, a, b = pair()
    a.connect(b)
    b.connect(a)
    wire.run(10)
    low = a if a.identity < b.identity else b
    assert len(a.of(ConnectionClosed) + b.of(ConnectionClosed)) == 0
    for side, other in ((a, b), (b, a)):
        assert len(side.endpoint._sessions) == 1
        assert side.connection(other).session.initiator == (side is low)


def test_streams_opened_before_the_session_exists_are_carried() -> None:
    wire, a, b = pair()
    stream = a.connect(b).open("early")
    stream.write(b"hello")
    stream.finish()
    assert wire.run(5, until=lambda: bool(b.of(StreamOffered)))
    assert collect(wire, offered(b)[0]) == b"hello"


# --- limits for strangers -------------------------------------------------------------------------------------------


def test_stranger_may_open_eight_streams() -> None:
    wire, a, b = connected(admit=False)
    connection = a.connection(b)
    streams = [connection.open(f"s{number}") for number in range(limits.STRANGER_STREAMS)]
    with pytest.raises(LimitError):
        connection.open("one-more")
    wire.run(1)
    for stream in (*streams, *offered(b)):
        stream.finish()
    wire.run(1)
    for stream in offered(b):
        stream.read()
    wire.run(1)
    assert not connection.streams
    connection.open("one-more")


def test_stranger_fills_small_windows_and_no_more() -> None:
    wire, a, b = connected(admit=False)
    connection = a.connection(b)
    for number in range(limits.STRANGER_STREAMS):
        connection.open(f"s{number}").write(bytes(1_000_000))
    wire.run(20)
    received = b.connection(a)
    assert received._received == limits.STRANGER_CONNECTION_WINDOW - limits.INTERACTIVE_ROOM
    assert all(stream.incoming.highest <= limits.STRANGER_STREAM_WINDOW for stream in received.streams.values())
    assert wire.run(60, until=lambda: _drain(received) == 8_000_000)


def _drain(connection: object) -> int:
    for stream in list(connection.streams.values()):  # type: ignore[attr-defined]
        stream.read()
    return connection._consumed - 8 * 3  # type: ignore[attr-defined]  # the names


def test_slow_reader_bounds_what_waits() -> None:
    wire, a, b = connected()
    stream = a.connection(b).open("bulk")
    stream.write(bytes(4_000_000))
    wire.run(20)
    incoming = offered(b)[0].incoming
    assert incoming.available == limits.STREAM_WINDOW - len("bulk") - 1
    offered(b)[0].read(limits.STREAM_WINDOW // 2)
    wire.run(5)
    assert incoming.available == limits.STREAM_WINDOW, "a window that was read slowly does not grow"


def test_peer_learns_of_new_streams_before_it_runs_out() -> None:
    """200 long streams and any number of short ones: the limit is on how many are open."""
    wire, a, b = connected()
    connection = a.connection(b)
    for number in range(200):
        connection.open(f"long{number}")
    wire.run(2)
    for number in range(300):
        stream = connection.open(f"short{number}")
        stream.finish()
        wire.run(0.1)
        accepted = offered(b)[-1]
        accepted.finish()
        accepted.read()
        wire.run(0.1)
        assert stream.closed


# --- what is lost and what is not -----------------------------------------------------------------------------------


def test_restarted_peer_means_lost_state_never_mixed_data() -> None:
    wire, a, b = connected()
    connection = a.connection(b)
    stream = connection.open("s")
    stream.write(b"before")
    wire.run(1)
    b.restart()
    stream.write(b"after")
    assert wire.run(10, until=lambda: bool(a.of(ConnectionStalled)))
    a.connect(b)
    assert wire.run(10, until=lambda: bool(a.of(ConnectionClosed)))
    wire.run(5)
    closed = a.of(ConnectionClosed)[0]
    assert (closed.connection, closed.code) == (connection, CloseCode.LOST_STATE)
    assert [(event.stream, event.code) for event in a.of(StreamReset)] == [(stream, StreamCode.LOST_STATE)]
    assert [event.resumed for event in a.of(ConnectionLive)] == [False, False]
    assert not b.of(StreamOffered)
    assert a.connection(b) is not connection
    fresh = a.connection(b).open("t")
    fresh.write(b"new")
    fresh.finish()
    wire.run(2)
    assert collect(wire, offered(b)[0]) == b"new"


def test_restarted_peer_that_connects_itself_resets_the_old_streams() -> None:
    wire, a, b = connected()
    connection = a.connection(b)
    stream = connection.open("s")
    wire.run(1)
    b.restart()
    b.connect(a)
    wire.run(5)
    assert [event.connection for event in a.of(ConnectionClosed)] == [connection]
    assert stream.closed
    assert a.connection(b).session is not None
    assert b.connection(a).session is not None


def test_close_tells_the_peer() -> None:
    wire, a, b = connected()
    stream = b.connection(a).open("s")
    wire.run(1)
    a.endpoint.close(wire.now, a.connection(b), CloseCode.SHUTDOWN, "bye")
    wire.run(1)
    assert [(event.code, event.reason) for event in b.of(ConnectionClosed)] == [(CloseCode.SHUTDOWN, "bye")]
    assert [event.code for event in a.of(ConnectionClosed)] == [CloseCode.DONE]
    assert [event.stream for event in b.of(StreamReset)] == [stream]
    wire.run(120)
    check_empty(a)
    check_empty(b)


def test_what_arrived_whole_is_readable_after_a_close() -> None:
    wire, a, b = connected()
    stream = a.connection(b).open("s")
    wire.run(0.1)
    accepted = offered(b)[0]
    accepted.finish()
    stream.write(b"everything")
    stream.finish()
    wire.run(1)
    a.endpoint.close(wire.now, a.connection(b))
    wire.run(1)
    assert not b.of(StreamReset)
    assert accepted.read() == b"everything"
    assert accepted.at_end


@pytest.mark.parametrize("seconds", [1.0, 10.0, 240.0])
def test_streams_survive_a_dead_network_in_spite_of_new_keys(seconds: float) -> None:
    wire, a, b = connected()
    connection = a.connection(b)
    session = connection.session
    stream = connection.open("s")
    for side, other in ((a, b), (b, a)):
        side.on_event = lambda event, side=side, other=other: (
            side.connect(other) if isinstance(event, ConnectionStalled | HandshakeFailed) else None
        )
    wire.blocked = lambda source, target: True
    data = random.Random(seconds).randbytes(300_000)
    stream.write(data)
    stream.finish()
    wire.run(seconds)
    wire.blocked = lambda source, target: False
    assert wire.run(10, until=lambda: bool(b.of(StreamOffered)))
    assert collect(wire, offered(b)[0]) == data
    assert a.connection(b) is connection
    assert not a.of(ConnectionClosed) + b.of(ConnectionClosed)
    if seconds > limits.LIFETIMES.hard_seconds:
        assert connection.session is not session


def test_idle_connection_wakes_with_the_first_write() -> None:
    wire, a, b = connected()
    connection = a.connection(b)
    wire.run(16 * 60)
    assert connection.session is None
    assert not a.endpoint._sessions
    assert not b.endpoint._sessions
    stream = connection.open("s")
    assert wire.run(1, until=lambda: bool(a.of(ConnectionStalled)))
    a.connect(b)
    wire.run(2)
    assert [event.resumed for event in a.of(ConnectionLive)] == [False, True]
    assert [event.resumed for event in b.of(ConnectionLive)] == [False, True]
    assert [each.service for each in offered(b)] == ["s"]
    assert not stream.closed


def test_idle_agent_is_cheap() -> None:
    wire, _a, _b = connected()
    wire.run(100)
    sent = wire.sent_bytes
    wire.run(600)
    assert wire.sent_bytes - sent < 40_000


def test_who_waits_for_its_turn_to_send_is_not_due() -> None:
    """Asked at every turn until then, a thousand sessions that all have something to say would cost a million looks."""
    wire, a, b = connected()
    a.connection(b).open("s").write(bytes(5000))
    train = memoryview(bytearray(65_536))
    sent = a.endpoint.transmit(wire.now, train)
    assert sent is not None
    b.endpoint.receive(wire.now, train[: sent.size], sent.segment, 0, A)
    session = b.connection(a).session
    assert session.acks.at == wire.now
    assert session.in_ready
    assert b.endpoint.deadline() > wire.now
    assert b.endpoint.transmit(wire.now, train) is not None
    assert session.acks.at is None


def test_connection_without_keys_ends_after_a_day() -> None:
    wire, a, b = connected()
    wire.run(limits.IDLE_SECONDS + 60)
    wire.run(limits.CONNECTION_LIFE_SECONDS + 120)
    check_empty(a)
    check_empty(b)


def test_endpoint_is_hurried_by_what_may_be_due_at_once() -> None:
    """A driver may leave a timer alone that is near, unless it is told."""
    wire, a, b = pair()
    a.connect(b)
    initiation = memoryview(bytearray(65_536))
    train = a.endpoint.transmit(wire.now, initiation)
    assert train is not None
    b.endpoint.deadline()
    assert not b.endpoint.hurried
    b.endpoint.receive(wire.now, initiation[: train.size], train.segment, 0, A)
    assert b.endpoint.hurried
    assert b.endpoint.deadline() <= wire.now


# --- what anybody may send ------------------------------------------------------------------------------------------


def test_replayed_datagrams_have_no_effect() -> None:
    scenario = Scenario(3, total=100_000)
    scenario.wire.recorded = []
    scenario.make()
    scenario.settle = lambda: None  # type: ignore[method-assign]
    scenario.run()
    wire = scenario.wire
    wire.loss = wire.corrupt = wire.duplicate = 0.0
    wire.run(30)
    before = [(len(side.events), _counters(side)) for side in (scenario.a, scenario.b)]
    recorded, wire.recorded = wire.recorded, None
    assert len(recorded) > 100
    scenario.random.shuffle(recorded)
    for source, target, datagram in recorded:
        wire.inject(source, target, datagram, scenario.random.random())
    wire.run(4)
    events = [list(side.events[count:]) for side, (count, _) in zip((scenario.a, scenario.b), before, strict=True)]
    assert events == [[], []]
    assert [_counters(side) for side in (scenario.a, scenario.b)] == [counters for _, counters in before]


def _counters(side: Side) -> list[tuple[int, int, int]]:
    return [(each._sent, each._received, each._consumed) for each in side.endpoint.connections.values()]


def test_replayed_initiations_of_a_pinned_peer_are_met_with_silence() -> None:
    wire, a, b = pair()
    for side, other in ((a, b), (b, a)):
        side.endpoint.add_log(other.credentials.log)
        side.endpoint.pin(other.credentials.identity)
    wire.recorded = []
    a.connect(b)
    wire.run(30)
    assert len(b.of(HandshakeConfirmed)) == 1
    initiation = wire.recorded[0]
    wire.recorded = []
    wire.inject(*initiation)
    wire.run(1)
    assert not [datagram for _, target, datagram in wire.recorded if target == A and datagram[0] == 2]


def test_garbage_does_nothing() -> None:
    wire, a, b = connected()
    rnd = random.Random(99)
    wire.recorded = []
    stream = a.connection(b).open("s")
    stream.write(bytes(100_000))
    wire.run(1)
    genuine = [datagram for _, target, datagram in wire.recorded if target == B]
    wire.recorded = None
    offered(b)[0].read()
    wire.run(1)
    events, connections = len(b.events), dict(b.endpoint.connections)
    for number in range(10_000):
        kind = number % 5
        if kind == 0:
            datagram = rnd.randbytes(rnd.randrange(1, 1500))
        elif kind == 1:
            datagram = bytes([rnd.randrange(9)]) + rnd.randbytes(rnd.randrange(1300))
        elif kind == 2:
            datagram = rnd.choice(genuine)
            datagram = datagram[: rnd.randrange(1, len(datagram))]
        elif kind == 3:
            datagram = bytearray(rnd.choice(genuine))
            datagram[rnd.randrange(len(datagram))] ^= 1 << rnd.randrange(8)
        else:
            datagram = rnd.choice(genuine)[:8] + rnd.randbytes(rnd.randrange(200))
        wire.inject(rnd.choice([A, ("10.6.6.6", 6)]), B, bytes(datagram), rnd.random())
    wire.run(3)
    assert len(b.events) == events
    assert b.endpoint.connections == connections
    assert b.endpoint.handshakes.half_open == 0
    stream.write(b"still here")
    wire.run(1)
    assert offered(b)[0].read() == b"still here"


@pytest.mark.parametrize("segment", [1, 7, 8, 15, 16, 31, 32, 33, 100])
def test_trains_of_any_cut_are_survived(segment: int) -> None:
    wire, _, b = connected()
    rnd = random.Random(segment)
    for kind in range(9):
        train = bytes([kind]) + rnd.randbytes(400)
        b.endpoint.receive(wire.now, memoryview(train), segment, 0, A)
    wire.run(1)


# --- small things ---------------------------------------------------------------------------------------------------


def test_ping_measures_the_round_trip() -> None:
    wire, a, b = connected()
    a.connection(b).ping(42)
    wire.run(1)
    (event,) = a.of(Ponged)
    assert (event.token, event.connection) == (42, a.connection(b))
    assert event.rtt == pytest.approx(0.02)


def test_pings_without_answer_are_bounded() -> None:
    wire, a, b = connected()
    wire.blocked = lambda source, target: True
    for token in range(1000):
        a.connection(b).ping(token)
    session = a.connection(b).session
    assert len(session.sender._pings) <= 64
    assert len(session.sender._probes) <= 64


def test_datagrams_of_a_stream_arrive_at_most_once() -> None:
    wire, a, b = connected(loss=0.2, duplicate=0.3, jitter=0.01)
    connection = a.connection(b)
    stream = connection.open("dgram")
    wire.run(5)
    for number in range(200):
        connection.send_datagram(stream, b"%d" % number)
        wire.run(0.01)
    wire.run(3)
    numbers = [int(data) for event in b.of(DatagramsReceived) for data in event.datagrams]
    assert len(numbers) == len(set(numbers))
    assert 100 < len(numbers) < 200


def test_newest_datagrams_stay_and_the_others_are_counted() -> None:
    wire, a, b = connected()
    connection = a.connection(b)
    stream = connection.open("dgram")
    wire.run(5)
    for number in range(1000):
        connection.send_datagram(stream, b"%d" % number)
    wire.run(3)
    numbers = [int(data) for event in b.of(DatagramsReceived) for data in event.datagrams]
    assert sorted(numbers) == list(range(1000 - 256, 1000))
    assert connection.datagrams_dropped == 1000 - 256


def test_handshakes_that_find_no_room_are_counted() -> None:
    wire, a, _ = connected()
    for _ in range(1100):
        a.endpoint.send(Route(0, ("nowhere", 1)), b"x")
    assert a.endpoint.dropped == 1100 - 1024
    wire.run(1)
    a.endpoint.send(Route(0, ("nowhere", 1)), b"x")
    assert a.endpoint.dropped == 1100 - 1024


def test_datagrams_wait_for_the_streams_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What must not be recorded and opened by a quantum computer does not leave before the ratchet."""
    wire, a, b = pair()
    connection = a.connect(b)
    early, late = connection.open("early", min_epoch=0), connection.open("late")
    connection.send_datagram(late, b"late")
    seen: list[int] = []
    original = Connection.take_datagrams

    def spy(self: Connection, room: int, overhead: int, epoch: int) -> list[tuple[int, bytes]]:
        taken = original(self, room, overhead, epoch)
        if taken:
            seen.append(epoch)
        return taken

    monkeypatch.setattr(Connection, "take_datagrams", spy)
    wire.run(2)
    assert seen
    assert all(epoch >= 1 for epoch in seen)
    assert early.outgoing.acked == late.outgoing.acked + 1


def test_datagram_larger_than_a_packet_is_refused() -> None:
    _, a, b = connected()
    stream = a.connection(b).open("s")
    with pytest.raises(LimitError):
        a.connection(b).send_datagram(stream, bytes(1137))


def test_datagrams_that_cannot_leave_push_out_the_oldest() -> None:
    wire, a, b = connected()
    stream = a.connection(b).open("s")
    wire.run(1)
    for number in range(300):
        a.connection(b).send_datagram(stream, b"%d" % number)
    wire.run(1)
    assert [int(data) for event in b.of(DatagramsReceived) for data in event.datagrams] == list(range(44, 300))


def test_record_is_served_to_whoever_knows_the_identity() -> None:
    wire, a, b = pair()
    b.endpoint.record = b"R" * 900
    a.endpoint.request_record(b.identity, Route(0, B))
    wire.run(1)
    (event,) = a.of(RecordReceived)
    assert (event.identity, event.record) == (b.identity, b"R" * 900)


def test_record_request_for_another_identity_gets_silence() -> None:
    wire, a, b = pair()
    b.endpoint.record = b"R" * 900
    a.endpoint.request_record(a.identity, Route(0, B))
    wire.run(1)
    assert not a.of(RecordReceived)


def test_record_response_that_nobody_asked_for_is_ignored() -> None:
    wire, a, b = pair()
    b.endpoint.record = b"R" * 900
    wire.recorded = []
    a.endpoint.request_record(b.identity, Route(0, B))
    wire.run(1)
    (response,) = [each for each in wire.recorded if each[2][0] == 7]
    wire.inject(*response)
    wire.run(1)
    assert len(a.of(RecordReceived)) == 1


def test_heap_of_deadlines_stays_small_under_many_short_exchanges() -> None:
    wire, a, b = connected(admit=False)
    stream = a.connection(b).open("s")
    wire.run(1)
    for _ in range(2000):
        stream.write(b"x")
        wire.run(0.05)
        offered(b)[0].read()
    assert len(a.endpoint._schedule) <= 128
    assert len(b.endpoint._schedule) <= 128


def test_logs_of_strangers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covey.core.keyring.LOGS_LIMIT", 3)
    wire = Wire(1)
    a = wire.side("a", A)
    others = [wire.side(f"x{number}") for number in range(6)]
    a.endpoint.add_log(others[0].credentials.log)
    a.endpoint.pin(others[0].credentials.identity)
    for other in others[1:]:
        a.endpoint.add_log(other.credentials.log)
    assert a.endpoint.log_of(others[0].identity) is not None
    assert a.endpoint.log_of(others[1].identity) is None
    assert a.endpoint.log_of(others[5].identity) is not None
