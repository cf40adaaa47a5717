"""Handshakes that run again beside a session, and sessions whose peer's word is over."""

from __future__ import annotations

from random import Random

import pytest

from covey.core import limits
from covey.core.connection import Connection
from covey.core.events import (
    ConnectionClosed,
    ConnectionLive,
    ConnectionStalled,
    HandshakeFailed,
    StreamReset,
)
from covey.core.limits import Lifetimes
from covey.core.path import Route
from covey.core.session import CloseCode, Session
from covey.core.stream import StreamCode
from covey.crypto.certificates import DELEGATION_LIFE_US, SECOND_US
from covey.crypto.credentials import Credentials
from covey.crypto.events import commitment, revoke
from covey.crypto.keys import SigningKey
from covey.crypto.renewal import renewed
from covey.wire.datagram import INITIATION
from tests.core.pair import WALL_START, Address, Chatter, Side, Wire, admit

A, B = ("10.0.0.1", 4000), ("10.0.0.2", 4000)
HOUR = 3600.0
YEAR = 365 * 24 * HOUR


class Stage:
    """a and b, connected and admitted; `initiations` says who began handshakes since."""

    def __init__(
        self, seed: int = 1, *, keepalive: float | None = 100.0, lifetimes: Lifetimes = limits.LIFETIMES
    ) -> None:
        self.wire = wire = Wire(seed, lifetimes=lifetimes)
        self.a, self.b = wire.side("a", A), wire.side("b", B)
        for side in (self.a, self.b):
            side.on_event = admit
        self.a.connect(self.b)
        assert wire.run(10, until=lambda: bool(self.a.of(ConnectionLive) and self.b.of(ConnectionLive)))
        wire.run(1)
        self.initiations: list[str] = []
        wire.tap = self._tap
        for side, other in ((self.a, self.b), (self.b, self.a)):
            side.connection(other).keepalive = keepalive

    def _tap(self, source: Address, _: Address, datagram: bytes) -> bytes:
        if datagram[0] == INITIATION:
            self.initiations.append({A: "a", B: "b"}.get(source, "?"))
        return datagram

    def session(self, side: Side) -> Session:
        session = side.connection(self.b if side is self.a else self.a).session
        assert session is not None
        return session

    def both(self) -> tuple[Session, Session]:
        return self.session(self.a), self.session(self.b)

    def agree(self) -> None:
        """Both sides send on the same session, and there is no other."""
        a, b = self.both()
        assert (a.local_index, a.peer_index) == (b.peer_index, b.local_index)
        assert len(self.a.endpoint._sessions) == len(self.b.endpoint._sessions) == 1

    def closed(self) -> list[ConnectionClosed]:
        return self.a.of(ConnectionClosed) + self.b.of(ConnectionClosed)

    def stalled(self) -> list[ConnectionStalled]:
        return self.a.of(ConnectionStalled) + self.b.of(ConnectionStalled)


# --- age ------------------------------------------------------------------------------------------------------------


def test_handshake_runs_again_after_twelve_hours_and_streams_notice_nothing() -> None:
    stage = Stage()
    wire = stage.wire
    first = stage.both()
    there, back = (Chatter(wire, x, y, pause=20.0) for x, y in ((stage.a, stage.b), (stage.b, stage.a)))
    wire.run(10.9 * HOUR)
    assert stage.both() == first
    wire.run(1.2 * HOUR)
    second = stage.both()
    assert first[0] is not second[0]
    assert stage.initiations == ["a"], "only the initiator of the first session starts"
    stage.agree()
    wire.run(12.1 * HOUR)
    assert stage.initiations == ["a", "a"]
    there.stop()
    back.stop()
    assert not stage.closed() + stage.stalled()


def test_peer_renews_when_the_initiator_does_not() -> None:
    stage = Stage()
    wire = stage.wire
    wire.blocked = lambda source, target: False
    wire.tap = lambda source, target, datagram: None if datagram[0] == INITIATION and source == A else datagram
    first = stage.both()
    chatter = Chatter(wire, stage.a, stage.b, pause=20.0)
    wire.run(13.2 * HOUR)
    assert stage.both()[0] is not first[0]
    assert not stage.session(stage.a).initiator
    stage.agree()
    chatter.stop()
    assert not stage.closed() + stage.stalled()


def test_two_renewals_that_cross_end_in_one_session() -> None:
    for seed in range(8):
        stage = Stage(seed)
        wire = stage.wire
        chatter = Chatter(wire, stage.a, stage.b)
        wire.run(60)
        offset = 0.002 * seed
        stage.a.endpoint.sessions.renewals.want(stage.session(stage.a))
        wire.run(offset)
        stage.b.endpoint.sessions.renewals.want(stage.session(stage.b))
        wire.run(60)
        assert sorted(stage.initiations) in (["a"], ["a", "b"])
        stage.agree()
        chatter.stop()
        assert not stage.closed() + stage.stalled(), f"seed {seed}"


def test_renewal_that_fails_is_tried_again_and_costs_nothing() -> None:
    stage = Stage(lifetimes=Lifetimes(renew_seconds=2 * HOUR))
    wire = stage.wire
    wire.tap = lambda source, target, datagram: None if datagram[0] == INITIATION else datagram
    first = stage.both()
    chatter = Chatter(wire, stage.a, stage.b, pause=20.0)
    wire.run(3.5 * HOUR)
    assert stage.both() == first
    assert len(stage.a.of(HandshakeFailed)) > 5
    wire.tap = None
    wire.run(0.2 * HOUR)
    assert stage.both()[0] is not first[0]
    stage.agree()
    chatter.stop()
    assert not stage.closed() + stage.stalled()


def test_renewal_keeps_the_paths() -> None:
    """Also the standby: a session that had two ways must not come back with one."""
    stage = Stage()
    wire, a = stage.wire, stage.a
    wire.sides[("10.0.0.22", 4000)] = stage.b
    other = Route(0, ("10.0.0.22", 4000))
    stage.session(a).paths.inherit(wire.now, [other])
    wire.run(1)
    assert other in [path.route for path in stage.session(a).paths]
    wire.run(60)
    a.endpoint.sessions.renewals.want(stage.session(a))
    first = stage.session(a)
    wire.run(5)
    assert stage.session(a) is not first
    assert {path.route for path in stage.session(a).paths} == {other, Route(0, B)}


# --- what wears out -------------------------------------------------------------------------------------------------


def test_new_session_before_the_epochs_run_out() -> None:
    stage = Stage(lifetimes=Lifetimes(rekey_packets=50, epochs=40))
    wire = stage.wire
    first = stage.session(stage.a)
    chatter = Chatter(wire, stage.a, stage.b, pause=0.02, size=2000)
    wire.run(60)
    chatter.stop()
    assert stage.session(stage.a) is not first
    assert 40 <= first.epochs.epoch < 60
    assert not stage.closed() + stage.stalled()


def test_new_session_before_the_path_ids_run_out() -> None:
    """A peer that moves and moves again uses up ids: no id is ever used twice, and it is never cut off."""
    stage = Stage(lifetimes=Lifetimes(path_ids=24))
    wire, a, b = stage.wire, stage.a, stage.b
    sessions = []
    used: dict[int, set[int]] = {}
    chatter = Chatter(wire, a, b, pause=0.1)
    for move in range(120):
        a.move(("10.0.0.1", 5000 + move))
        wire.run(6)
        session = stage.session(b)
        sessions.append(session)
        used.setdefault(session.local_index, set()).update(path.id for path in session.paths)
    chatter.stop()
    assert all(max(ids) < 24 for ids in used.values())
    assert len({id(session) for session in sessions}) >= 5
    assert not stage.closed()


# --- our own keys ---------------------------------------------------------------------------------------------------


def test_change_of_our_certificate_reaches_the_peer_at_once() -> None:
    stage = Stage()
    wire, a, b = stage.wire, stage.a, stage.b
    wire.run(60)
    chatter = Chatter(wire, a, b)
    b.adopt(b.credentials.rotate_transport(bytes(32), b.wall()))
    wire.run(limits.RENEW_SPREAD_SECONDS + 5)
    assert stage.initiations == ["b"]
    assert stage.session(a).payload.certificate == b.credentials.current.certificate.raw
    assert stage.session(a).certified_key == b.credentials.current.key.public
    stage.agree()
    wire.run(HOUR)
    assert stage.initiations == ["b"], "once is enough"
    chatter.stop()
    assert not stage.closed() + stage.stalled()


def test_peer_that_came_with_an_old_key_of_ours_is_given_the_present_one() -> None:
    wire = Wire()
    a, b = wire.side("a", A), wire.side("b", B)
    for side in (a, b):
        side.on_event = admit
    old = b.target
    b.adopt(b.credentials.rotate_transport(bytes(32), b.wall()))
    a.endpoint.connect(wire.now, old, [Route(0, B)])
    wire.run(1)
    session = a.connection(b).session
    assert session is not None
    assert session.certified_key == old.transport_key
    wire.run(limits.RENEW_GAP_SECONDS + limits.RENEW_SPREAD_SECONDS + 5)
    session = a.connection(b).session
    assert session is not None
    assert session.certified_key == b.credentials.current.key.public


def test_many_sessions_are_renewed_ten_a_second() -> None:
    wire = Wire()
    hub = wire.side("hub", ("10.0.0.9", 4000))
    hub.on_event = admit
    clients = [wire.side(f"c{number}", (f"10.1.0.{number}", 4000)) for number in range(150)]
    for client in clients:
        client.connect(hub).keepalive = 20.0
    wire.run(120)
    begun: list[float] = []

    def tap(source: Address, target: Address, datagram: bytes) -> bytes:
        if datagram[0] == INITIATION and source == hub.address:
            begun.append(wire.now)
        return datagram

    wire.tap = tap
    hub.adopt(hub.credentials.rotate_transport(bytes(32), hub.wall()))
    wire.run(60)
    assert len(begun) == len(clients)
    span = max(begun) - min(begun)
    assert 10 < span <= 15.1, span
    assert all(side.connection(hub).session.certified_key == hub.credentials.current.key.public for side in clients)  # type: ignore[union-attr]


def test_rotations_of_both_for_a_week_reach_the_other_and_cut_nothing() -> None:
    """Nobody looks anything up: what a session proves is always renewed in time by the one whose keys they are."""
    stage = Stage(seed=3)
    wire = stage.wire
    chatter = Chatter(wire, stage.a, stage.b, pause=100.0)
    random = Random(9).randbytes

    def rotate(side: Side) -> None:
        fresh = renewed(side.credentials, random, side.wall())
        if fresh is not side.credentials:
            side.adopt(fresh)
        wire.after(600, lambda: rotate(side))

    rotate(stage.a)
    rotate(stage.b)
    wire.run(7 * 24 * HOUR)
    for mine, peer in ((stage.a, stage.b), (stage.b, stage.a)):
        assert stage.session(mine).payload.certificate == peer.credentials.current.certificate.raw
    chatter.stop()
    assert not stage.closed() + stage.stalled()
    assert 2 * 7 * 24 / 16 <= len(stage.initiations) <= 60


# --- the peer's keys ------------------------------------------------------------------------------------------------


def cut(side: Side) -> tuple[list[int], list[str]]:
    """Codes of the streams that were reset, reasons of the connections that closed."""
    return [event.code for event in side.of(StreamReset)], [event.reason for event in side.of(ConnectionClosed)]


def test_streams_end_with_the_certificate_that_admitted_them() -> None:
    stage = Stage()
    wire, a, b = stage.wire, stage.a, stage.b
    wire.run(20 * HOUR)
    a.adopt(renewed(a.credentials, Random(1).randbytes, a.wall()))  # b never does
    stream = a.connection(b).open("s")
    stream.write(b"hello")
    wire.run(1)
    end = (b.credentials.current.certificate.until_us - WALL_START) / 1e6 + 1000.0
    wire.run(end - wire.now - 1)
    assert not stream.closed
    assert not stage.closed()
    wire.run(2)
    assert stream.failed == StreamCode.NOT_VERIFIED
    assert stream.closed
    assert cut(a)[1] == ["not-verified"]
    assert cut(b) == ([StreamCode.NOT_VERIFIED], ["not-verified"]), "the peer is told, too"
    assert [event.code for event in stage.closed()] == [CloseCode.NOT_VERIFIED] * 2
    a.connect(b)
    wire.run(20)
    assert b.identity not in a.endpoint.connections
    assert [event.code for event in a.of(HandshakeFailed)] == ["expired"]
    b.adopt(renewed(b.credentials, Random(2).randbytes, b.wall()))
    again = a.connect(b)
    assert wire.run(5, until=lambda: again.session is not None)


JUMPS = {"+1h": HOUR, "-1h": -HOUR, "+1y": YEAR, "-1y": -YEAR}


@pytest.mark.parametrize("seconds", JUMPS.values(), ids=JUMPS.keys())
def test_wall_clock_that_jumps_neither_ends_nor_prolongs_a_session(seconds: float) -> None:
    stage = Stage()
    wire, a, b = stage.wire, stage.a, stage.b
    chatter = Chatter(wire, a, b, pause=100.0)
    wire.run(60)
    a.clock_error_us += int(seconds * SECOND_US)
    wire.run(40 * HOUR)
    assert not stage.closed() + stage.stalled()
    chatter.stop()
    wire.run(9 * HOUR)
    assert {event.code for event in stage.closed()} == {CloseCode.NOT_VERIFIED}


def rotated(side: Side, seed: int = 3) -> Credentials:
    """The credentials after a ROTATE with the next root, as an owner makes them."""
    source = Random(f"{side.name} {side.wire.seed}").randbytes
    source(32)
    following = commitment(SigningKey(bytes([seed]) * 32).public)
    return side.credentials.rotate_root(SigningKey(source(32)), following, Random(seed).randbytes(32), side.wall())


def test_rotation_of_the_peers_root_costs_an_honest_peer_nothing() -> None:
    for told_first in (True, False):
        stage = Stage()
        wire, a, b = stage.wire, stage.a, stage.b
        wire.run(60)
        chatter = Chatter(wire, a, b)
        fresh = rotated(b)
        if told_first:
            a.endpoint.add_log(fresh.log)
        b.adopt(fresh)
        wire.run(60)
        assert stage.session(a).payload.log_head == fresh.log.head
        chatter.stop()
        assert not stage.closed() + stage.stalled()


def test_thief_of_a_rotated_key_is_out_within_seconds() -> None:
    """b runs on with the keys from before the ROTATE: as soon as a hears of that, b must prove the new ones."""
    stage = Stage()
    wire, a, b = stage.wire, stage.a, stage.b
    wire.run(60)
    stream = a.connection(b).open("s")
    stream.write(b"hello")
    wire.run(1)
    a.endpoint.add_log(rotated(b).log)
    wire.run(5)
    assert stream.failed == StreamCode.NOT_VERIFIED
    assert cut(a)[1] == ["not-verified"]


def test_thief_who_does_not_answer_is_out_in_fifteen_seconds() -> None:
    stage = Stage()
    wire, a, b = stage.wire, stage.a, stage.b
    wire.run(60)
    wire.tap = lambda source, target, datagram: None if datagram[0] == INITIATION else datagram
    stream = a.connection(b).open("s")
    wire.run(1)
    a.endpoint.add_log(rotated(b).log)
    wire.run(limits.DOUBT_SECONDS - 1)
    assert not stream.closed
    wire.run(2)
    assert stream.failed == StreamCode.NOT_VERIFIED


def test_newer_delegation_ends_the_older_one() -> None:
    for honest in (True, False):
        stage = Stage()
        wire, a, b = stage.wire, stage.a, stage.b
        wire.run(60)
        stream = a.connection(b).open("s")
        stream.write(b"hello")
        wire.run(1)
        assert b.credentials.root is not None
        fresh = b.credentials.delegate(b.credentials.root, bytes(32), b.wall(), DELEGATION_LIFE_US)
        a.endpoint.saw_delegation(b.identity, fresh.log.sequence, fresh.delegation.counter)
        if honest:
            b.adopt(fresh)
        wire.run(30)
        assert stream.closed is not honest


def test_revoked_identity_is_cut_at_once() -> None:
    stage = Stage()
    wire, a, b = stage.wire, stage.a, stage.b
    stream = a.connection(b).open("s")
    stream.write(b"hello")
    wire.run(1)
    assert b.credentials.root is not None
    a.endpoint.add_log(revoke(b.credentials.log, b.credentials.root))
    wire.run(0.001)
    assert stream.failed == StreamCode.NOT_VERIFIED
    wire.run(1)
    assert [event.code for event in b.of(ConnectionClosed)] == [CloseCode.NOT_VERIFIED]
    a.connect(b)
    wire.run(5)
    assert [event.code for event in a.of(HandshakeFailed)] == ["revoked"]


# --- idle -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["a", "b"])
def test_session_that_one_side_keeps_is_kept_by_both(who: str) -> None:
    stage = Stage(keepalive=None)
    keeper: Connection = stage.a.connection(stage.b) if who == "a" else stage.b.connection(stage.a)
    keeper.keepalive = 60.0
    keeper.wake()
    first = stage.both()
    stage.wire.run(2 * HOUR)
    assert stage.both() == first
    keeper.keepalive = None
    stage.wire.run(0.5 * HOUR)
    assert not stage.a.endpoint._sessions
    assert not stage.b.endpoint._sessions


def test_nothing_is_watched_that_has_ended() -> None:
    stage = Stage(keepalive=None)
    assert len(stage.a.endpoint.sessions.renewals) == 1
    stage.wire.run(0.5 * HOUR)
    assert len(stage.a.endpoint.sessions.renewals) == len(stage.b.endpoint.sessions.renewals) == 0
