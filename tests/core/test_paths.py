"""Relay first, direct as soon as it is proven, back within a second: whole endpoints with a relay between them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from covey.base.types import CongestionControl
from covey.core import limits
from covey.core.events import (
    ConnectionClosed,
    ConnectionLive,
    ConnectionStalled,
    PathsChanged,
    SeenByPeer,
    StreamOffered,
)
from covey.core.path import Route
from covey.core.relay import RelayTable
from covey.core.session import Session
from covey.core.stream import Stream
from covey.core.why import path_reason
from covey.wire.control import Candidate, CandidateKind, Candidates, Mapping, NatTraits
from tests.core.pair import Address, Chatter, Side, Wire

A, B, R = ("10.0.0.1", 4000), ("10.0.0.2", 4000), ("10.0.0.9", 4000)


class World:
    """a and b, both clients of the relay r; `direct` and `relayed` say which datagrams pass."""

    def __init__(self, seed: int = 1, *, candidates: bool = True, **impairments: float) -> None:
        self.wire = wire = Wire(seed, **impairments)  # type: ignore[arg-type]
        self.a, self.b, self.r = wire.side("a", A), wire.side("b", B), wire.side("r", R)
        self.direct = True
        self.relayed = True
        wire.blocked = self._blocked
        self.r.endpoint.relay = RelayTable()
        for side, address in ((self.a, A), (self.b, B)):
            side.endpoint.relays[R] = self.r.identity
            if candidates:
                side.endpoint.set_candidates([Candidate(CandidateKind.HOST, address)], NatTraits(Mapping.NONE))
            side.on_event = self._on_event
            side.connect(self.r)
        assert wire.run(5, until=lambda: len(self.r.of(ConnectionLive)) == 2)
        wire.run(1)
        self.circuit = self.r.endpoint.relay.open(
            wire.now, self.r.connection(self.a), self.r.connection(self.b), 0xC0FFEE
        )
        self.connection = self.a.connect(self.b, Route(0, R, self.circuit))
        assert wire.run(5, until=lambda: self.connection.session is not None)

    def _blocked(self, source: Address, target: Address) -> bool:
        return not (self.relayed if R in (source, target) else self.direct)

    @staticmethod
    def _on_event(event: object) -> None:
        if isinstance(event, ConnectionLive):
            event.connection.admit()

    @property
    def why(self) -> str:
        return path_reason(self.wire.now, self.connection, self.session.active)

    @property
    def session(self) -> Session:
        assert self.connection.session is not None
        return self.connection.session

    @property
    def route(self) -> Route:
        return self.session.active.route

    def upgrade(self) -> None:
        assert self.wire.run(10, until=lambda: not self.route.relayed and not self.peer.active.route.relayed)

    @property
    def peer(self) -> Session:
        session = self.b.connection(self.a).session
        assert session is not None
        return session

    def flow(self, seconds: float, rate: int = 200_000, tick: float = 0.01) -> Flow:
        flow = Flow(self, rate, tick)
        self.wire.run(seconds)
        return flow


class Flow:
    """A stream from a to b, written and read all the time; `gap` is the longest silence at b."""

    def __init__(self, world: World, rate: int, tick: float) -> None:
        self.world, self.wire = world, world.wire
        self.source = random.Random(7)
        self.expected, self.received = bytearray(), bytearray()
        self.stream = world.connection.open("flow")
        self.rate = rate
        self.tick = tick
        self.gap = 0.0
        self.last: float | None = None
        self.running = True
        self.end: Stream | None = None
        self._tick()

    def _tick(self) -> None:
        if self.running:
            data = self.source.randbytes(int(self.rate * self.tick))
            self.expected += data
            self.stream.write(data)
            self.wire.after(self.tick, self._tick)
        if self.end is None:
            for event in self.world.b.of(StreamOffered):
                self.end = event.stream if event.stream.id == self.stream.id else None
        if self.end is not None:
            data = self.end.read()
            if data:
                if self.last is not None:
                    self.gap = max(self.gap, self.wire.now - self.last)
                self.last = self.wire.now
                self.received += data
        if not self.running and len(self.received) < len(self.expected):
            self.wire.after(self.tick, self._tick)

    def stop(self) -> None:
        """Ends the flow: everything written has arrived, once and in order."""
        self.running = False
        assert self.wire.run(10, until=lambda: len(self.received) >= len(self.expected))
        assert self.received == self.expected


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    assert not world.a.of(ConnectionClosed) + world.b.of(ConnectionClosed)


# --- upgrade --------------------------------------------------------------------------------------------------------


def test_first_bytes_travel_by_the_relay(world: World) -> None:
    world.direct = False
    flow = world.flow(2)
    flow.stop()
    assert world.route == Route(0, R, world.circuit)


def test_paths_upgrade_to_direct(world: World) -> None:
    flow = world.flow(3)
    assert world.route == Route(0, B)
    assert world.peer.active.route == Route(0, A)
    flow.stop()
    assert flow.gap < 0.2
    assert world.a.of(PathsChanged)
    before = world.r.endpoint.relay.forwarded_bytes
    world.flow(1).stop()
    assert world.r.endpoint.relay.forwarded_bytes == before


def test_paths_upgrade_late_when_the_direct_way_opens_later(world: World) -> None:
    world.direct = False
    flow = world.flow(20)
    assert world.route.relayed
    assert world.why == "peer-silent"
    world.direct = True
    world.wire.run(limits.PROBE_ROUND_SECONDS)
    assert not world.route.relayed
    flow.stop()


def test_upgrade_attempts_back_off_and_stop_when_nothing_flows(world: World) -> None:
    world.direct = False
    probes: list[float] = []
    world.wire.blocked = lambda source, target: (
        R not in (source, target) and (probes.append(world.wire.now) or True)  # type: ignore[func-returns-value]
    )
    for side in (world.a, world.b):
        side.connection(world.r).keepalive = world.r.connection(side).keepalive = 30.0
    flow = world.flow(1000, rate=1000, tick=0.5)
    rounds = [at for before, at in zip([0.0, *probes], probes, strict=False) if at - before > 20]
    gaps = [round(after - before, -1) for before, after in itertools.pairwise(rounds)]
    assert gaps[:3] == sorted(gaps[:3])
    assert 3 <= len(rounds) <= 12
    flow.stop()
    world.wire.run(limits.ACTIVE_SECONDS + 70)
    probes.clear()
    world.wire.run(500)
    assert not probes


def test_without_candidates_nothing_is_probed() -> None:
    world = World(candidates=False)
    flow = world.flow(3)
    assert world.route.relayed
    assert world.why == "no-candidate"
    flow.stop()


def test_candidates_that_appear_later_are_used() -> None:
    world = World(candidates=False)
    flow = world.flow(3)
    world.a.endpoint.set_candidates([Candidate(CandidateKind.HOST, A)])
    world.b.endpoint.set_candidates([Candidate(CandidateKind.HOST, B)])
    world.wire.run(6)
    assert not world.route.relayed
    flow.stop()


def test_candidates_are_not_exchanged_with_who_is_not_admitted() -> None:
    wire = Wire(1)
    a, b = wire.side("a", A), wire.side("b", B)
    for side, address in ((a, A), (b, B)):
        side.endpoint.set_candidates([Candidate(CandidateKind.HOST, address)], NatTraits(Mapping.NONE))
    connection = a.connect(b)
    wire.run(2)
    connection.admit(direct=False)
    wire.run(2)
    assert connection.session.paths.candidates_sent == Candidates()
    assert b.connection(a).session.paths.remote_candidates == ()


def test_peers_on_a_direct_path_tell_each_other_once_where_they_are_seen() -> None:
    world = World()
    world.upgrade()
    world.flow(2).stop()
    world.wire.run(2)
    for side, own, other in ((world.a, A, B), (world.b, B, A)):
        assert [(event.route.remote, event.seen) for event in side.of(SeenByPeer)] == [(other, own)]
    assert world.r.of(SeenByPeer) == [], "nobody speaks of addresses who is not admitted"


def test_ipv6_candidates_are_probed_only_from_ipv6_ports() -> None:
    world = World(candidates=False)
    world.b.endpoint.set_candidates([Candidate(CandidateKind.HOST, ("2001:db8::2", 4000))])
    world.wire.run(3)
    assert world.session.paths.remote_candidates
    assert world.session.paths.proving.pairs() == []
    world.a.endpoint.set_ports([(0, 4), (1, 6)])
    assert world.session.paths.proving.pairs() == [Route(1, ("2001:db8::2", 4000))]


# --- death ----------------------------------------------------------------------------------------------------------


def test_blocked_direct_path_fails_over_to_the_relay_within_a_second(world: World) -> None:
    flow = world.flow(3)
    assert not world.route.relayed
    flow.gap = 0.0
    world.direct = False
    world.wire.run(3)
    assert world.route.relayed
    flow.stop()
    assert flow.gap < 1.0
    assert not world.a.of(ConnectionStalled) + world.b.of(ConnectionStalled)


def test_blocked_relay_after_the_upgrade_has_no_effect(world: World) -> None:
    flow = world.flow(3)
    world.relayed = False
    flow.gap = 0.0
    world.wire.run(60)
    flow.stop()
    assert flow.gap < 0.1
    assert world.route == Route(0, B)


def test_direct_path_that_comes_back_is_used_again(world: World) -> None:
    flow = world.flow(3)
    world.direct = False
    world.wire.run(2)
    assert world.route.relayed
    world.direct = True
    world.wire.run(limits.PROBE_ROUND_SECONDS)
    assert not world.route.relayed
    flow.stop()


def test_short_cut_of_the_direct_path_loses_nothing(world: World) -> None:
    flow = world.flow(3)
    for _ in range(5):
        world.direct = False
        world.wire.run(0.5)
        world.direct = True
        world.wire.run(12)
    assert not world.route.relayed
    flow.stop()
    assert flow.gap < 1.0


def test_direct_path_that_carries_probes_but_no_data_is_given_up(world: World) -> None:
    """A path that answers pings but carries no data is dead (DESIGN 6)."""
    flow = world.flow(3)

    def probes_only(source: Address, target: Address, datagram: bytes) -> bytes | None:
        return datagram if R in (source, target) or datagram[1] == limits.PROBE_PATH else None

    world.wire.tap = probes_only
    world.wire.run(30)
    received = len(flow.received)
    world.wire.run(10)
    assert len(flow.received) - received > 8 * flow.rate
    assert world.route.relayed
    flow.stop()


@pytest.mark.parametrize("delay", [0.0, 0.0001, 0.01])
def test_only_path_that_carries_probes_but_no_data_is_no_storm(delay: float) -> None:
    """Every answer to a probe says that the path lives, every acknowledgement that it does not: that takes its time."""
    wire = Wire(1, delay=delay)
    a, b = wire.side("a", A), wire.side("b", B)
    connection = a.connect(b)
    wire.run(2)
    wire.tap = lambda source, target, datagram: datagram if datagram[1] == limits.PROBE_PATH else None
    before = wire.datagrams
    connection.open("s").write(bytes(50_000))
    wire.run(60)
    # Of both sides: the one without data has an MTU probe that waits for its acknowledgement.
    assert wire.datagrams - before < 2 * 1500
    assert 1 <= len(a.of(ConnectionStalled)) <= 60


def test_every_path_dead_stalls_once_and_heals(world: World) -> None:
    flow = world.flow(3)
    world.direct = world.relayed = False
    world.wire.run(10)
    stalled = world.a.of(ConnectionStalled)
    assert {event.connection for event in stalled} >= {world.connection}
    assert len([event for event in stalled if event.connection is world.connection]) == 1
    world.direct = world.relayed = True
    world.a.connect(world.b, Route(0, R, world.circuit), Route(0, B))
    world.wire.run(5)
    flow.stop()


# --- moving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("who", "gap"), [("a", 1.0), ("b", 1.5)], ids=["sender", "receiver"])
def test_relayed_stream_survives_a_new_source_address(who: str, gap: float) -> None:
    """The NAT of one side forgets its mapping. The circuit follows the side's own session with the relay.

    A sender misses its acknowledgements and tells the relay at once; a receiver misses data, asks and then does, too.
    """
    world = World(candidates=False)
    side = world.a if who == "a" else world.b
    side.connection(world.r).keepalive = 15.0
    flow = world.flow(2)
    assert world.route.relayed
    side.move((side.address[0], 5555))
    flow.gap = 0.0
    world.wire.run(20)
    flow.stop()
    assert flow.gap < gap


@pytest.mark.parametrize(("who", "seconds"), [("a", 1.0), ("b", 1.5)], ids=["sender", "receiver"])
def test_direct_session_follows_a_new_source_address(who: str, seconds: float) -> None:
    """A receiver that moved is found when it asks why nothing comes any more."""
    wire = Wire(3)
    a, b = wire.side("a", A), wire.side("b", B)
    for side in (a, b):
        side.on_event = World._on_event
    connection = a.connect(b)
    wire.run(2)
    stream = connection.open("s")
    data = random.Random(1).randbytes(3_000_000)
    stream.write(data)
    stream.finish()
    received = bytearray()

    def done() -> bool:
        for event in b.of(StreamOffered):
            received.extend(event.stream.read())
        return len(received) == len(data)

    assert not wire.run(0.08, until=done)
    mover, other = (a, b) if who == "a" else (b, a)
    mover.move((mover.address[0], 6000))
    assert wire.run(seconds, until=done)
    assert received == data
    assert other.connection(mover).session.active.route == Route(0, (mover.address[0], 6000))
    assert len(other.connection(mover).session.paths) == 1
    assert not b.of(ConnectionStalled)


def test_new_source_address_gets_three_times_what_it_sent_until_it_answers() -> None:
    """Small packets from a new address: a small challenge first, one of full size when that was answered."""
    wire = Wire(3)
    a, b = wire.side("a", A), wire.side("b", B)
    connection = a.connect(b)
    wire.run(2)
    stream = connection.open("s")
    wire.run(1)
    moved = (A[0], 6000)
    a.move(moved)
    received, sent, sizes = 0, 0, []

    def tap(source: Address, target: Address, datagram: bytes) -> bytes:
        nonlocal received, sent
        if source == moved and not validated():
            received += len(datagram)
        if target == moved and not validated():
            sent += len(datagram)
            sizes.append(len(datagram))
        return datagram

    def validated() -> bool:
        session = b.connection(a).session
        return session is not None and session.active.route == Route(0, moved)

    wire.tap = tap
    stream.write(b"x")
    wire.run(1)
    assert validated()
    assert sizes[0] < 300
    assert limits.INITIAL_MTU in sizes
    assert sum(sizes[:1]) <= 3 * received


def test_best_of_several_paths_is_used_and_the_next_best_after_it() -> None:
    world = World(delay=0.02, candidates=False)
    second = ("10.0.1.2", 4000)
    world.wire.sides[second] = world.b
    world.wire.delays[frozenset((A, second))] = 0.1
    world.b.endpoint.set_candidates([Candidate(CandidateKind.HOST, B), Candidate(CandidateKind.HOST, second)])
    flow = world.flow(5)
    assert world.route == Route(0, B)
    assert {path.route for path in world.session.paths} == {Route(0, R, world.circuit), Route(0, B), Route(0, second)}
    world.wire.blocked = lambda source, target: target == B
    flow.gap = 0.0
    world.wire.run(5)
    assert world.route == Route(0, second)
    flow.stop()
    assert flow.gap < 1.5


def test_spoofed_source_address_does_not_move_a_session() -> None:
    """Somebody repeats a fresh packet from elsewhere, faster than the network: he is challenged, and cannot answer."""
    wire = Wire(3)
    a, b = wire.side("a", A), wire.side("b", B)
    connection = a.connect(b)
    wire.run(2)
    stream = connection.open("s")

    def copy(source: Address, target: Address, datagram: bytes) -> bytes:
        if source == A:
            wire.inject(("10.6.6.6", 66), B, datagram, 0.001)
        return datagram

    wire.tap = copy
    for _ in range(100):
        stream.write(b"x" * 100)
        wire.run(0.05)
    assert len(b.of(StreamOffered)[0].stream.read()) == 100 * 100
    assert b.connection(a).session.active.route == Route(0, A)
    assert not a.of(ConnectionStalled) + b.of(ConnectionStalled)


# --- size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mtu", "found"),
    [
        (1200, 1200),
        (1279, 1252),
        (1392, 1392),
        (1472, 1472),
        (1480, 1472),
        (8868, 8868),
        (9001, 8972),
        (65_507, 65_507),
    ],
)
def test_path_finds_the_largest_datagram_that_passes_both_ways(mtu: int, found: int) -> None:
    wire = Wire(1, mtu=mtu)
    a, b = pair(wire)
    wire.run(2)
    for here, there in ((a, b), (b, a)):
        here.connection(there).open("s").write(bytes(1_000_000))
    wire.run(5)
    for here, there in ((a, b), (b, a)):
        assert session_of(here, there).active.mtu == found
        assert here.connection(there)._received > 1_000_000
        # Lost probes are not congestion.
        assert session_of(here, there).active.recovery.lost_bytes == 0


def test_each_direction_has_a_size_of_its_own() -> None:
    wire = Wire(1, mtu=8972)
    wire.tap = lambda source, target, datagram: None if source == B and len(datagram) > 1252 else datagram
    a, b = pair(wire)
    wire.run(2)
    for here, there in ((a, b), (b, a)):
        here.connection(there).open("s").write(bytes(1_000_000))
    wire.run(5)
    assert (session_of(a, b).active.mtu, session_of(b, a).active.mtu) == (8972, 1252)


def test_search_is_quick_and_idle_paths_have_none() -> None:
    wire = Wire(1, mtu=8972)
    wire.trace = []
    a, b = pair(wire)
    wire.run(0.2)
    assert session_of(a, b).active.mtu == 1200
    a.connection(b).open("s").write(bytes(30_000))
    wire.run(0.2)
    assert session_of(a, b).active.mtu == 1472
    wire.run(100)
    assert max(size for _, _, size in wire.trace) == 1472
    wire.trace.clear()
    begun = wire.now
    a.connection(b).open("s").write(bytes(3_000_000))
    assert wire.run(5, until=lambda: session_of(a, b).active.mtu == 8972)
    # Five round trips to carry enough with a window that doubles, then one for the probe.
    assert wire.now - begun < 10 * 0.02
    wire.run(5)
    assert max(size for _, _, size in wire.trace) == 65_507


def test_relayed_path_finds_its_size_with_the_outer_header() -> None:
    world = World(mtu=8972)
    world.direct = False
    flow = world.flow(3, rate=1_000_000)
    assert (world.route.relayed, world.session.active.mtu) == (True, 8972)
    flow.stop()


def pair(wire: Wire) -> tuple[Side, Side]:
    """Two sides with a connection that admits everything."""
    a, b = wire.side("a", A), wire.side("b", B)
    for side in (a, b):
        side.on_event = World._on_event
    a.connect(b)
    assert wire.run(5, until=lambda: bool(a.of(ConnectionLive) and b.of(ConnectionLive)))
    return a, b


def session_of(side: Side, other: Side) -> Session:
    session = side.connection(other).session
    assert session is not None
    return session


def test_relayed_datagrams_stay_within_the_path() -> None:
    world = World(mtu=1200)
    world.direct = False
    flow = world.flow(3, rate=1_000_000)
    flow.stop()


@pytest.mark.parametrize("before", [1472, 8972, 65_507])
@pytest.mark.parametrize("after", [1200, 1300, 1472])
def test_path_whose_mtu_shrinks_under_load_goes_on_smaller_at_once(before: int, after: int) -> None:
    """A black hole: nobody says that large datagrams vanish."""
    wire = Wire(1, mtu=before)
    a, b = pair(wire)
    wire.run(2)
    stream = a.connection(b).open("s")
    stream.write(bytes(2_000_000))
    wire.run(2)
    active = session_of(a, b).active
    assert active.mtu == before
    end = b.of(StreamOffered)[0].stream
    got = 0
    while got < 2_000_000:
        got += len(end.read())
        wire.run(0.05)
    a.events.clear()
    b.events.clear()
    data = random.Random(1).randbytes(1_500_000)
    stream.write(data)
    wire.run(0.015)
    wire.mtu = after
    seconds = 3 * active.recovery.rtt.pto() + 4 * wire.delay
    assert wire.run(seconds, until=lambda: active.mtu < before or after >= before)
    begun, received = wire.now, bytearray()
    while len(received) < len(data):
        wire.run(0.05)
        received += end.read()
        assert wire.now - begun < 10
    assert received == data
    assert active is session_of(a, b).active
    assert not active.suspect
    assert not a.of(ConnectionStalled) + b.of(ConnectionStalled) + a.of(PathsChanged) + b.of(PathsChanged)
    Chatter(wire, a, b)
    wire.run(5)
    assert active.mtu == {1200: 1200, 1300: 1291, 1472: 1472}[after]


def test_path_that_takes_only_small_packets_carries_bulk_beside_them() -> None:
    """Small packets that are answered keep every timeout away: only what is lost tells."""
    wire = Wire(1, mtu=1472)
    a, b = pair(wire)
    wire.run(2)
    chatter = Chatter(wire, a, b, pause=0.004, size=50)
    bulk = a.connection(b).open("bulk")
    bulk.write(bytes(300_000))
    wire.run(1)
    active = session_of(a, b).active
    assert active.mtu == 1472
    end = next(event.stream for event in b.of(StreamOffered) if event.stream.id == bulk.id)
    end.read()
    wire.mtu = 1250
    begun = wire.now
    bulk.write(bytes(100_000))
    got = 0
    while got < 100_000:
        wire.run(0.01)
        got += len(end.read())
        assert wire.now - begun < 1.5
    assert active.mtu == 1200
    assert not active.suspect
    chatter.stop()


def test_large_messages_in_close_order_find_a_narrower_path() -> None:
    """Each starts the probe timeout anew, so that it never passes: patience with silence ends sooner."""
    wire = Wire(1, mtu=1472, delay=0.1)
    a, b = pair(wire)
    wire.run(2)
    chatter = Chatter(wire, a, b, pause=0.05, size=1300)
    wire.run(2)
    active = session_of(a, b).active
    a.events.clear()
    b.events.clear()
    wire.mtu = 1250
    assert wire.run(1.5, until=lambda: active.mtu == 1200)
    wire.run(2)
    chatter.stop()
    assert not a.of(PathsChanged) + b.of(PathsChanged)


def test_path_that_is_raised_again_recovers() -> None:
    wire = Wire(1, mtu=8972)
    a, b = pair(wire)
    wire.run(2)
    chatter = Chatter(wire, a, b, pause=0.02, size=20_000)
    wire.run(3)
    active = session_of(a, b).active
    assert active.mtu == 8972
    wire.mtu = 1252
    wire.run(5)
    assert active.mtu == 1252
    wire.mtu = 8972
    wire.run(65)
    assert active.mtu == 8972
    chatter.stop()


@pytest.mark.parametrize("algorithm", ["cubic", "bbr"])
def test_window_smaller_than_the_new_datagrams_stops_nothing(algorithm: CongestionControl) -> None:
    wire = Wire(1, congestion=algorithm)
    a, b = pair(wire)
    wire.run(2)
    active = session_of(a, b).active
    active.on_mtu_probe(65_507, arrived=True)
    active.recovery.congestion.window = 5_000
    stream = a.connection(b).open("s")
    stream.write(bytes(500_000))
    wire.run(5)
    assert b.connection(a)._received >= 500_000


def test_timeout_that_had_another_reason_costs_a_round_trip_of_small_datagrams() -> None:
    wire = Wire(1, mtu=8972)
    a, b = pair(wire)
    wire.run(2)
    stream = a.connection(b).open("s")
    stream.write(bytes(1_000_000))
    wire.run(2)
    end = b.of(StreamOffered)[0].stream
    while end.read():
        wire.run(0.05)
    active = session_of(a, b).active
    stream.write(bytes(50_000))
    wire.blocked = lambda source, target: True
    wire.run(0.06)
    wire.blocked = lambda source, target: False
    assert active.mtu == limits.INITIAL_MTU
    wire.run(0.5)
    assert active.mtu == 8972
    assert len(end.read()) == 50_000


def test_dead_path_is_left_no_later_for_its_size() -> None:
    """Doubt about the size must not cost the second within which data goes another way.

    Nor does it depend on luck: who only acknowledges has nothing on its way that would tell that its path is dead.
    """
    world = World(mtu=1472)
    world.upgrade()
    flow = world.flow(2, rate=1_000_000)
    assert world.session.active.mtu == 1472
    world.direct = False
    world.wire.run(3)
    assert world.route.relayed
    flow.stop()
    assert flow.gap < 1.0
