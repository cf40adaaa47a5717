"""Which sessions and connections there are, and which session carries which connection (PROTOCOL 12, 19).

A handshake that we answered is `half_open` until its first packet; a session counts for nothing before its peer is
verified, and then meets the connection with that peer. When several sessions of a connection are alive, both sides come
to the same answer which of them it sends on. `Handshakes` and each `Session` say here what became of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from covey.base.errors import ParseError
from covey.base.types import Identity
from covey.core import limits
from covey.core.connection import Connection
from covey.core.epochs import Epochs
from covey.core.events import (
    ConnectionClosed,
    ConnectionLive,
    ConnectionStalled,
    HandshakeFailed,
    LogLearnt,
    PathsChanged,
)
from covey.core.halves import Halves
from covey.core.handshake import Accepted, Established, Target
from covey.core.handshakes import NO_ANSWER, Handshakes
from covey.core.keyring import Keyring
from covey.core.path import Route
from covey.core.relay import RelayTable
from covey.core.renewals import Renewals
from covey.core.schedule import Schedule
from covey.core.session import CloseCode, Session, SessionOwner
from covey.core.stream import StreamCode
from covey.core.windows import Budget
from covey.crypto.credentials import Credentials
from covey.crypto.ratchet import Encapsulate

__all__ = ["Sessions", "SessionsOwner"]

_CROSSING_SECONDS = limits.HANDSHAKE_GIVE_UP
"""Two handshakes from both sides within this time are a simultaneous open, not a renewal: as long as attempts last."""


class SessionsOwner(SessionOwner, Protocol):
    """What the table asks of its endpoint."""

    connections: dict[Identity, Connection]
    credentials: Credentials
    handshakes: Handshakes
    keyring: Keyring
    relay: RelayTable | None
    now: float
    """When the endpoint was last called, seconds."""
    wall: Callable[[], int]
    clock: Callable[[], float]

    def send(self, route: Route, datagram: bytes) -> None: ...
    def take_back_ports(self, connection: Connection) -> None:
        """The connection is over, and with it what was lent to it."""


class Sessions:
    """See the module's text. `schedule` hears of sessions whose deadline may be another one."""

    def __init__(
        self,
        owner: SessionsOwner,
        schedule: Schedule,
        *,
        random: Callable[[int], bytes],
        encapsulate: Encapsulate,
        lifetimes: limits.Lifetimes,
    ) -> None:
        self._owner = owner
        self._schedule = schedule
        self._random = random
        self._encapsulate = encapsulate
        self._lifetimes = lifetimes
        self._budget = Budget()
        self.renewals = Renewals(random, lifetimes)
        self.halves = Halves(random(32))
        self.connections = owner.connections
        self.by_index: dict[int, Session] = {}
        self.half_open: dict[int, tuple[float, Accepted, Route]] = {}
        """Handshakes that we answered, and when. They become sessions when the first packet arrives: not many do, while
        somebody floods."""
        self.by_peer: dict[Identity, list[Session]] = {}
        """The same sessions: nobody looks through all of them for those of one peer."""
        self.strangers: OrderedDict[Connection, None] = OrderedDict()
        """Live connections with peers that were neither admitted nor pinned when they began, the oldest first."""
        self.unverified: OrderedDict[int, Session] = OrderedDict()

    # --- handshakes --------------------------------------------------------------------------------------------------

    def opened(self, index: int) -> Session | None:
        """Something arrived for a handshake that we answered."""
        found = self.half_open.pop(index, None)
        if found is None:
            return None
        at, accepted, route = found
        return self.new_session(
            at, accepted.established, accepted.local_half, accepted.verified, route, initiator=False
        )

    def answered(self, now: float, established: Established, half: bytes, verified: bool, route: Route) -> Session:
        """Our attempt has keys: the session of it, not confirmed to anybody yet."""
        return self.new_session(now, established, half, verified, route, initiator=True)

    def add_half_open(self, now: float, accepted: Accepted, route: Route) -> None:
        """We answered an initiation."""
        self.half_open[accepted.established.local_index] = (now, accepted, route)

    def unconfirmed(self, index: int) -> None:
        """A half-open entry is over: so is its session, unless the initiator has confirmed it."""
        self.half_open.pop(index, None)
        session = self.by_index.get(index)
        if session is not None and not session.confirmed:
            self._forget(session)

    def half(self, identity: Identity) -> bytes:
        """Our half of the id of the connection with a peer, or of the one that a handshake with it would begin."""
        connection = self.connections.get(identity)
        return self.halves.of(identity) if connection is None else connection.local_half

    def new_index(self) -> int:
        """A receiver index that no session has."""
        while True:
            index = int.from_bytes(self._random(4), "big")
            if index not in self.by_index and index not in self.half_open:
                return index

    def attempt_failed(self, identity: Identity, code: str) -> None:
        # A connection that waited for it in vain is over, too.
        connection = self.connections.get(identity)
        if connection is not None and not connection.live:
            self._lose(connection, StreamCode.CANCELLED, CloseCode.IDLE, code)
        elif connection is not None and connection.session is not None and code != NO_ANSWER:
            self.renewals.refused(connection.session)
        self._owner.emit(HandshakeFailed(identity, code))

    # --- what a session says of itself -------------------------------------------------------------------------------

    def confirmed(self, session: Session, now: float) -> None:
        """The initiator proved its keys: who it is, is next."""
        if session.claims_verified:
            self._verified(now, session)
            return
        self.unverified[session.local_index] = session
        while len(self.unverified) > limits.UNVERIFIED_LIMIT:
            self._forget(next(iter(self.unverified.values())))
        session.request_log()

    def log_received(self, session: Session, raw: bytes, now: float) -> None:
        """The peer sent its log. Raises VerifyError or ParseError."""
        log = self._owner.handshakes.verify_log(now, session, raw)
        if log.identity != session.peer:
            raise ParseError("the log of another identity")
        log = self._owner.keyring.add(log)
        self._owner.keyring.check_chain(session.payload, log, self._owner.wall())
        self._owner.emit(LogLearnt(log))
        if not session.verified:
            self._verified(now, session)
        self.reconsider(log.identity)

    def stalled(self, session: Session, now: float) -> None:
        connection = session.connection
        if connection is None or connection.session is not session:
            return
        for other in self.of(connection):
            if not other.paths.stalled:
                # The other session of a crossing, which the peer may have to use.
                other.retire_at = None
                connection.rebind(other)
                session.abandon()
                session.retire(now)
                return
        connection.stalled_at = now
        self._owner.emit(ConnectionStalled(connection))

    def worn(self, session: Session) -> None:
        """Its epochs or path ids run out: another session should take over soon."""
        self.renewals.want(session)

    def ended(self, session: Session, now: float, code: int, reason: str, *, by_peer: bool) -> None:
        if not by_peer:
            # Also for a superseded session: if the peer still sends on it, it moves to the other one now.
            self._say_close(now, session, code, reason)
        self._forget(session)
        connection = session.connection
        if connection is None:
            if code in (CloseCode.PROTOCOL, CloseCode.NOT_VERIFIED):
                self._owner.handshakes.refused(session, reason or "not-verified")
            return
        if connection.closed:
            return
        if by_peer and code in (CloseCode.DONE, CloseCode.SHUTDOWN):
            # The connection is over, and so is any other session of it: the peer may have had this one only.
            connection.session = None
            for other in self.of(connection):
                self._forget(other)
                other.abandon()
        elif connection.session is session:
            others = self.of(connection)
            connection.session = None
            if others:
                newest = max(others, key=lambda other: other.created)
                newest.retire_at = None
                connection.rebind(newest)
        session.abandon()
        if connection.session is not None:
            return
        if code in (CloseCode.IDLE, CloseCode.SUPERSEDED):
            if connection.keepalive is not None or connection.has_output:
                connection.wake()  # without keys that says that it is stalled: somebody wants it
            return
        not_verified = code == CloseCode.NOT_VERIFIED
        self._lose(connection, StreamCode.NOT_VERIFIED if not_verified else StreamCode.LOST_STATE, code, reason)

    # --- commands ----------------------------------------------------------------------------------------------------

    def close(self, now: float, connection: Connection, code: int, reason: str = "") -> None:
        """Ends a connection and tells the peer (once, unreliably)."""
        self._owner.handshakes.cancel(connection.peer)
        for session in self.of(connection):
            self._say_close(now, session, code, reason)
            self._forget(session)
        self._lose(connection, StreamCode.CANCELLED)

    def reconsider(self, identity: Identity) -> None:
        """Something new is known of the keys of an identity: does what its present session was built on still hold?"""
        connection = self.connections.get(identity)
        session = connection.session if connection is not None else None
        if session is not None:
            standing = self._owner.keyring.standing(session.payload)
            if standing != "holds":
                self.renewals.doubt(session, revoked=standing == "revoked")

    def renew(self, now: float) -> None:
        """New handshakes beside the sessions that need one, over all of their paths; ends what is not renewed."""
        for session, what in self.renewals.due(now):
            connection = session.connection
            if what == "end":
                self.ended(session, now, CloseCode.NOT_VERIFIED, "not-verified", by_peer=False)
            elif connection is not None and connection.session is session and connection.stalled_at is None:
                routes = [path.route for path in session.paths]
                target = Target(session.peer, session.certified_key)
                self._owner.handshakes.connect(now, target, connection.local_half, routes)

    def lose_idle(self, now: float) -> None:
        """Connections that had no keys for a day."""
        for connection in list(self.connections.values()):
            used = max(connection.last_used, connection.created)
            if connection.session is None and now - used > limits.CONNECTION_LIFE_SECONDS:
                self._lose(connection, StreamCode.LOST_STATE, CloseCode.IDLE, "no keys for a day")

    # --- which session carries a connection --------------------------------------------------------------------------

    def _verified(self, now: float, session: Session) -> None:
        """The peer is who it says: from here on it counts, not before."""
        self.unverified.pop(session.local_index, None)
        self._owner.handshakes.verified(session)
        self._bind(now, session)
        connection = session.connection
        if connection is None:
            return
        payload = session.payload
        self.renewals.watch(now, session, (self._owner.keyring.until_us(payload) - self._owner.wall()) / 1e6)
        if session.own_certificate != self._owner.credentials.current.certificate.raw:
            self.renewals.want_all(now, [session])
        if not connection.admitted and not self._owner.keyring.is_pinned(session.peer):
            self.strangers.setdefault(connection)
        resumed, connection.live = connection.live, True
        self._owner.emit(ConnectionLive(connection, resumed))
        session.set_verified()
        self._owner.emit(PathsChanged(connection))

    def _bind(self, now: float, session: Session) -> None:
        """A session with a verified peer meets its connection (PROTOCOL 12, 19)."""
        identity = session.peer
        connection = self.connections.get(identity)
        if connection is not None and connection.remote_half not in (None, session.payload.half):
            for old in self.of(connection):
                self._forget(old)
            self._lose(
                connection, StreamCode.LOST_STATE, CloseCode.LOST_STATE, "the peer lost its state", successor=session
            )
            connection = None
        if connection is None:
            connection = self.new_connection(now, identity, session.local_half)
        elif connection.local_half != session.local_half:
            # Accepted before the connection began: the peer may send on another session.
            self._say_close(now, session, CloseCode.SUPERSEDED, "")
            self._forget(session)
            return
        connection.remote_half = session.payload.half
        session.connection = connection
        self._owner.handshakes.cancel(identity)
        old_session = connection.session
        if old_session is None or old_session.ended or not self._keep_sending_on(old_session, session):
            stalled = connection.stalled_at is not None
            connection.rebind(session)
            if old_session is not None and not old_session.ended:
                if stalled:
                    # The peer may not know, and hold on to it: it is told, on the way that works.
                    self._owner.send(session.active.route, old_session.close(CloseCode.SUPERSEDED, ""))
                    self._forget(old_session)
                    old_session.abandon()
                else:
                    session.paths.inherit(now, [path.route for path in old_session.paths])
                    old_session.retire(now)
                    self._schedule.touch(old_session)
        else:
            session.retire(now)
        sessions = self.of(connection)
        if len(sessions) > limits.SESSIONS_OF_A_PEER:
            oldest = next(each for each in sessions if each is not connection.session)
            self.ended(oldest, now, CloseCode.SUPERSEDED, "", by_peer=False)

    def _keep_sending_on(self, old: Session, new: Session) -> bool:
        """Whether a connection stays on `old` although `new` is there. Both sides must come to the same answer.

        When two opens cross, it is the one that the lower identity initiated. Otherwise it is the later handshake,
        which need not be the one whose peer was verified last. Only a session that does not answer gives way to any
        that does.
        """
        if old.connection is None or old.connection.stalled_at is not None:
            return False
        if old.initiator == new.initiator:
            if new.initiator:
                return new.created < old.created
            return new.payload.timestamp < old.payload.timestamp
        if abs(new.created - old.created) < _CROSSING_SECONDS:
            return old.initiator == (self._owner.credentials.identity < new.peer)
        return new.created < old.created

    # --- beginnings and ends -----------------------------------------------------------------------------------------

    def new_session(
        self,
        now: float,
        established: Established,
        local_half: bytes,
        verified: bool,
        route: Route,
        *,
        initiator: bool,
    ) -> Session:
        epochs = Epochs(
            initiator=initiator,
            keys=established.keys,
            chaining_key=established.chaining_key,
            handshake_hash=established.handshake_hash,
            random=self._random,
            encapsulate=self._encapsulate,
            now=now,
            lifetimes=self._lifetimes,
        )
        session = Session(
            self._owner,
            initiator=initiator,
            local_index=established.local_index,
            peer_index=established.peer_index,
            epochs=epochs,
            payload=established.payload,
            local_half=local_half,
            certified_key=established.certified_key,
            own_certificate=established.own_certificate,
            claims_verified=verified,
            route=route,
            now=now,
        )
        self.by_index[established.local_index] = session
        self.by_peer.setdefault(session.peer, []).append(session)
        return session

    def new_connection(self, now: float, identity: Identity, half: bytes) -> Connection:
        if len(self.strangers) >= limits.STRANGER_CONNECTIONS:
            self._close_stranger(now)
        owner = self._owner
        connection = Connection(owner.identity, identity, half, owner.emit, clock=owner.clock, budget=self._budget)
        connection.created = now
        self.connections[identity] = connection
        return connection

    def _close_stranger(self, now: float) -> None:
        """Makes room: whoever is a stranger no longer is not counted any more, or else the oldest has to go."""
        for connection in list(self.strangers):
            if connection.admitted or self._owner.keyring.is_pinned(connection.peer):
                del self.strangers[connection]
            elif not self._owner.handshakes.trying(connection.peer):
                self.close(now, connection, CloseCode.IDLE)
            if len(self.strangers) < limits.STRANGER_CONNECTIONS:
                return

    def of(self, connection: Connection) -> list[Session]:
        return [session for session in self.by_peer.get(connection.peer, ()) if session.connection is connection]

    def _forget(self, session: Session) -> None:
        session.ended = True
        session.paths.proving.guessing.stop(self._owner.now)
        session.epochs.forget()
        if self.by_index.pop(session.local_index, None) is not None:
            others = self.by_peer[session.peer]
            others.remove(session)
            if not others:
                del self.by_peer[session.peer]
        self.unverified.pop(session.local_index, None)
        self.renewals.forget(session)

    def _lose(
        self,
        connection: Connection,
        stream_code: int,
        code: int = 0,
        reason: str = "",
        *,
        successor: Session | None = None,
    ) -> None:
        """The connection is over: its streams end, and its half of the id is never used again.

        So handshakes under way that carry this half end, too: the peer would take them for more of the same connection.
        `successor` may go on, because its peer has another half and so knows that this is another connection.
        """
        if connection.closed:
            return
        for session in list(self.by_peer.get(connection.peer, ())):
            same_half = session.local_half == connection.local_half
            if session.connection is None and same_half and session is not successor:
                self._forget(session)
        for index, (_, accepted, _) in list(self.half_open.items()):
            same_half = accepted.local_half == connection.local_half
            if same_half and accepted.established.payload.identity == connection.peer:
                del self.half_open[index]
        self.halves.end(connection.peer)
        if self.connections.get(connection.peer) is connection:
            del self.connections[connection.peer]
        self.strangers.pop(connection, None)
        self._owner.take_back_ports(connection)
        connection.lose(stream_code)
        if self._owner.relay is not None:
            self._owner.relay.forget(connection)
        self._owner.emit(ConnectionClosed(connection, code, reason))

    def _say_close(self, now: float, session: Session, code: int, reason: str) -> None:
        if session.confirmed and not session.ended:
            self._owner.send(session.active.route, session.close(code, reason))
