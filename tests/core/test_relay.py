from __future__ import annotations

import random

import pytest

from covey.base.errors import LimitError
from covey.core import relay
from covey.core.connection import Connection
from covey.core.events import ConnectionLive, StreamOffered
from covey.core.path import Route
from covey.core.relay import RelayTable
from covey.core.relay_filter import OTHER_KEYS_BURST
from covey.core.session import CloseCode
from covey.wire.datagram import INITIATION, INITIATION_SIZE, PACKET, RELAY_HEADER, RELAYED
from tests.core.pair import Address, Side, Wire

R = ("10.0.0.9", 4000)


def clients(count: int = 3, seed: int = 1) -> tuple[Wire, Side, list[Side]]:
    """A relay, and clients that have a session with it."""
    wire = Wire(seed)
    relaying = wire.side("r", R)
    relaying.endpoint.relay = RelayTable()
    sides = [wire.side(f"c{number}", (f"10.0.0.{number + 1}", 4000)) for number in range(count)]
    for side in sides:
        side.endpoint.relays[R] = relaying.identity
        side.connect(relaying)
    assert wire.run(5, until=lambda: len(relaying.of(ConnectionLive)) == count)
    wire.run(1)
    return wire, relaying, sides


def table(side: Side) -> RelayTable:
    assert side.endpoint.relay is not None
    return side.endpoint.relay


def connection(relaying: Side, side: Side) -> Connection:
    return relaying.connection(side)


def relayed(circuit: int, *sizes: int) -> tuple[memoryview, int]:
    """A train of datagrams of one circuit, and its segment."""
    train = b"".join(RELAY_HEADER.pack(RELAYED, 0, 0, circuit) + bytes([PACKET]) + bytes(size - 9) for size in sizes)
    return memoryview(train), sizes[0]


def forwarded(relays: RelayTable) -> list[tuple[Address, bytes, int]]:
    found = []
    while (forward := relays.next(0.0)) is not None:
        found.append((forward.route.remote, forward.data, forward.segment))
    return found


def test_circuit_carries_a_session_between_clients_that_cannot_meet() -> None:
    wire, relaying, (a, b, _) = clients()
    wire.blocked = lambda source, target: R not in (source, target)
    circuit = table(relaying).open(wire.now, connection(relaying, a), connection(relaying, b), 77)
    stream = a.connect(b, Route(0, R, circuit)).open("s")
    data = random.Random(1).randbytes(300_000)
    stream.write(data)
    stream.finish()
    received = bytearray()

    def done() -> bool:
        for event in b.of(StreamOffered):
            received.extend(event.stream.read())
        return len(received) == len(data)

    assert wire.run(10, until=done)
    assert received == data
    assert table(relaying).forwarded_bytes > len(data)
    assert table(relaying).dropped_bytes == 0


def test_circuit_of_a_pair_is_the_same_for_both() -> None:
    wire, relaying, (a, b, c) = clients()
    relays = table(relaying)
    first = relays.open(wire.now, connection(relaying, a), connection(relaying, b), 5)
    assert first == 5
    assert relays.open(wire.now, connection(relaying, b), connection(relaying, a), 6) == 5
    assert relays.open(wire.now, connection(relaying, a), connection(relaying, c), 5) == 6
    assert len(relays) == 2


@pytest.mark.parametrize(("number", "given"), [(0, 1), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_circuit_zero_is_none(number: int, given: int) -> None:
    wire, relaying, (a, b, _) = clients()
    assert table(relaying).open(wire.now, connection(relaying, a), connection(relaying, b), number) == given


def test_circuit_numbers_wrap_past_zero() -> None:
    wire, relaying, (a, b, c) = clients()
    relays = table(relaying)
    relays.open(wire.now, connection(relaying, a), connection(relaying, b), 0xFFFFFFFF)
    assert relays.open(wire.now, connection(relaying, a), connection(relaying, c), 0xFFFFFFFF) == 1


def test_runs_are_forwarded_unchanged_to_the_other_side() -> None:
    wire, relaying, (a, b, _) = clients()
    relays = table(relaying)
    circuit = relays.open(wire.now, connection(relaying, a), connection(relaying, b), 5)
    view, segment = relayed(circuit, 100, 100, 40)
    for source, target in ((a, b), (b, a)):
        assert relays.receive(wire.now, view, segment, 0, source.address, 0, len(view))
        assert forwarded(relays) == [(target.address, bytes(view), 100)]


def test_run_is_cut_where_the_circuit_changes() -> None:
    wire, relaying, (a, b, c) = clients()
    relays = table(relaying)
    one = relays.open(wire.now, connection(relaying, a), connection(relaying, b), 5)
    two = relays.open(wire.now, connection(relaying, a), connection(relaying, c), 6)
    train = relayed(one, 100, 100)[0].tobytes() + relayed(two, 100)[0].tobytes() + relayed(one, 100, 50)[0].tobytes()
    relaying.endpoint.receive(wire.now, memoryview(train), 100, 0, a.address)
    assert [(target, len(data)) for target, data, _ in forwarded(relays)] == [
        (b.address, 200),
        (c.address, 100),
        (b.address, 150),
    ]


def test_datagrams_from_anywhere_else_are_dropped() -> None:
    wire, relaying, (a, b, c) = clients()
    relays = table(relaying)
    circuit = relays.open(wire.now, connection(relaying, a), connection(relaying, b), 5)
    view, segment = relayed(circuit, 100)
    for source in (c.address, ("10.6.6.6", 1), (a.address[0], a.address[1] + 1)):
        assert not relays.receive(wire.now, view, segment, 0, source, 0, len(view))
    assert forwarded(relays) == []


def test_unknown_circuits_are_not_ours() -> None:
    wire, relaying, (a, _, _) = clients()
    view, segment = relayed(99, 100)
    assert not table(relaying).receive(wire.now, view, segment, 0, a.address, 0, len(view))


def test_client_takes_relayed_datagrams_only_from_its_relays() -> None:
    wire, relaying, (a, b, _) = clients()
    table(relaying).open(wire.now, connection(relaying, a), connection(relaying, b), 5)
    a.connect(b, Route(0, R, 5))
    wire.run(2)
    known = len(b.endpoint.sessions.half_open)
    wire.recorded = []
    wire.blocked = lambda source, target: True
    a.endpoint.connect(wire.now, b.target, [])
    a.connection(b).stalled_at = wire.now
    a.connect(b, Route(0, R, 5))
    wire.run(0.1)
    (initiation,) = [datagram for _, target, datagram in wire.recorded if target == R and len(datagram) == 1152]
    wire.inject(("10.6.6.6", 4000), b.address, initiation)
    wire.run(0.1)
    assert len(b.endpoint.sessions.half_open) == known
    wire.inject(R, b.address, initiation)
    wire.run(0.1)
    assert len(b.endpoint.sessions.half_open) == known + 1


def test_queue_is_short_and_says_what_it_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covey.core.relay_queue.QUEUE_BYTES", 2 * (100 + 256))
    wire, relaying, (a, b, _) = clients()
    relays = table(relaying)
    circuit = relays.open(wire.now, connection(relaying, a), connection(relaying, b), 5)
    view, segment = relayed(circuit, 100)
    for _ in range(4):
        relays.receive(wire.now, view, segment, 0, a.address, 0, len(view))
    assert relays.dropped_bytes == 200
    assert len(forwarded(relays)) == 2
    assert relays.forwarded_bytes == 200
    relays.receive(wire.now, view, segment, 0, a.address, 0, len(view))
    assert len(forwarded(relays)) == 1


def test_runs_leave_out_of_the_buffer_they_came_in_while_the_socket_has_room() -> None:
    wire, relaying, (a, b, _) = clients()
    room, left = True, []

    def outlet(port: int, run: memoryview, segment: int, remote: Address) -> bool:
        if room:
            left.append((port, run.obj, bytes(run), segment, remote))
        return room

    relays = RelayTable(outlet)
    circuit = relays.open(wire.now, connection(relaying, a), connection(relaying, b), 5)
    view, segment = relayed(circuit, 100, 100, 40)
    assert relays.receive(wire.now, view, segment, 0, a.address, 0, len(view))
    assert left == [(0, view.obj, bytes(view), 100, b.address)]
    assert not relays.pending
    room = False
    assert relays.receive(wire.now, view, segment, 0, a.address, 0, len(view))
    room = True
    assert relays.receive(wire.now, view, segment, 0, a.address, 0, len(view))
    assert len(left) == 1, "what came later waits behind what waits"
    assert len(forwarded(relays)) == 2
    assert (relays.forwarded_bytes, relays.dropped_bytes) == (3 * len(view), 0)


def test_circuits_that_a_client_asked_for_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CIRCUITS_PER_CLIENT", 2)
    wire, relaying, (a, b, c, d) = clients(4)
    relays = table(relaying)
    own = [connection(relaying, side) for side in (a, b, c, d)]
    relays.open(wire.now, own[0], own[1], 1)
    relays.open(wire.now, own[0], own[2], 2)
    with pytest.raises(LimitError) as info:
        relays.open(wire.now, own[0], own[3], 3)
    assert info.value.code == "too-many-circuits"
    # What others asked of it does not count, and what it has is still given.
    assert relays.open(wire.now, own[3], own[0], 3) == 3
    assert relays.open(wire.now, own[0], own[1], 9) == 1


def test_circuits_end_with_a_client_and_make_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CIRCUITS_PER_CLIENT", 1)
    wire, relaying, (a, b, c) = clients()
    relays = table(relaying)
    relays.open(wire.now, connection(relaying, a), connection(relaying, b), 1)
    b.endpoint.close(wire.now, b.connection(relaying), CloseCode.DONE)
    wire.run(1)
    assert len(relays) == 0
    assert relays.open(wire.now, connection(relaying, a), connection(relaying, c), 2) == 2


def test_unused_circuits_end_after_ten_minutes() -> None:
    wire, relaying, (a, b, c) = clients()
    relays = table(relaying)
    one = relays.open(wire.now, connection(relaying, a), connection(relaying, b), 1)
    relays.open(wire.now, connection(relaying, a), connection(relaying, c), 2)
    view, segment = relayed(one, 100)
    relays.receive(wire.now + 500, view, segment, 0, a.address, 0, len(view))
    relays.expire(wire.now + relay.IDLE_SECONDS + 1)
    assert len(relays) == 1
    relays.expire(wire.now + 500 + relay.IDLE_SECONDS + 1)
    assert len(relays) == 0
    assert (dict(relays._asked), relays._of, relays._by_pair) == ({}, {}, {})


def test_client_that_comes_back_gets_a_circuit_of_its_new_connection() -> None:
    wire, relaying, (a, b, _) = clients()
    relays = table(relaying)
    relays.open(wire.now, connection(relaying, a), connection(relaying, b), 1)
    b.restart()
    b.endpoint.relays[R] = relaying.identity
    b.connect(relaying)
    wire.run(2)
    assert len(relays) == 0
    assert relays.open(wire.now, connection(relaying, a), connection(relaying, b), 2) == 2
    view, segment = relayed(2, 100)
    relays.receive(wire.now, view, segment, 0, a.address, 0, len(view))
    assert [target for target, _, _ in forwarded(relays)] == [b.address]


@pytest.mark.parametrize("size", range(1, 18))
def test_relay_survives_datagrams_that_are_too_short(size: int) -> None:
    wire, relaying, (a, b, _) = clients()
    table(relaying).open(wire.now, connection(relaying, a), connection(relaying, b), 1)
    train = (RELAY_HEADER.pack(RELAYED, 0, 0, 1) + bytes(100))[: size * 3]
    relaying.endpoint.receive(wire.now, memoryview(train), size, 0, a.address)
    wire.run(0.1)


def test_clients_of_one_network_share_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identities cost nothing: a fourth one at the same address gets no circuit, one elsewhere does."""
    monkeypatch.setattr(relay, "CIRCUITS_PER_NETWORK", 3)
    wire, relaying, (a, b, *others) = clients(7)
    relays = table(relaying)
    for number, side in enumerate(others[:4]):
        side.move(("10.0.7.7", 5000 + number))
        side.connection(relaying).session.keep_alive()
    wire.run(3)
    same_host = [connection(relaying, side) for side in others[:4]]
    assert {each.session.active.route.remote[0] for each in same_host} == {"10.0.7.7"}
    for number, each in enumerate(same_host[:3]):
        relays.open(wire.now, each, connection(relaying, a), number + 1)
    with pytest.raises(LimitError) as info:
        relays.open(wire.now, same_host[3], connection(relaying, a), 9)
    assert info.value.code == "too-many-circuits"
    assert relays.open(wire.now, connection(relaying, b), connection(relaying, a), 9) == 9
    relays.forget(same_host[0])
    assert relays.open(wire.now, same_host[3], connection(relaying, a), 10) == 10


def test_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CIRCUITS_LIMIT", 2)
    wire, relaying, sides = clients(4)
    relays = table(relaying)
    own = [connection(relaying, side) for side in sides]
    relays.open(wire.now, own[0], own[1], 1)
    relays.open(wire.now, own[2], own[3], 2)
    with pytest.raises(LimitError):
        relays.open(wire.now, own[0], own[2], 3)
    assert relays.open(wire.now, own[1], own[0], 4) == 1


def test_train_of_packets_and_handshakes_loses_only_the_handshakes_that_do_not_fit() -> None:
    wire, relaying, (a, b, _) = clients()
    relays = table(relaying)
    relays.open(wire.now, connection(relaying, a), connection(relaying, b), 5)
    head = RELAY_HEADER.pack(RELAYED, 0, 0, 5)
    packet = head + bytes([PACKET]) + bytes(INITIATION_SIZE - 1)
    false = head + bytes([INITIATION]) + bytes(INITIATION_SIZE - 1)
    view = memoryview(packet + false + packet + packet)
    relays.receive(wire.now, view, len(packet), 0, a.address, 0, len(view))
    # One whose mac1 fits no key passes now and then: the client may have others.
    relays.receive(wire.now, view, len(packet), 0, a.address, 0, len(view))
    relays.receive(wire.now, view, len(packet), 0, a.address, 0, len(view))
    kinds = [data[8] for _, data, _ in forwarded(relays)]
    assert kinds.count(PACKET) == 9
    assert kinds.count(INITIATION) == OTHER_KEYS_BURST
    assert relays.dropped_bytes == len(packet)


def test_client_over_its_quota_is_held_back_and_loses_only_what_it_sends_in_vain() -> None:
    wire, relaying, (a, b, c) = clients()
    relays = relaying.endpoint.relay = RelayTable(rate=1_000_000)
    ab = relays.open(wire.now, connection(relaying, a), connection(relaying, b), 5)
    cb = relays.open(wire.now, connection(relaying, c), connection(relaying, b), 6)
    now = wire.now
    passed: list[tuple[float, int]] = []

    def drain() -> None:
        relays.release(now)
        while (forward := relays.next(now)) is not None:
            passed.append((now, len(forward.data)))

    view, segment = relayed(ab, *[1000] * 10)
    for _ in range(100):  # 10 MB/s for 0.1 s, ten times the quota
        relays.receive(now, view, segment, 0, a.address, 0, len(view))
        drain()
        now += 0.001
    sent = sum(size for _, size in passed)
    assert 65_536 <= sent <= 65_536 + 1_100_000 * 0.1 + 20_000
    assert relays.dropped_bytes > 0
    at = relays.deadline()
    assert at is not None
    assert now < at < now + 0.1
    other, segment = relayed(cb, 1000)
    assert relays.receive(now, other, segment, 0, c.address, 0, len(other))
    drain()
    assert passed[-1] == (now, 1000), "nobody else waits"
    while (at := relays.deadline()) is not None:
        now = at
        drain()
    assert sum(size for _, size in passed) + relays.dropped_bytes == 100 * 10_000 + 1000
