"""All of the core, seen from outside: trains in, trains and one deadline out, events in between.

::

    endpoint.receive(now, view, segment, local, remote)     # for every train that arrived
    for event in endpoint.events(): ...                     # commands may be called here
    while (train := endpoint.transmit(now, out)): ...       # `out` is lent
    wait until endpoint.deadline(), then endpoint.expire(now)

`now` is seconds on a clock that never goes back. `wall` gives microseconds since the epoch, `random` bytes for keys;
`clock` seconds, to see how long work for strangers takes: one that stands still means that estimates do (`backlog.py`).
No call raises for anything that came from the network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from covey.base.errors import StateError
from covey.base.types import CongestionControl, Identity
from covey.base.types import Endpoint as Address
from covey.core import limits
from covey.core.birthday import Runs
from covey.core.congestion import Congestion, controller
from covey.core.connection import Connection
from covey.core.events import (
    Event,
    LogLearnt,
    PortsUnused,
)
from covey.core.handshake import Target
from covey.core.handshakes import Handshakes
from covey.core.introduction import Introduction
from covey.core.keyring import Keyring
from covey.core.lent_ports import LentPorts
from covey.core.mirror import Mirror, Reflections
from covey.core.path import Route
from covey.core.relay import RelayTable
from covey.core.relays_used import RelaysUsed
from covey.core.schedule import Schedule
from covey.core.sender import Train
from covey.core.session import CloseCode, Session
from covey.core.sessions import Sessions
from covey.core.trains import RUN_MINIMUM, TrainOpener, TrainSealer, numbers
from covey.crypto.credentials import Credentials
from covey.crypto.events import KeyLog
from covey.crypto.ratchet import Encapsulate, encapsulate
from covey.wire.control import CANDIDATES_LIMIT, Candidate, Candidates, NatTraits
from covey.wire.datagram import (
    HEADER,
    MIRROR_REQUEST,
    MIRROR_RESPONSE,
    PACKET,
    PACKET_OVERHEAD,
    RELAY_HEADER,
    RELAY_HEADER_SIZE,
    RELAYED,
)
from covey.wire.introduction import INTRODUCTION_KINDS

__all__ = ["Endpoint"]

_unpack_header = HEADER.unpack_from

_QUEUE_LIMIT = 1024
"""Single datagrams (handshakes, records) waiting to leave."""
_HOUSEKEEPING_SECONDS = 60.0
_NOT_MEASURED = NatTraits()


class Endpoint:
    """One agent's end of the network. See the module's text for the calls."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        wall: Callable[[], int],
        random: Callable[[int], bytes],
        encapsulate: Encapsulate = encapsulate,
        lifetimes: limits.Lifetimes = limits.LIFETIMES,
        clock: Callable[[], float] = lambda: 0.0,
        congestion: CongestionControl = "cubic",
    ) -> None:
        self.credentials = credentials
        self.scratch = bytearray(65_536)
        self.sealer = TrainSealer(self.scratch)
        self.opener = TrainOpener()
        self.hurried = False
        """Whether a deadline may be nearer than `net.turn.NEAR_S`, because something unusual happened."""
        self.unread = False
        """Whether `receive` will be called again at once: what we wait for may have arrived already."""
        self.record = b""
        """Our signed record, served to whoever asks with our identity; b"" for none."""
        self.relay: RelayTable | None = None
        """Set to relay for others."""
        self.mirror: Mirror | None = None
        """Set to tell whoever asks where its datagrams come from."""
        self.relays: dict[Address, Identity] = {}
        """Endpoints of relays we use, and whose they are: relayed datagrams from anywhere else are dropped."""
        self.connections: dict[Identity, Connection] = {}
        self.keyring = Keyring(self.connections)
        self.wall = wall
        """Microseconds since the epoch, now."""
        self.clock = clock
        self._random = random
        self.handshakes = Handshakes(self)
        self.introduction = Introduction(self)
        self.reflections = Reflections(random, self.send, self.emit)
        self._schedule = Schedule()
        self.sessions = Sessions(self, self._schedule, random=random, encapsulate=encapsulate, lifetimes=lifetimes)
        self._sessions = self.sessions.by_index
        """At hand for every train."""
        self.relays_used = RelaysUsed(self, self.relays)
        self._congestion = congestion
        self._ready: deque[Session] = deque()
        self._held: dict[int, dict[Session, None]] = {}
        """Ports that take nothing now, and the sessions that wait for them."""
        self._queue: deque[tuple[Route, bytes]] = deque()
        self.dropped = 0
        """Handshakes and records that found no room in the queue. Only grows."""
        self._events: list[Event] = []
        self._candidates = Candidates()
        self._ports: tuple[tuple[int, int], ...] = ()
        self.runs = Runs()
        self._lent = LentPorts()
        self._housekeeping_at: float | None = None
        self.now = 0.0
        """When we were last called, seconds."""

    # --- I/O -----------------------------------------------------------------------------------------------------

    def receive(self, now: float, view: memoryview, segment: int, local: int, remote: Address) -> None:
        """A train arrived on port `local`: datagrams of `segment` bytes, the last may be shorter."""
        self.now = now
        size = len(view)
        if size == segment and size >= PACKET_OVERHEAD:
            kind, path_id, epoch, index, counter = _unpack_header(view)
            if kind == PACKET:
                session = self._sessions.get(index) or self.sessions.opened(index)
                if session is None:
                    return
                if session.receiver.receive_one(now, view, path_id, epoch, counter, local, remote):
                    self._schedule.touch(session)
                    return
        start = 0
        while start < size:
            kind = view[start]
            if kind == RELAYED:
                start = self._receive_relayed(now, view, start, segment, local, remote)
            else:
                start = self._receive_run(now, view, start, size, segment, Route(local, remote))

    def transmit(self, now: float, out: memoryview) -> Train | None:
        """The next train, written into `out`; None if nothing may leave now."""
        train = self._transmit_queued(now, out)
        if train is not None:
            return train
        self.now = now
        ready, held = self._ready, self._held
        while ready:
            session = ready[0]
            if held and session.active.route.local in held and not session.ended:
                ready.popleft()
                session.in_ready = False
                held[session.active.route.local][session] = None
                continue
            train = None if session.ended else session.transmit(now, out)
            if train is not None and not session.sender.drained:
                ready.rotate(-1)
                return train
            ready.popleft()
            session.in_ready = False
            self._schedule.touch(session)
            if train is not None:
                return train
        # A session that ended in the loop has left a last word.
        return self._transmit_queued(now, out) if self._queue else None

    @property
    def pending(self) -> bool:
        """Handshakes, records and last words wait to leave, whatever any window says."""
        return bool(self._queue)

    @property
    def has_output(self) -> bool:
        """Whether `transmit` is worth calling."""
        return bool(self._ready or self._queue or (self.relay is not None and self.relay.pending))

    def deadline(self) -> float:
        """When `expire` is due, seconds."""
        self.hurried = False
        if not self._schedule.settled:
            self._schedule.settle(len(self._sessions), self.now)
        due = self._housekeeping_at
        if due is None:
            due = self._housekeeping_at = self.now + _HOUSEKEEPING_SECONDS
        for at in (
            self.handshakes.deadline(),
            self.introduction.deadline(),
            self.sessions.renewals.deadline(),
            self._schedule.next(),
            None if self.relay is None else self.relay.deadline(),
        ):
            if at is not None and at < due:
                due = at
        return due

    def expire(self, now: float) -> None:
        """Acts on every deadline that has passed."""
        self.now = now
        self._schedule.settle(len(self._sessions), now)
        for session in self._schedule.due(now):
            session.expire(now)
        self.handshakes.expire(now)
        self.introduction.expire(now)
        if self.relay is not None:
            self.relay.release(now)
        self.sessions.renew(now)
        if self._housekeeping_at is None or now >= self._housekeeping_at:
            self._housekeep(now)

    def events(self) -> Sequence[Event]:
        """What happened since the last call, in order."""
        if not self._events:
            return ()
        events, self._events = self._events, []
        return events

    # --- commands ------------------------------------------------------------------------------------------------

    def set_ports(self, ports: Sequence[tuple[int, int]]) -> None:
        """The local ports as (index, address family 4 or 6)."""
        self._ports = tuple(ports)

    def hold(self, port: int) -> None:
        """This port is a connection that is full: sessions whose data goes over it wait, all others go on."""
        self._held.setdefault(port, {})

    def release(self, port: int) -> None:
        """It takes something again."""
        for session in self._held.pop(port, ()):
            session.wake()

    def lose_port(self, now: float, port: int) -> None:
        """This port is gone, and with it every path over it."""
        self.release(port)
        for session in list(self._sessions.values()):
            session.paths.lose_port(now, port)
            self._schedule.touch(session)

    def set_candidates(
        self, candidates: Sequence[Candidate], traits: NatTraits = _NOT_MEASURED, *, consents: bool = False
    ) -> None:
        """Where we may be reached directly, the best first: the first 32 count. What our NAT does, and whether peers
        may look for our port by birthday probing. Peers with whom candidates are exchanged are told.
        """
        own = Candidates(tuple(candidates[:CANDIDATES_LIMIT]), traits, consents)
        if own == self._candidates:
            return
        self._candidates = own
        for connection in self.connections.values():
            if connection.session is not None:
                connection.session.exchange_candidates()

    def network_changed(self, now: float) -> None:
        """Our addresses or routes are others, or the machine has slept: what is in use is asked whether it works.

        Relays hear from us first: they forward only what comes from where they last heard of us.
        """
        connections = [each for each in self.connections.values() if each.session is not None]
        connections.sort(key=lambda connection: connection.keepalive is None)
        for connection in connections:
            wanted = connection.keepalive is not None or connection.in_use(now) or bool(connection.streams)
            if connection.session is not None and wanted:
                connection.session.paths.network_changed(now)

    def lend_ports(self, now: float, connection: Connection, ports: Sequence[int]) -> None:
        """Answers `PortsWanted`: these were opened, perhaps fewer, perhaps none. `PortsUnused` follows in the end."""
        self.now = now
        self._lent.lend(connection, ports)
        session = connection.session
        if session is None or connection.closed:
            self.close_ports(ports)
            return
        self.close_ports(session.paths.proving.guessing.lend(now, ports))
        self._schedule.touch(session)

    def vouch(self, now: float, connection: Connection, host: str) -> None:
        """Answers `AddressInDoubt`: somebody else sees the peer at this address."""
        self.now = now
        session = connection.session
        if session is not None and not connection.closed:
            session.paths.proving.guessing.vouch(now, host)
            self._schedule.touch(session)

    def add_log(self, log: KeyLog) -> None:
        """A verified log, merged with what is known. `LogLearnt` follows if that shows that the identity forked."""
        known = self.keyring.log_of(log.identity)
        chosen = self.keyring.add(log)
        if chosen.forked and not (known is not None and known.forked):
            self.emit(LogLearnt(chosen))
        self.sessions.reconsider(log.identity)

    def saw_delegation(self, identity: Identity, sequence: int, counter: int) -> None:
        """A verified record names this delegation: no lower one is accepted any more (PROTOCOL 2, 3)."""
        self.keyring.saw_delegation(identity, sequence, counter)
        self.sessions.reconsider(identity)

    def adopt(self, now: float, credentials: Credentials) -> None:
        """We speak with other keys or certificates from now on; the peers we are connected with get to know them."""
        self.credentials = credentials
        current = credentials.current.certificate.raw
        sessions = [connection.session for connection in self.connections.values()]
        self.sessions.renewals.want_all(
            now, [session for session in sessions if session is not None and session.own_certificate != current]
        )

    def log_of(self, identity: Identity) -> KeyLog | None:
        return self.keyring.log_of(identity)

    def pin(self, identity: Identity, *, pinned: bool = True) -> None:
        """A trusted peer: its log is kept and its handshakes' timestamps are remembered."""
        self.keyring.pin(identity, pinned=pinned)
        if not pinned:
            self.handshakes.replays.forget(identity)

    def connect(self, now: float, target: Target, routes: Sequence[Route]) -> Connection:
        """Makes sure a handshake with `target` is under way over `routes`, unless a live session exists.

        Returns the connection at once; `ConnectionLive` or `HandshakeFailed` follows. Streams may be opened on it
        before that: they wait. Calling it again adds routes.
        """
        if target.identity == self.credentials.identity:
            raise StateError("this is ourselves", code="self")
        connection = self.connections.get(target.identity)
        if connection is None:
            connection = self.sessions.new_connection(now, target.identity, self.sessions.half(target.identity))
        session = connection.session
        if session is not None and connection.stalled_at is None:
            return connection
        self.handshakes.connect(now, target, connection.local_half, routes)
        return connection

    def offer_routes(self, now: float, connection: Connection, routes: Sequence[Route]) -> None:
        """Further ways to the peer of a live connection: each is proven now, and there when the active one fails."""
        session = connection.session
        if session is not None and session.verified:
            for route in routes:
                session.paths.offer(now, route)

    def request_record(self, identity: Identity, route: Route) -> None:
        """Asks whoever is at `route` for the record of `identity`, once; `RecordReceived` may follow."""
        self.handshakes.request_record(identity, route)

    def ask_where(self, identity: Identity, route: Route) -> None:
        """Asks the rendezvous at `route` where it sees us, once; `Reflected` may follow."""
        self.reflections.ask(identity, route)

    def close(self, now: float, connection: Connection, code: int = CloseCode.DONE, reason: str = "") -> None:
        """Ends a connection and tells the peer (once, unreliably: a peer that misses it finds out by itself)."""
        self.sessions.close(now, connection, code, reason)

    # --- HandshakesOwner, IntroductionOwner, SessionsOwner -----------------------------------------------------------

    def send(self, route: Route, datagram: bytes) -> None:
        """One datagram on its own, sent before all trains."""
        if route.circuit:
            datagram = RELAY_HEADER.pack(RELAYED, 0, 0, route.circuit) + datagram
        if len(self._queue) < _QUEUE_LIMIT:
            self._queue.append((route, datagram))
        else:
            self.dropped += 1

    # --- SessionOwner --------------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        return self.credentials.identity

    def close_ports(self, ports: Sequence[int]) -> None:
        unused = self._lent.give_back(ports)
        if unused:
            self.emit(PortsUnused(tuple(unused)))

    def take_back_ports(self, connection: Connection) -> None:
        unused = self._lent.closed(connection)
        if unused:
            self.emit(PortsUnused(tuple(unused)))

    def random(self, size: int) -> bytes:
        return self._random(size)

    def emit(self, event: Event) -> None:
        self._events.append(event)

    def new_congestion(self) -> Congestion:
        return controller(self._congestion, limits.INITIAL_MTU, self._random)

    def candidates(self) -> Candidates:
        return self._candidates

    def port_families(self) -> Sequence[tuple[int, int]]:
        return self._ports

    def own_log(self) -> bytes:
        return self.credentials.log.raw

    def session_ready(self, session: Session) -> None:
        session.in_ready = True
        connection = session.connection
        if self._ready and connection is not None and connection.ready.only_interactive:
            self._ready.appendleft(session)  # it does not wait for a train of everybody who sends bulk
        else:
            self._ready.append(session)

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
        count = (size - start) // segment
        if count >= RUN_MINIMUM:
            heads = numbers(count, segment, 1).unpack_from(view, start)
            if heads.count(heads[0]) == count:
                stop = start + count * segment
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
        kind = view[head]
        if kind != PACKET:
            self.hurried = True
            if kind == MIRROR_REQUEST:
                if self.mirror is not None:
                    self.mirror.receive(now, view[head:stop], route)
                return stop
            if kind == MIRROR_RESPONSE:
                self.reflections.receive(view[head:stop], route)
                return stop
            machine = self.introduction if kind in INTRODUCTION_KINDS else self.handshakes
            machine.receive(now, view[head:stop], route)
            return stop
        if stop - head < PACKET_OVERHEAD:
            return stop
        index = bytes(view[head + 4 : head + 8])
        number = int.from_bytes(index, "big")
        session = self._sessions.get(number) or self.sessions.opened(number)
        count = (end - start) // segment
        if count >= RUN_MINIMUM and session is not None:
            firsts = numbers(count, segment, 1).unpack_from(view, head)
            if firsts.count(firsts[0]) == count:
                stop = start + count * segment
        while (
            stop < end
            and end - stop >= outer + PACKET_OVERHEAD
            and view[stop + outer] == PACKET
            and view[stop + outer + 4 : stop + outer + 8] == index
        ):
            stop = min(stop + segment, end)
        if session is not None:
            session.receiver.receive(now, view, start, stop, segment, route)
            self._schedule.touch(session)
            if not session.ended and session.has_output(now):
                session.wake()
        return stop

    def _housekeep(self, now: float) -> None:
        self._housekeeping_at = now + _HOUSEKEEPING_SECONDS
        if self.relay is not None:
            self.relay.expire(now)
        unused = self._lent.sweep(self._used_ports)
        if unused:
            self.emit(PortsUnused(tuple(unused)))
        self.sessions.lose_idle(now)

    def _used_ports(self, connection: Connection) -> set[int]:
        used: set[int] = set()
        for session in self.sessions.of(connection):
            used.update(session.paths.proving.guessing.ports)
            used.update(path.route.local for path in session.paths)
        return used

    # --- sending -------------------------------------------------------------------------------------------------

    def _transmit_queued(self, now: float, out: memoryview) -> Train | None:
        if self._queue:
            route, datagram = self._queue.popleft()
            size = len(datagram)
            out[:size] = datagram
            return Train(route.local, route.remote, size, size)
        if self.relay is not None:
            forward = self.relay.next(now)
            if forward is not None:
                size = len(forward.data)
                out[:size] = forward.data
                return Train(forward.route.local, forward.route.remote, size, min(forward.segment, size))
        return None
