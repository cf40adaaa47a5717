"""All of the core, seen from outside: trains in, trains and one deadline out, events in between.

::

    endpoint.receive(now, view, segment, local, remote)     # for every train that arrived
    for event in endpoint.events(): ...                     # commands may be called here
    while (train := endpoint.transmit(now, out)): ...       # `out` is lent
    wait until endpoint.deadline(), then endpoint.expire(now)

`now` is seconds on a clock that never goes back. `wall` gives microseconds since the epoch, `random` bytes for keys.
No call raises for anything that came from the network.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from covey.base.errors import CoveyError, ParseError, StateError
from covey.base.types import Endpoint as Address
from covey.base.types import Identity
from covey.core import limits
from covey.core.connection import Connection
from covey.core.epochs import Epochs
from covey.core.events import (
    ConnectionClosed,
    ConnectionLive,
    ConnectionStalled,
    Event,
    HandshakeConfirmed,
    HandshakeFailed,
    LogLearnt,
    PathsChanged,
    RecordReceived,
)
from covey.core.halves import Halves
from covey.core.handshake import Attempt, Established, HalfOpenTable, Target, matching_key
from covey.core.keyring import Keyring
from covey.core.path import Route
from covey.core.relay import RelayTable
from covey.core.schedule import Schedule
from covey.core.sender import Train
from covey.core.session import CloseCode, Session
from covey.core.stream import StreamCode
from covey.crypto.credentials import Credentials
from covey.crypto.events import KeyLog
from covey.crypto.keys import TransportKey
from covey.crypto.mac import mac1, mac1_key, same
from covey.crypto.ratchet import Encapsulate, encapsulate
from covey.wire.control import Candidate
from covey.wire.datagram import (
    INITIATION,
    PACKET,
    PACKET_OVERHEAD,
    RECORD_REQUEST,
    RECORD_RESPONSE,
    RELAY_HEADER,
    RELAY_HEADER_SIZE,
    RELAYED,
    RESPONSE,
    Initiation,
    RecordRequest,
    RecordResponse,
    Response,
)

__all__ = ["Endpoint"]

_QUEUE_LIMIT = 1024
"""Single datagrams (handshakes, records) waiting to leave."""
_REQUESTS_LIMIT = 256
_HOUSEKEEPING_SECONDS = 60.0
_CROSSING_SECONDS = limits.HANDSHAKE_GIVE_UP
"""Two handshakes from both sides within this time are a simultaneous open, not a renewal: as long as attempts last."""


class Endpoint:
    """One agent's end of the network. See the module's text for the calls."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        wall: Callable[[], int],
        random: Callable[[int], bytes],
        encapsulate: Encapsulate = encapsulate,
    ) -> None:
        self.credentials = credentials
        self.scratch = bytearray(65_536)
        self.record = b""
        """Our signed record, served to whoever asks with our identity; b"" for none."""
        self.relay: RelayTable | None = None
        """Set to relay for others."""
        self.relays: set[Address] = set()
        """Endpoints of relays we use: relayed datagrams from anywhere else are dropped."""
        self.connections: dict[Identity, Connection] = {}
        self.keyring = Keyring(self.connections)
        self.last_timestamp = 0
        """Timestamp of our newest initiation; persist it, it may never go back."""
        self.timestamps: dict[tuple[Identity, bytes], int] = {}
        """Replay state of pinned peers: the newest confirmed timestamp per (identity, transport key)."""
        self._wall = wall
        self._random = random
        self._encapsulate = encapsulate
        self._halves = Halves(random(32))
        self._sessions: dict[int, Session] = {}
        self._half_open = HalfOpenTable()
        self._unverified: OrderedDict[int, Session] = OrderedDict()
        self._attempts: dict[Identity, Attempt] = {}
        self._ready: deque[Session] = deque()
        self._queue: deque[tuple[Route, bytes]] = deque()
        self._requests: OrderedDict[bytes, Identity] = OrderedDict()
        self._events: deque[Event] = deque()
        self._schedule = Schedule()
        self._candidates: tuple[Candidate, ...] = ()
        self._ports: tuple[tuple[int, int], ...] = ()
        self._housekeeping_at: float | None = None

    # --- I/O -----------------------------------------------------------------------------------------------------

    def receive(self, now: float, view: memoryview, segment: int, local: int, remote: Address) -> None:
        """A train arrived on port `local`: datagrams of `segment` bytes, the last may be shorter."""
        size = len(view)
        start = 0
        while start < size:
            kind = view[start]
            if kind == RELAYED:
                start = self._receive_relayed(now, view, start, segment, local, remote)
            else:
                start = self._receive_run(now, view, start, size, segment, Route(local, remote))
        self._settle(now)

    def transmit(self, now: float, out: memoryview) -> Train | None:
        """The next train, written into `out`; None if nothing may leave now."""
        train = self._transmit_queued(out)
        if train is not None:
            return train
        ready = self._ready
        while ready:
            session = ready[0]
            train = None if session.ended else session.transmit(now, out)
            if train is not None:
                ready.rotate(-1)
                return train
            ready.popleft()
            session.in_ready = False
            self._schedule.touch(session)
        self._settle(now)
        # A session that ended in the loop has left a last word.
        return self._transmit_queued(out) if self._queue else None

    @property
    def pending(self) -> bool:
        """Handshakes, records and last words wait to leave, whatever any window says."""
        return bool(self._queue)

    def deadline(self) -> float | None:
        """When `expire` is due, seconds; None for never."""
        times = [attempt.retry_at for attempt in self._attempts.values()]
        half_open = self._half_open.deadline()
        if half_open is not None:
            times.append(half_open)
        if self._housekeeping_at is not None:
            times.append(self._housekeeping_at)
        scheduled = self._schedule.next()
        if scheduled is not None:
            times.append(scheduled)
        return min(times, default=None)

    def expire(self, now: float) -> None:
        """Acts on every deadline that has passed."""
        for session in self._schedule.due(now):
            session.expire(now)
        for attempt in list(self._attempts.values()):
            if attempt.retry_at <= now:
                self._retry(now, attempt)
        for index in self._half_open.expire(now):
            self._drop_unconfirmed(index)
        if self._housekeeping_at is None or now >= self._housekeeping_at:
            self._housekeep(now)
        self._settle(now)

    def events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events = list(self._events)
        self._events.clear()
        return events

    # --- commands ------------------------------------------------------------------------------------------------

    def set_ports(self, ports: Sequence[tuple[int, int]]) -> None:
        """The local ports as (index, address family 4 or 6)."""
        self._ports = tuple(ports)

    def set_candidates(self, candidates: Sequence[Candidate]) -> None:
        """Where we may be reached directly. Peers with whom candidates are exchanged are told."""
        if tuple(candidates) == self._candidates:
            return
        self._candidates = tuple(candidates)
        for connection in self.connections.values():
            if connection.session is not None:
                connection.session.exchange_candidates()

    def add_log(self, log: KeyLog) -> None:
        """A verified log, merged with what is known. `LogLearnt` follows if that shows that the identity forked."""
        known = self.keyring.log_of(log.identity)
        chosen = self.keyring.add(log)
        if chosen.forked and not (known is not None and known.forked):
            self.emit(LogLearnt(chosen))

    def log_of(self, identity: Identity) -> KeyLog | None:
        return self.keyring.log_of(identity)

    def pin(self, identity: Identity, *, pinned: bool = True) -> None:
        """A trusted peer: its log is kept and its handshakes' timestamps are remembered."""
        self.keyring.pin(identity, pinned=pinned)

    def connect(self, now: float, target: Target, routes: Sequence[Route]) -> Connection:
        """Makes sure a handshake with `target` is under way over `routes`, unless a live session exists.

        Returns the connection at once; `ConnectionLive` or `HandshakeFailed` follows. Streams may be opened on it
        before that: they wait. Calling it again adds routes.
        """
        if target.identity == self.credentials.identity:
            raise StateError("this is ourselves", code="self")
        connection = self.connections.get(target.identity)
        if connection is None:
            connection = self._new_connection(now, target.identity, self._half(target.identity))
        session = connection.session
        if session is not None and connection.stalled_at is None:
            return connection
        attempt = self._attempts.get(target.identity)
        if attempt is not None and attempt.target == target:
            fresh = [route for route in routes if route not in attempt.routes]
            attempt.routes += fresh
            for route in fresh:
                self._send(route, attempt.datagram)
            return connection
        attempt = Attempt(target, connection.local_half, list(routes), now, now)
        self._attempts[target.identity] = attempt
        self._retry(now, attempt)
        return connection

    def request_record(self, identity: Identity, route: Route) -> None:
        """Asks whoever is at `route` for the record of `identity`, once; `RecordReceived` may follow."""
        nonce = self._random(8)
        self._requests[nonce] = identity
        while len(self._requests) > _REQUESTS_LIMIT:
            self._requests.popitem(last=False)
        prefix = RecordRequest.prefix(nonce, identity)
        self._send(route, RecordRequest.complete(prefix, mac1(mac1_key(identity), prefix)))

    def close(self, now: float, connection: Connection, code: int = CloseCode.DONE, reason: str = "") -> None:
        """Ends a connection and tells the peer (once, unreliably: a peer that misses it finds out by itself)."""
        self._attempts.pop(connection.peer, None)
        for session in self._sessions_of(connection):
            self._say_close(now, session, code, reason)
            self._forget(session)
        self._lose(connection, StreamCode.CANCELLED)

    # --- SessionOwner --------------------------------------------------------------------------------------------

    def random(self, size: int) -> bytes:
        return self._random(size)

    def emit(self, event: Event) -> None:
        self._events.append(event)

    def candidates(self) -> Sequence[Candidate]:
        return self._candidates

    def port_families(self) -> Sequence[tuple[int, int]]:
        return self._ports

    def own_log(self) -> bytes:
        return self.credentials.log.raw

    def session_ready(self, session: Session) -> None:
        session.in_ready = True
        self._ready.append(session)

    def session_confirmed(self, session: Session, now: float) -> None:
        if session.claims_verified:
            self._verified(now, session)
            return
        self._unverified[session.local_index] = session
        while len(self._unverified) > limits.UNVERIFIED_LIMIT:
            self._forget(next(iter(self._unverified.values())))
        session.request_log()

    def session_log(self, session: Session, raw: bytes, now: float) -> None:
        log = KeyLog.parse(raw)
        if log.identity != session.peer:
            raise ParseError("the log of another identity")
        log = self.keyring.add(log)
        self.keyring.check_chain(session.payload, log, self._wall())
        self.emit(LogLearnt(log))
        if not session.verified:
            self._verified(now, session)

    def session_stalled(self, session: Session, now: float) -> None:
        connection = session.connection
        if connection is None or connection.session is not session:
            return
        for other in self._sessions_of(connection):
            if not other.paths.stalled:
                # The other session of a crossing, which the peer may have to use.
                other.retire_at = None
                connection.rebind(other)
                session.abandon()
                session.retire(now)
                return
        connection.stalled_at = now
        self.emit(ConnectionStalled(connection))

    def relay_suspected(self, relay: Address) -> None:
        # A relay forwards only what comes from where it last heard of us: a packet of our own session with it tells it.
        for connection in self.connections.values():
            session = connection.session
            if session is not None and not session.active.route.relayed and session.active.route.remote == relay:
                session.keep_alive()

    def session_ended(self, session: Session, now: float, code: int, reason: str, *, by_peer: bool) -> None:
        if not by_peer:
            # Also for a superseded session: if the peer still sends on it, it moves to the other one now.
            self._say_close(now, session, code, reason)
        self._forget(session)
        connection = session.connection
        if connection is None:
            attempt = self._attempts.get(session.peer)
            refused = code in (CloseCode.PROTOCOL, CloseCode.NOT_VERIFIED)
            if refused and attempt is not None and attempt.session is session:
                self._fail(session.peer, reason or "not-verified")
            return
        if connection.closed:
            return
        if by_peer and code in (CloseCode.DONE, CloseCode.SHUTDOWN):
            # The connection is over, and so is any other session of it: the peer may have had this one only.
            connection.session = None
            for other in self._sessions_of(connection):
                self._forget(other)
                other.abandon()
        elif connection.session is session:
            others = self._sessions_of(connection)
            connection.session = None
            if others:
                newest = max(others, key=lambda other: other.created)
                newest.retire_at = None
                connection.rebind(newest)
        session.abandon()
        if connection.session is not None or code in (CloseCode.IDLE, CloseCode.SUPERSEDED):
            return
        self._lose(connection, StreamCode.LOST_STATE, code, reason)

    # --- receiving -----------------------------------------------------------------------------------------------

    def _receive_relayed(
        self, now: float, view: memoryview, start: int, segment: int, local: int, remote: Address
    ) -> int:
        """A run of relayed datagrams with one circuit: forwarded, or taken if it is for us. Returns its end."""
        size = len(view)
        if size - start <= RELAY_HEADER_SIZE or segment <= RELAY_HEADER_SIZE:
            return start + segment
        head = view[start : start + RELAY_HEADER_SIZE]
        stop = min(start + segment, size)
        while stop < size and view[stop : stop + RELAY_HEADER_SIZE] == head:
            stop = min(stop + segment, size)
        circuit = RELAY_HEADER.unpack(head)[3]
        if self.relay is not None and self.relay.receive(now, view, segment, local, remote, start, stop):
            return stop
        if remote not in self.relays or circuit == 0:
            return stop
        route = Route(local, remote, circuit)
        inner = start
        while inner < stop:
            inner = self._receive_run(now, view, inner, stop, segment, route)
        return stop

    def _receive_run(self, now: float, view: memoryview, start: int, end: int, segment: int, route: Route) -> int:
        """From `start`, the datagrams that belong to one session, or one other datagram. Returns its end."""
        outer = route.outer
        head = start + outer
        stop = min(start + segment, end)
        if stop - head < 2:
            return stop
        if view[head] != PACKET:
            self._receive_single(now, view[head:stop], route)
            return stop
        if stop - head < PACKET_OVERHEAD:
            return stop
        index = bytes(view[head + 4 : head + 8])
        while (
            stop < end
            and end - stop >= outer + PACKET_OVERHEAD
            and view[stop + outer] == PACKET
            and view[stop + outer + 4 : stop + outer + 8] == index
        ):
            stop = min(stop + segment, end)
        session = self._sessions.get(int.from_bytes(index, "big"))
        if session is not None:
            session.receive(now, view, start, stop, segment, route)
            self._schedule.touch(session)
            if not session.ended and session.has_output(now):
                session.wake()
        return stop

    def _receive_single(self, now: float, datagram: memoryview, route: Route) -> None:
        """Anything but a packet. Whatever is wrong with it: silence."""
        try:
            kind = datagram[0]
            if kind == INITIATION:
                self._on_initiation(now, datagram, route)
            elif kind == RESPONSE:
                self._on_response(now, Response.parse(datagram), route)
            elif kind == RECORD_REQUEST:
                self._on_record_request(RecordRequest.parse(datagram), route)
            elif kind == RECORD_RESPONSE:
                response = RecordResponse.parse(datagram)
                identity = self._requests.pop(response.nonce, None)
                if identity is not None:
                    self.emit(RecordReceived(identity, response.record, response.log))
        except CoveyError:
            return

    def _on_initiation(self, now: float, datagram: memoryview, route: Route) -> None:
        message = Initiation.parse(datagram)
        pair = matching_key(self.credentials, message)
        if pair is None:
            return
        raw = bytes(datagram)
        repeated = self._half_open.repeated(raw)
        if repeated is not None:
            self._send(route, repeated)
            return
        index = self._new_index()
        accepted = self._half_open.accept(
            now,
            self._wall(),
            message,
            pair,
            self.credentials,
            self._half,
            self.keyring.check,
            lambda identity, key: self.timestamps.get((identity, key), -1),
            TransportKey(self._random(32)),
            index,
        )
        for gone in self._half_open.remember(now, raw, accepted):
            self._drop_unconfirmed(gone)
        self._new_session(now, accepted.established, accepted.local_half, accepted.verified, route, initiator=False)
        self._send(route, accepted.response)

    def _on_response(self, now: float, response: Response, route: Route) -> None:
        for attempt in self._attempts.values():
            if any(index == response.receiver_index for index, _ in attempt.tries):
                break
        else:
            return
        established = attempt.accept(response)
        identity = attempt.target.identity
        try:
            verified = self.keyring.check(established.payload, established.certified_key, self._wall())
        except CoveyError as error:
            # It proved the key we looked for and still contradicts itself: trying again would not help.
            self._fail(identity, error.code)
            return
        session = self._new_session(now, established, attempt.half, verified, route, initiator=True)
        attempt.answered(now, session)
        session.start_ratchet()
        self.session_confirmed(session, now)

    def _on_record_request(self, request: RecordRequest, route: Route) -> None:
        identity = self.credentials.identity
        if request.identity != identity or not self.record:
            return
        if not same(mac1(mac1_key(identity), request.authenticated), request.mac1):
            return
        self._send(route, RecordResponse(request.nonce, self.record, self.own_log()).encode())

    # --- sessions and connections --------------------------------------------------------------------------------

    def _new_index(self) -> int:
        while True:
            index = int.from_bytes(self._random(4), "big")
            if index not in self._sessions:
                return index

    def _new_session(
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
        )
        session = Session(
            self,
            initiator=initiator,
            local_index=established.local_index,
            peer_index=established.peer_index,
            epochs=epochs,
            payload=established.payload,
            local_half=local_half,
            certified_key=established.certified_key,
            claims_verified=verified,
            route=route,
            now=now,
        )
        self._sessions[established.local_index] = session
        return session

    def _bind(self, now: float, session: Session) -> None:
        """A session with a verified peer meets its connection (PROTOCOL 12, 19)."""
        identity = session.peer
        connection = self.connections.get(identity)
        if connection is not None and connection.remote_half not in (None, session.payload.half):
            for old in self._sessions_of(connection):
                self._forget(old)
            self._lose(
                connection, StreamCode.LOST_STATE, CloseCode.LOST_STATE, "the peer lost its state", successor=session
            )
            connection = None
        if connection is None:
            connection = self._new_connection(now, identity, session.local_half)
        elif connection.local_half != session.local_half:
            # Accepted before the connection began: the peer may send on another session.
            self._say_close(now, session, CloseCode.SUPERSEDED, "")
            self._forget(session)
            return
        connection.remote_half = session.payload.half
        session.connection = connection
        self._attempts.pop(identity, None)
        old_session = connection.session
        if old_session is None or old_session.ended or not self._keep_sending_on(old_session, session):
            stalled = connection.stalled_at is not None
            connection.rebind(session)
            if old_session is not None and not old_session.ended:
                if stalled:
                    # The peer may not know, and hold on to it: it is told, on the way that works.
                    self._send(session.active.route, old_session.close(CloseCode.SUPERSEDED, ""))
                    self._forget(old_session)
                    old_session.abandon()
                else:
                    old_session.retire(now)
                    self._schedule.touch(old_session)
        else:
            session.retire(now)

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
            return old.initiator == (self.credentials.identity < new.peer)
        return new.created < old.created

    def _verified(self, now: float, session: Session) -> None:
        """The peer is who it says: from here on it counts, not before."""
        self._unverified.pop(session.local_index, None)
        if self.keyring.is_pinned(session.peer) and not session.initiator:
            key = (session.peer, session.certified_key)
            timestamp = max(session.payload.timestamp, self.timestamps.get(key, 0))
            self.timestamps[key] = timestamp
            self.emit(HandshakeConfirmed(session.peer, session.certified_key, timestamp))
        self._bind(now, session)
        connection = session.connection
        if connection is None:
            return
        resumed, connection.live = connection.live, True
        self.emit(ConnectionLive(connection, resumed))
        session.set_verified()
        self.emit(PathsChanged(connection))

    def _new_connection(self, now: float, identity: Identity, half: bytes) -> Connection:
        strangers = [
            each
            for each in self.connections.values()
            if not each.admitted and each.peer not in self._attempts and not self.keyring.is_pinned(each.peer)
        ]
        if len(strangers) >= limits.STRANGER_CONNECTIONS:
            self.close(now, min(strangers, key=lambda each: each.created), CloseCode.IDLE)
        connection = Connection(self.credentials.identity, identity, half, self.emit)
        connection.created = now
        self.connections[identity] = connection
        return connection

    def _half(self, identity: Identity) -> bytes:
        """Our half of the id of the connection with a peer, or of the one that a handshake with it would begin."""
        connection = self.connections.get(identity)
        return self._halves.of(identity) if connection is None else connection.local_half

    def _sessions_of(self, connection: Connection) -> list[Session]:
        return [session for session in self._sessions.values() if session.connection is connection]

    def _drop_unconfirmed(self, index: int) -> None:
        session = self._sessions.get(index)
        if session is not None and not session.confirmed:
            self._forget(session)

    def _forget(self, session: Session) -> None:
        session.ended = True
        self._sessions.pop(session.local_index, None)
        self._unverified.pop(session.local_index, None)

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
        for session in list(self._sessions.values()):
            same_half = session.peer == connection.peer and session.local_half == connection.local_half
            if session.connection is None and same_half and session is not successor:
                self._forget(session)
        self._halves.end(connection.peer)
        if self.connections.get(connection.peer) is connection:
            del self.connections[connection.peer]
        connection.lose(stream_code)
        if self.relay is not None:
            self.relay.forget(connection)
        self.emit(ConnectionClosed(connection, code, reason))

    def _say_close(self, now: float, session: Session, code: int, reason: str) -> None:
        if session.confirmed and not session.ended:
            self._send(session.active.route, session.close(code, reason))

    def _retry(self, now: float, attempt: Attempt) -> None:
        if now - attempt.started >= limits.HANDSHAKE_GIVE_UP:
            self._fail(attempt.target.identity, "no-answer")
            return
        self.last_timestamp = max(self._wall(), self.last_timestamp + 1)
        datagram = attempt.initiate(
            now, self.credentials, TransportKey(self._random(32)), self._new_index(), self.last_timestamp
        )
        for route in attempt.routes:
            self._send(route, datagram)

    def _fail(self, identity: Identity, code: str) -> None:
        """The attempt is over. A connection that waited for it in vain is, too."""
        del self._attempts[identity]
        connection = self.connections.get(identity)
        if connection is not None and not connection.live:
            self._lose(connection, StreamCode.CANCELLED, CloseCode.IDLE, code)
        self.emit(HandshakeFailed(identity, code))

    def _housekeep(self, now: float) -> None:
        self._housekeeping_at = now + _HOUSEKEEPING_SECONDS
        if self.relay is not None:
            self.relay.expire(now)
        for connection in list(self.connections.values()):
            used = max(connection.last_used, connection.created)
            if connection.session is None and now - used > limits.CONNECTION_LIFE_SECONDS:
                self._lose(connection, StreamCode.LOST_STATE, CloseCode.IDLE, "no keys for a day")

    # --- sending -------------------------------------------------------------------------------------------------

    def _send(self, route: Route, datagram: bytes) -> None:
        if route.circuit:
            datagram = RELAY_HEADER.pack(RELAYED, 0, 0, route.circuit) + datagram
        if len(self._queue) < _QUEUE_LIMIT:
            self._queue.append((route, datagram))

    def _transmit_queued(self, out: memoryview) -> Train | None:
        if self._queue:
            route, datagram = self._queue.popleft()
            size = len(datagram)
            out[:size] = datagram
            return Train(route.local, route.remote, size, size)
        if self.relay is not None:
            forward = self.relay.next()
            if forward is not None:
                size = len(forward.data)
                out[:size] = forward.data
                return Train(forward.route.local, forward.route.remote, size, min(forward.segment, size))
        return None

    def _settle(self, now: float) -> None:
        self._schedule.settle(len(self._sessions))
        if self._housekeeping_at is None:
            self._housekeeping_at = now + _HOUSEKEEPING_SECONDS
