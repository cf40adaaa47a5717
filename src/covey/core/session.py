"""Keys, packets and paths of one handshake: everything that dies with the keys.

States::

    unconfirmed --first packet opens--> confirmed --the peer's log verifies--> verified --> closed

The initiator is born confirmed. Until `verified` the session has no connection: who the peer is, is a claim. Only the
session's own frames (CRYPTO, ACK, PING, paths) count; a packet with others stays unacknowledged, so that the peer
sends them again. Frames arriving are handed to the connection, what the connection wants to send is asked for when there
is room: a session keeps no queue of application data.

Calls, all from the endpoint: `receive` for a train, `transmit` until None, `deadline` and `expire`. Anything foreign
that does not make sense ends the session with `PROTOCOL` (it was authenticated, so the peer is broken or hostile),
anything unauthentic is dropped without a trace.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from covey.base.constants import LOG_LIMIT
from covey.base.errors import ParseError, VerifyError
from covey.base.types import Endpoint as Address
from covey.base.types import Identity
from covey.core import limits
from covey.core.events import Event, PathsChanged, Ponged
from covey.core.path import Path, Route
from covey.core.punch import PunchRound
from covey.core.receive_buffer import ReceiveBuffer
from covey.core.received import ReceivedCounters
from covey.core.recovery import Item, Sent
from covey.core.rtt import MAX_ACK_DELAY
from covey.core.send_buffer import SendBuffer
from covey.core.stream import Stream
from covey.crypto.packet import NONCE, InvalidTag
from covey.wire import control, frames
from covey.wire.datagram import (
    HEADER,
    HEADER_SIZE,
    PACKET,
    PACKET_OVERHEAD,
    RELAY_HEADER,
    RELAY_HEADER_SIZE,
    RELAYED,
    TAG_SIZE,
)
from covey.wire.frames import STREAM_HEAD

if TYPE_CHECKING:
    from covey.core.connection import Connection
    from covey.core.epochs import Epochs
    from covey.crypto.events import KeyLog
    from covey.wire.handshake import HandshakePayload

__all__ = ["CloseCode", "Session", "SessionOwner", "Train"]

_pack_nonce = NONCE.pack
_unpack_header = HEADER.unpack_from
_pack_header = HEADER.pack_into
_pack_stream = STREAM_HEAD.pack_into
_unpack_stream = STREAM_HEAD.unpack_from
_U64 = struct.Struct(">Q")
_STREAM_HEAD_SIZE: Final = STREAM_HEAD.size
_SCRATCH: Final = 65_536
_PROBE_QUEUE: Final = 64
_RETIRED_ROUTES: Final = 8


class CloseCode:
    """Why a connection or session ended: on the wire in CLOSE."""

    DONE: Final = 0
    IDLE: Final = 1
    PROTOCOL: Final = 2
    NOT_VERIFIED: Final = 3
    LOST_STATE: Final = 4
    SUPERSEDED: Final = 5
    SHUTDOWN: Final = 6


class Train(NamedTuple):
    """What `transmit` wrote into the buffer it was lent (PROTOCOL 26)."""

    local: int
    remote: Address
    size: int
    segment: int


class SessionOwner(Protocol):
    """What a session asks of its endpoint."""

    scratch: bytearray
    """65,536 bytes for one plaintext at a time, shared by all sessions."""

    def random(self, size: int) -> bytes: ...
    def emit(self, event: Event) -> None: ...
    def session_ready(self, session: Session) -> None:
        """It has something to send."""

    def session_confirmed(self, session: Session, now: float) -> None:
        """The initiator proved its keys: bind the session to its connection."""

    def session_log(self, session: Session, raw: bytes, now: float) -> None:
        """The peer sent its log. Calls `verified`; raises VerifyError or ParseError."""

    def session_ended(self, session: Session, now: float, code: int, reason: str, *, by_peer: bool) -> None: ...
    def session_stalled(self, session: Session, now: float) -> None: ...
    def relay_suspected(self, relay: Address) -> None:
        """Data through a relay gets no answer: perhaps it no longer knows where we are."""

    def own_log(self) -> bytes: ...
    def candidates(self) -> Sequence[control.Candidate]: ...
    def port_families(self) -> Sequence[tuple[int, int]]:
        """(port index, 4 or 6) of every local port."""


class Session:
    """See the module's text."""

    def __init__(
        self,
        owner: SessionOwner,
        *,
        initiator: bool,
        local_index: int,
        peer_index: int,
        epochs: Epochs,
        payload: HandshakePayload,
        local_half: bytes,
        certified_key: bytes,
        claims_verified: bool,
        route: Route,
        now: float,
    ) -> None:
        self._owner = owner
        self.initiator = initiator
        self.local_index = local_index
        self.peer_index = peer_index
        self.epochs = epochs
        self.payload = payload
        """What the peer said of itself in the handshake."""
        self.local_half = local_half
        self.certified_key = certified_key
        """The transport key that the peer proved to hold."""
        self.claims_verified = claims_verified
        """The handshake found the peer's log at hand and its chain complete."""
        self.created = now
        self.confirmed = initiator
        self.verified = False
        self.ended = False
        self.connection: Connection | None = None
        self.retire_at: float | None = None
        """A newer session carries the connection; this one opens packets until then."""
        self.in_ready = False
        self.scheduled: float | None = None
        """The deadline the endpoint's heap holds for this session."""
        self.active = Path(0, route, now)
        self.paths: list[Path] = [self.active]
        self.dead_routes: deque[Route] = deque(maxlen=_RETIRED_ROUTES)
        self._next_path = 1
        self._probe_counter = 0
        self._arrivals: dict[int, Route] = {}
        """Where the newest packet of each of the peer's paths came from."""
        self._left: deque[Route] = deque(maxlen=_RETIRED_ROUTES)
        """Where one of them came from before."""
        self._received: dict[int, ReceivedCounters] = {}
        self._ack_due: dict[int, None] = {}
        self._ack_at: float | None = None
        self._eliciting = 0
        self._probes: deque[tuple[Route, bytes, int]] = deque()
        self._pings: dict[int, float] = {}
        self._round = PunchRound()
        self._challenged: dict[Route, float] = {}
        self._crypto_out = SendBuffer()
        self._crypto_in = ReceiveBuffer()
        self._control = control.ControlReader()
        self._log = bytearray()
        self._log_requested = False
        self._log_served = False
        self._remote_candidates: list[control.Candidate] = []
        self._candidates_sent: tuple[control.Candidate, ...] = ()
        self._rekey_wanted = False
        self._rekey_asked = -1
        self._ping_due = False
        self._stalled = False
        self._send_at: float | None = None
        self._idle_since = now

    @property
    def peer(self) -> Identity:
        return self.payload.identity

    # --- commands ------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        if not self.in_ready and not self.ended:
            self._owner.session_ready(self)

    def start_ratchet(self) -> None:
        """The initiator offers the next epoch's keys."""
        self._rekey_wanted = False
        self.send_control(control.OFFER, self.epochs.offer())

    def _rekey(self) -> None:
        """This key has sealed enough: the initiator starts the ratchet, the responder asks for it, once per epoch."""
        if self.initiator:
            self.start_ratchet()
        elif self._rekey_asked != self.epochs.epoch and self.epochs.worn:
            self._rekey_asked = self.epochs.epoch
            self.send_control(control.WANT_REKEY)

    def request_log(self) -> None:
        """Asks for the peer's key-event log, once."""
        if not self._log_requested:
            self._log_requested = True
            self.send_control(control.LOG_REQUEST)

    def send_control(self, kind: int, body: bytes = b"") -> None:
        self._crypto_out.write(control.encode_control(kind, body))
        self.wake()

    def set_verified(self, now: float) -> None:
        """The peer's identity is proven: streams flow."""
        self.verified = True
        self.exchange_candidates()
        self.wake()

    def relay_reason(self) -> str:
        """Why there is no direct path, as one word of `base.schema.PathView.reason`."""
        if not self._remote_candidates:
            return "no-candidate"
        return "probing" if self._round.running else "peer-silent"

    def exchange_candidates(self) -> None:
        """Sends our candidates and uses the peer's, if both are wanted and new."""
        connection = self.connection
        if not self.verified or connection is None or not connection.direct or connection.session is not self:
            return
        own = tuple(self._owner.candidates())[: control.CANDIDATES_LIMIT]
        if own and own != self._candidates_sent:
            self._candidates_sent = own
            self.send_control(control.CANDIDATES, control.encode_candidates(list(own)))
        self._punch()
        self.wake()

    def ping(self, token: int) -> None:
        """Challenges the active path; the answer is a `Ponged` event."""
        self._pings[token] = -1.0
        if len(self._pings) > _PROBE_QUEUE:
            self._pings.pop(next(iter(self._pings)))
        self._probe(self.active.route, frames.encode_path(frames.PATH_CHALLENGE, _U64.pack(token)), 0)

    def keep_alive(self) -> None:
        """Asks the peer for an acknowledgement now."""
        self._ping_due = True
        self.wake()

    def retire(self, now: float) -> None:
        """Another session carries the connection: this one ends once the peer has stopped using it for three PTOs."""
        self.retire_at = now + max(self._overlap(), 1.0)

    def abandon(self) -> None:
        """Gives everything in flight back to the connection."""
        for path in self.paths:
            self._lost(path, path.recovery.abandon())

    def close(self, now: float, code: int, reason: str) -> bytes:
        """Ends the session. Returns one sealed datagram (without relay header) to send on `active.route`."""
        frame = frames.encode_close(code, reason)
        path = self.active
        out = bytearray(PACKET_OVERHEAD + len(frame))
        self._seal(memoryview(out), 0, path.id, path.counter, memoryview(frame))
        path.counter += 1
        self.ended = True
        return bytes(out)

    # --- receiving -----------------------------------------------------------------------------------------------

    def receive(self, now: float, view: memoryview, start: int, end: int, segment: int, route: Route) -> None:
        """The datagrams of one train that carry this session's index: [start, end) of `view`, `segment` bytes apart.

        Hot path: one header unpack, one AEAD call, one frame unpack and one append per datagram of bulk traffic.
        """
        skip = route.outer
        epochs = self.epochs
        last_path, received = -1, None
        wire_epoch, opener = -1, None
        connection = self.connection
        opened = False
        for position in range(start, end, segment):
            stop = position + segment
            if stop > end:
                stop = end
            head = position + skip
            _, path_id, epoch, _, counter = _unpack_header(view, head)
            if path_id != last_path:
                received, last_path = self._received.get(path_id), path_id
            if received is not None and not received.fresh(counter):
                continue
            if epoch != wire_epoch or opener is None:
                key = epochs.receive_key(epoch)
                if key is None:
                    continue
                wire_epoch, opener = epoch, key.aead.decrypt
            try:
                plain = opener(_pack_nonce(path_id, counter), view[head + HEADER_SIZE : stop], view[head : head + 16])
            except InvalidTag:
                continue
            if not opened:
                opened = True
                newest = received is None or counter > received.highest
                self._alive(now, route, path_id, end - start, newest=newest)
                if self.ended:
                    return
                connection = self.connection
            if epoch == epochs.unproven:
                epochs.opened(epoch, now, self._overlap())
            if received is None:
                received = self._counters(path_id)
            try:
                if not plain:
                    raise ParseError("an empty packet")
                if plain[0] == frames.STREAM and len(plain) >= _STREAM_HEAD_SIZE and self.verified:
                    _, flags, number, offset, length = _unpack_stream(plain)
                    if length + _STREAM_HEAD_SIZE == len(plain) and flags <= 1 and connection is not None:
                        in_order = received.add(counter, now)
                        self._eliciting += 1
                        self._ack_due[path_id] = None
                        if self.retire_at is not None:
                            self.retire(now)
                        if not in_order or self._eliciting >= 2:
                            self._ack_at = now
                        elif self._ack_at is None:
                            self._ack_at = now + MAX_ACK_DELAY
                        connection.receive_stream(
                            number, offset, memoryview(plain)[_STREAM_HEAD_SIZE:], flags == 1, epoch, now
                        )
                        continue
                self._receive_packet(now, route, path_id, counter, plain, epoch, received)
            except ParseError as error:
                self._owner.session_ended(self, now, CloseCode.PROTOCOL, str(error), by_peer=False)
                return
            except VerifyError as error:
                self._owner.session_ended(self, now, CloseCode.NOT_VERIFIED, error.code, by_peer=False)
                return
            if self.ended:
                return

    def _receive_packet(
        self, now: float, route: Route, path_id: int, counter: int, plain: bytes, epoch: int, received: ReceivedCounters
    ) -> None:
        """Everything but bulk: any mixture of frames."""
        parsed = list(frames.parse_frames(plain))
        eliciting = self._handle(now, route, parsed, len(plain), epoch)
        if eliciting < 0:
            return
        in_order = received.add(counter, now)
        if eliciting and self.retire_at is not None:
            self.retire(now)
        if eliciting and path_id != limits.PROBE_PATH:
            self._eliciting += 1
            self._ack_due[path_id] = None
            if not in_order or self._eliciting >= 2 or eliciting > 1:
                self._ack_at = now
            elif self._ack_at is None:
                self._ack_at = now + MAX_ACK_DELAY

    def _handle(self, now: float, route: Route, parsed: Iterable[frames.Frame], size: int, epoch: int) -> int:
        """Acts on frames. 0: nothing to acknowledge, 1: acknowledge soon, 2: at once, -1: not at all.

        Frames of streams are for `_handle_stream_frame`, and only once the peer is verified.
        """
        eliciting = 0
        left_out = False
        for frame in parsed:
            match frame:
                case frames.AckFrame(path=number, delay=delay, ranges=ranges):
                    self._on_ack(now, number, ranges, delay * frames.ACK_DELAY_UNIT)
                case frames.CryptoFrame(offset=offset, data=data):
                    eliciting = 2
                    self._on_crypto(now, offset, data)
                case frames.PingFrame():
                    eliciting = max(eliciting, 1)
                case frames.PathFrame(kind=kind, data=data):
                    self._on_path_frame(now, route, kind, data, size)
                case frames.CloseFrame(code=code, reason=reason):
                    self._owner.session_ended(self, now, code, reason, by_peer=True)
                    return 0
                case _:
                    eliciting = max(eliciting, 1)
                    if self.verified:
                        self._handle_stream_frame(now, frame, epoch)
                    else:
                        left_out = True
            if self.ended:
                return 0
        return -1 if left_out else eliciting

    def _handle_stream_frame(self, now: float, frame: frames.Frame, epoch: int) -> None:
        connection = self.connection
        assert connection is not None
        match frame:
            case frames.StreamFrame(stream=number, offset=offset, data=data, fin=fin):
                connection.receive_stream(number, offset, data, fin, epoch, now)
            case frames.ResetFrame(stream=number, code=code, final=final):
                connection.receive_reset(number, code, final)
            case frames.StopFrame(stream=number, code=code):
                connection.receive_stop(number, code)
            case frames.LimitFrame(kind=kind, stream=number, limit=limit):
                connection.receive_limit(kind, number, limit)
            case frames.DatagramFrame(stream=number, data=data):
                connection.last_used = now
                connection.receive_datagram(number, data)

    def _alive(self, now: float, route: Route, path_id: int, size: int, *, newest: bool) -> None:
        """The first packet of a train authenticated: its route is known to carry the peer's packets to us.

        `newest`: no later packet of the same path arrived before it.
        """
        if not self.confirmed:
            self.confirmed = True
            self._owner.session_confirmed(self, now)
            if self.ended:
                return
        if self._stalled:
            self._stalled = False
            self.active.recovery.revive(now)
            if self.connection is not None:
                self.connection.stalled_at = None
        if newest and path_id != limits.PROBE_PATH:
            before = self._arrivals.get(path_id, route)
            self._arrivals[path_id] = route
            if before != route:
                self._left.append(before)
        for path in self.paths:
            if path.route == route:
                path.last_received = now
                path.received_bytes += size
                if path is not self.active and self._moved_to(route):
                    self._follow(path)
                return
        # A route we do not send on: the peer moved, or probes us. Anything but a probe calls for a challenge.
        if path_id != limits.PROBE_PATH and now - self._challenged.get(route, -1.0) > 0.25:
            self._challenge(now, route)

    def _moved_to(self, route: Route) -> bool:
        """Whether the peer's packets come by `route` now, and by our active route no more.

        A path of the peer's is bound to its route. If it comes by another one, the peer or its NAT changed, and what
        we send to where it came from before leads nowhere.
        """
        routes = self._arrivals.values()
        active = self.active.route
        return active in self._left and active not in routes and route in routes

    def _follow(self, path: Path) -> None:
        left = self.active
        self._activate(path)
        self._remove(left)

    def _counters(self, path_id: int) -> ReceivedCounters:
        received = self._received.get(path_id)
        if received is None:
            received = self._received[path_id] = ReceivedCounters()
        return received

    def _on_ack(self, now: float, number: int, ranges: list[tuple[int, int]], delay: float) -> None:
        for path in self.paths:
            if path.id == number:
                break
        else:
            return
        if ranges[0][1] >= path.counter:
            raise ParseError("an acknowledgement of what was never sent")
        acked, lost = path.recovery.on_ack(now, ranges, delay)
        if acked:
            path.suspect = False
            path.failures = 0
            path.last_received = now
        connection = self.connection
        for run in acked:
            if run.stream is not None:
                run.stream.connection.on_stream_acked(run.stream, run.offset, run.length, run.fin)
            elif run.items is not None:
                for item in run.items:
                    self._item_acked(path, item)
        self._lost(path, lost)
        if connection is not None and connection.session is self:
            self.wake()

    def _item_acked(self, path: Path, item: Item) -> None:
        match item:
            case ("stream", stream, offset, length, fin):
                stream.connection.on_stream_acked(stream, offset, length, fin)
            case ("crypto", offset, length):
                self._crypto_out.on_acked(offset, length)
            case ("control", kind, number):
                if self.connection is not None:
                    self.connection.on_control_acked(kind, number)
            case ("mtu", size):
                path.on_mtu_probe(size, arrived=True)

    def _lost(self, path: Path, runs: list[Sent]) -> None:
        for run in runs:
            if run.stream is not None:
                run.stream.connection.on_stream_lost(run.stream, run.offset, run.length, run.fin)
                continue
            for item in run.items or ():
                match item:
                    case ("stream", stream, offset, length, fin):
                        stream.connection.on_stream_lost(stream, offset, length, fin)
                    case ("crypto", offset, length):
                        self._crypto_out.on_lost(offset, length)
                    case ("control", kind, number):
                        if self.connection is not None:
                            self.connection.on_control_lost(kind, number)
                    case ("mtu", size):
                        path.on_mtu_probe(size, arrived=False)

    # --- the CRYPTO stream -----------------------------------------------------------------------------------------

    def _on_crypto(self, now: float, offset: int, data: memoryview) -> None:
        stream = self._crypto_in
        if offset + len(data) > stream.next + limits.CRYPTO_BUFFER:
            raise ParseError("CRYPTO bytes beyond the buffer")
        stream.insert(offset, data)
        for kind, body in self._control.feed(stream.read()):
            self._on_control(now, kind, body)
            if self.ended:
                return

    def _on_control(self, now: float, kind: int, body: bytes) -> None:
        if kind == control.OFFER:
            self.send_control(control.ANSWER, self.epochs.on_offer(body))
        elif kind == control.ANSWER:
            self.epochs.on_answer(body, now)
            self.wake()
        elif kind == control.WANT_REKEY:
            self._rekey_wanted = self.initiator
        elif kind == control.LOG_REQUEST:
            if not self._log_served:
                self._log_served = True
                raw = self._owner.own_log()
                for start in range(0, len(raw), control.LOG_PIECE):
                    last = start + control.LOG_PIECE >= len(raw)
                    self.send_control(control.LOG, bytes([last]) + raw[start : start + control.LOG_PIECE])
        elif kind == control.LOG:
            if not self._log_requested or not body or body[0] > 1:
                raise ParseError("a log out of turn")
            self._log += body[1:]
            if len(self._log) > LOG_LIMIT:
                raise ParseError("log too long")
            if body[0]:
                self._log_requested = False
                raw, self._log = bytes(self._log), bytearray()
                self._owner.session_log(self, raw, now)
        elif kind == control.CANDIDATES:
            self._remote_candidates = control.parse_candidates(body)
            self._punch()
        else:
            raise ParseError("unknown control message")

    # --- paths -----------------------------------------------------------------------------------------------------

    def _pairs(self) -> list[Route]:
        """Every (own port, peer's candidate) of the same family that is not a path already."""
        have = {path.route for path in self.paths}
        routes = []
        for candidate in self._remote_candidates:
            family = 6 if ":" in candidate.endpoint[0] else 4
            for index, own_family in self._owner.port_families():
                route = Route(index, candidate.endpoint)
                if own_family == family and route not in have:
                    routes.append(route)
        return routes[: limits.PROBE_PAIRS]

    @property
    def _may_punch(self) -> bool:
        connection = self.connection
        return (
            self.verified
            and connection is not None
            and connection.direct
            and connection.session is self
            and bool(self._remote_candidates)
        )

    def _punch(self) -> None:
        """Something changed: a new round of probes towards the peer's candidates."""
        if self._may_punch:
            self._round.start_soon(self._pairs())

    def _upgrade_at(self) -> float | None:
        """When to look once more for a way around the relay, while there is something to carry."""
        connection = self.connection
        if not self.active.route.relayed or not self._may_punch or connection is None or self._round.running:
            return None
        at = self._round.retry_at
        return at if at is not None and at <= connection.last_used + limits.ACTIVE_SECONDS else None

    def _challenge(self, now: float, route: Route) -> None:
        """Probes a route with fresh random bytes, padded to the size a path must carry."""
        self._challenged[route] = now
        while len(self._challenged) > 4 * limits.PROBE_PAIRS:
            self._challenged.pop(next(iter(self._challenged)))
        data = self._owner.random(8)
        self._round.expect(data, route, now)
        self._probe(route, frames.encode_path(frames.PATH_CHALLENGE, data), limits.INITIAL_MTU)

    def _probe(self, route: Route, frame: bytes, size: int) -> None:
        if len(self._probes) < _PROBE_QUEUE:
            self._probes.append((route, frame, size))
            self.wake()

    def _on_path_frame(self, now: float, route: Route, kind: int, data: bytes, size: int) -> None:
        if kind == frames.PATH_CHALLENGE:
            # As long as the challenge, never longer: no amplification, and the size is proven both ways.
            self._probe(route, frames.encode_path(frames.PATH_RESPONSE, data), size + PACKET_OVERHEAD + route.outer)
            connection = self.connection
            known = any(path.route == route for path in self.paths)
            if not known and connection is not None and connection.direct and not route.relayed:
                if now - self._challenged.get(route, -1.0) > 0.25:
                    self._challenge(now, route)
            return
        token = _U64.unpack(data)[0]
        if token in self._pings:
            sent = self._pings.pop(token)
            if self.connection is not None and sent >= 0:
                self._owner.emit(Ponged(self.connection, token, now - sent))
            return
        expected = self._round.answered(data)
        if expected is None:
            return
        # The answer proves the pair it was asked on, whichever way it came back.
        target, asked = expected
        for path in self.paths:
            if path.route == target:
                path.last_received = now
                if path.suspect and path.failures < limits.PATH_FAILURES:
                    path.suspect = False
                    path.recovery.revive(now)
                    if path is not self.active and self._better(path, self.active):
                        self._activate(path)
                        self._changed()
                return
        self._add_path(now, target, now - asked)

    def _add_path(self, now: float, route: Route, rtt: float) -> None:
        if self._next_path >= limits.PROBE_PATH:
            return
        path = Path(self._next_path, route, now)
        self._next_path += 1
        path.recovery.rtt.sample(rtt, 0.0)
        self.paths.append(path)
        if self._moved_to(route):
            self._follow(path)
        elif self._better(path, self.active):
            self._activate(path)
        elif self.active.suspect:
            self._leave(now, self.active)
        self._changed()

    def _better(self, path: Path, other: Path) -> bool:
        """Direct before relayed; then a round trip shorter by 5 ms or 10 % (DESIGN 6)."""
        if path.suspect != other.suspect:
            return other.suspect
        if path.route.relayed != other.route.relayed:
            return other.route.relayed
        mine, theirs = path.recovery.rtt.smoothed, other.recovery.rtt.smoothed
        return mine < theirs - max(0.005, 0.1 * theirs)

    def _activate(self, path: Path) -> None:
        self.active = path
        self.wake()

    def _leave(self, now: float, path: Path) -> None:
        """Data on `path` gets no answer: it goes on over the best other path, if there is one."""
        if not path.suspect:
            path.suspect = True
            path.suspect_since = now
            path.failures += 1
            path.shrink(now)
            if path.route.relayed:
                self._owner.relay_suspected(path.route.remote)
        others = [other for other in self.paths if other is not path and not other.suspect]
        self._challenge(now, path.route)
        if not others:
            return
        best = others[0]
        for other in others[1:]:
            if self._better(other, best):
                best = other
        self._lost(path, path.recovery.abandon())
        self._activate(best)
        self._changed()

    def _remove(self, path: Path) -> None:
        self._lost(path, path.recovery.abandon())
        self.paths.remove(path)
        self.dead_routes.append(path.route)
        self._punch()
        self._changed()

    def _changed(self) -> None:
        if self.connection is not None:
            self._owner.emit(PathsChanged(self.connection))

    def _overlap(self) -> float:
        """How long old keys still open packets: three PTOs of the slowest path."""
        return 3 * max(path.recovery.rtt.pto() for path in self.paths)

    # --- sending ---------------------------------------------------------------------------------------------------

    def transmit(self, now: float, out: memoryview) -> Train | None:
        """The next train of this session, written into `out`; None if nothing may leave now."""
        self._send_at = None
        if self._probes:
            return self._transmit_probe(now, out)
        if not self.confirmed:
            return None
        if self.epochs.exhausted(now):
            self._owner.session_ended(self, now, CloseCode.IDLE, "keys used up", by_peer=False)
            return None
        path = self.active
        recovery = path.recovery
        cubic = recovery.cubic
        segment = path.mtu
        budget = cubic.window - cubic.in_flight
        credit = recovery.pacer.credit(now, cubic.window, recovery.rtt.smoothed, segment)
        if credit < segment and budget >= segment:
            self._send_at = recovery.pacer.ready_at(now)
        recovery.limited = budget < segment
        recovery.limited = recovery.limited or credit < segment
        budget = min(budget, credit)
        if budget < segment:
            budget = 0
        if recovery.probes:
            recovery.probes -= 1
            self._repeat_oldest(path)
            budget = max(budget, segment)
            eliciting = cubic.sent_total
            train = self._fill(now, out, path, budget)
            if cubic.sent_total == eliciting:
                self._ping_due = True
                train = train or self._fill(now, out, path, budget)
        else:
            train = self._fill(now, out, path, budget)
        if train is not None:
            path.last_sent = now
            path.sent_bytes += train.size
            return train
        if path.mtu_probe == 0 and self.verified and budget > 2 * segment and now >= path.mtu_probe_at:
            return self._transmit_mtu_probe(now, out, path)
        return None

    def _fill(self, now: float, out: memoryview, path: Path, budget: int) -> Train | None:
        """Datagrams of one size until the budget, the train or the data ends. The last may be shorter."""
        # Streams only for the session that the connection sends on.
        connection = self.connection if self.connection is not None and self.connection.session is self else None
        segment = path.mtu
        outer = path.route.outer
        capacity = segment - outer - PACKET_OVERHEAD
        room = min(limits.TRAIN_DATAGRAMS, limits.TRAIN_BYTES // segment)
        first = path.counter
        position = 0
        while room > 0:
            mixed = position == 0 and self._first_is_mixed(now, budget > 0, connection)
            if mixed or (connection is not None and connection.has_control):
                size = self._compose(now, out, position, path, connection, capacity, budget)
            else:
                count = 0
                if connection is not None and budget >= segment:
                    count = self._bulk(now, out, position, path, connection, capacity, min(room, budget // segment))
                if count:
                    position += count * segment
                    budget -= count * segment
                    room -= count
                    continue
                if position == 0 and (connection is None or not connection.has_stream_data):
                    break
                size = self._compose(now, out, position, path, connection, capacity, budget)
            if size == 0:
                break
            position += size
            budget -= size
            room -= 1
            if size < segment:
                break
        if position == 0:
            return None
        sent = path.counter - first
        self.epochs.packets += sent
        self.epochs.bytes += position
        if self.epochs.due(now):
            self._rekey()
        return Train(path.route.local, path.route.remote, position, min(segment, position))

    def _first_is_mixed(self, now: float, may_send: bool, connection: Connection | None) -> bool:
        """Whether something other than stream data wants the first datagram of a train.

        An acknowledgement that may still wait comes along with data, but does not travel alone.
        """
        crypto = self._crypto_out
        return (
            (self._ack_at is not None and now >= self._ack_at)
            or bool(crypto.lost)
            or min(crypto.end, crypto.acked + limits.CRYPTO_BUFFER) > crypto.sent
            or self._ping_due
            or (
                connection is not None
                and (
                    connection.has_datagrams
                    or (self._ack_at is not None and may_send and connection.has_stream_data)
                )
            )
        )

    def _bulk(
        self, now: float, out: memoryview, position: int, path: Path, connection: Connection, capacity: int, room: int
    ) -> int:
        """Full datagrams of one stream, one STREAM frame each. How many were written.

        Hot path: per datagram two header packs, one copy and one AEAD call; one `Sent` for all of them.
        """
        chunk = capacity - _STREAM_HEAD_SIZE
        epochs = self.epochs
        for stream in connection.ready_streams(epochs.epoch):
            outgoing = stream.outgoing
            repeat = bool(outgoing.lost)
            offset, size = outgoing.next_range(stream.max_send)
            if not repeat:
                size = min(size, connection.send_allowance)
            count = min(room, size // chunk)
            if count <= 0:
                continue
            if not repeat:
                connection.count_sent(count * chunk)
                connection.last_used = now
            self._seal_bulk(out, position, path, stream, offset, chunk, count)
            outgoing.on_sent(offset, count * chunk)
            segment = path.mtu
            path.recovery.pacer.spend(count * segment)
            path.recovery.on_sent(
                Sent(
                    path.counter, count, now, segment, segment,
                    stream=stream, offset=offset, chunk=chunk, length=count * chunk,
                )
            )
            path.counter += count
            return count
        return 0

    def _seal_bulk(
        self, out: memoryview, position: int, path: Path, stream: Stream, offset: int, chunk: int, count: int
    ) -> None:
        scratch = self._owner.scratch
        plain = memoryview(scratch)[: _STREAM_HEAD_SIZE + chunk]
        seal = self.epochs.key.aead.encrypt_into
        epoch, index, path_id, number = self.epochs.wire_epoch, self.peer_index, path.id, stream.id
        counter = path.counter
        circuit, outer, segment = path.route.circuit, path.route.outer, path.mtu
        outgoing = stream.outgoing
        piece: memoryview | bytearray = outgoing.piece(offset, count * chunk)
        at = 0
        for _ in range(count):
            if outer:
                RELAY_HEADER.pack_into(out, position, RELAYED, 0, 0, circuit)
            head = position + outer
            body = head + HEADER_SIZE
            position += segment
            _pack_header(out, head, PACKET, path_id, epoch, index, counter)
            _pack_stream(scratch, 0, frames.STREAM, 0, number, offset, chunk)
            if at + chunk <= len(piece):
                scratch[_STREAM_HEAD_SIZE : _STREAM_HEAD_SIZE + chunk] = piece[at : at + chunk]
            else:
                outgoing.copy_into(scratch, _STREAM_HEAD_SIZE, offset, chunk)
                piece, at = outgoing.piece(offset + chunk - 1, count * chunk)[1:], -chunk
            seal(_pack_nonce(path_id, counter), plain, out[head:body], out[body:position])
            at += chunk
            offset += chunk
            counter += 1

    def _compose(
        self,
        now: float,
        out: memoryview,
        position: int,
        path: Path,
        connection: Connection | None,
        capacity: int,
        budget: int,
    ) -> int:
        """One datagram of whatever is due, in order of urgency. Its size on the wire, 0 if nothing is due."""
        scratch = self._owner.scratch
        items: list[Item] = []
        at = 0
        for number in list(self._ack_due):
            if capacity - at < 300:
                break
            received = self._received[number]
            delay = int((now - received.newest_at) / frames.ACK_DELAY_UNIT)
            encoded = frames.encode_ack(number, max(delay, 0), received.ranges())
            scratch[at : at + len(encoded)] = encoded
            at += len(encoded)
            del self._ack_due[number]
        if not self._ack_due:
            self._ack_at = None
            self._eliciting = 0
        at = self._compose_crypto(scratch, at, capacity, items)
        if self._ping_due:
            self._ping_due = False
            scratch[at] = frames.PING
            at += 1
            items.append(("ping",))
        if connection is not None:
            for encoded, (kind, number) in connection.take_control(capacity - at):
                scratch[at : at + len(encoded)] = encoded
                at += len(encoded)
                items.append(("control", kind, number))
            if budget > 0:
                at = self._compose_datagrams(scratch, at, capacity, connection, items)
                at = self._compose_streams(now, scratch, at, capacity, connection, items)
        if at == 0:
            return 0
        if items and connection is not None and connection.has_stream_data and capacity - at <= _STREAM_HEAD_SIZE:
            # So full that only padding fits: make it a whole datagram, so that the train can go on.
            scratch[at:capacity] = bytes(capacity - at)
            at = capacity
        outer = path.route.outer
        if outer:
            RELAY_HEADER.pack_into(out, position, RELAYED, 0, 0, path.route.circuit)
        size = outer + self._seal(out, position + outer, path.id, path.counter, memoryview(scratch)[:at])
        if items:
            path.recovery.pacer.spend(size)
            path.recovery.on_sent(Sent(path.counter, 1, now, size, size, items=items))
        path.counter += 1
        return size

    def _compose_crypto(self, scratch: bytearray, at: int, capacity: int, items: list[Item]) -> int:
        crypto = self._crypto_out
        while capacity - at > frames.CRYPTO_HEAD.size:
            # Never more than the peer must keep behind a gap (PROTOCOL 17): the rest follows acknowledgements.
            offset, size = crypto.next_range(crypto.acked + limits.CRYPTO_BUFFER)
            size = min(size, capacity - at - frames.CRYPTO_HEAD.size)
            if size <= 0:
                break
            frames.CRYPTO_HEAD.pack_into(scratch, at, frames.CRYPTO, offset, size)
            at += frames.CRYPTO_HEAD.size
            crypto.copy_into(scratch, at, offset, size)
            at += size
            crypto.on_sent(offset, size)
            items.append(("crypto", offset, size))
        return at

    def _compose_datagrams(
        self, scratch: bytearray, at: int, capacity: int, connection: Connection, items: list[Item]
    ) -> int:
        head = frames.DATAGRAM_HEAD
        while (taken := connection.take_datagram(capacity - at - head.size, self.epochs.epoch)) is not None:
            number, data = taken
            head.pack_into(scratch, at, frames.DATAGRAM, number, len(data))
            at += head.size
            scratch[at : at + len(data)] = data
            at += len(data)
            items.append(("datagram",))
        return at

    def _compose_streams(
        self, now: float, scratch: bytearray, at: int, capacity: int, connection: Connection, items: list[Item]
    ) -> int:
        """Packs pieces of as many streams as fit: small messages share a datagram."""
        for stream in connection.ready_streams(self.epochs.epoch):
            outgoing = stream.outgoing
            while True:
                room = capacity - at - _STREAM_HEAD_SIZE
                repeat = bool(outgoing.lost)
                offset, size = outgoing.next_range(stream.max_send)
                if not repeat:
                    size = min(size, connection.send_allowance)
                size = max(min(size, room), 0)
                fin = stream.finished and stream.reset_code is None and offset + size == outgoing.end
                if room < 0 or (size == 0 and not (fin and not stream.fin_sent)):
                    break
                _pack_stream(scratch, at, frames.STREAM, frames.STREAM_FIN if fin else 0, stream.id, offset, size)
                at += _STREAM_HEAD_SIZE
                outgoing.copy_into(scratch, at, offset, size)
                at += size
                if not repeat:
                    connection.count_sent(size)
                    connection.last_used = now
                outgoing.on_sent(offset, size)
                if fin:
                    stream.fin_sent = True
                items.append(("stream", stream, offset, size, fin))
            if capacity - at <= _STREAM_HEAD_SIZE:
                break
        return at

    def _seal(self, out: memoryview, head: int, path_id: int, counter: int, plain: memoryview) -> int:
        """Writes one packet at `out[head:]`; its size."""
        body = head + HEADER_SIZE
        end = body + len(plain) + TAG_SIZE
        _pack_header(out, head, PACKET, path_id, self.epochs.wire_epoch, self.peer_index, counter)
        self.epochs.key.aead.encrypt_into(_pack_nonce(path_id, counter), plain, out[head:body], out[body:end])
        return end - head

    def _transmit_probe(self, now: float, out: memoryview) -> Train:
        """One challenge or response on its own route, in the number space of path 255."""
        route, frame, size = self._probes.popleft()
        if frame[0] == frames.PATH_CHALLENGE:
            token = _U64.unpack_from(frame, 1)[0]
            if token in self._pings:
                self._pings[token] = now
        scratch = self._owner.scratch
        length = max(len(frame), size - PACKET_OVERHEAD - route.outer)
        scratch[:length] = frame.ljust(length, b"\0")
        if route.outer:
            RELAY_HEADER.pack_into(out, 0, RELAYED, 0, 0, route.circuit)
        counter, self._probe_counter = self._probe_counter, self._probe_counter + 1
        size = route.outer + self._seal(out, route.outer, limits.PROBE_PATH, counter, memoryview(scratch)[:length])
        self.epochs.packets += 1
        return Train(route.local, route.remote, size, size)

    def _transmit_mtu_probe(self, now: float, out: memoryview, path: Path) -> Train | None:
        size = path.next_mtu_probe()
        if size is None:
            path.mtu_probe_at = float("inf")
            return None
        outer = path.route.outer
        scratch = self._owner.scratch
        length = size - outer - PACKET_OVERHEAD
        scratch[:length] = bytes([frames.PING]).ljust(length, b"\0")
        if outer:
            RELAY_HEADER.pack_into(out, 0, RELAYED, 0, 0, path.route.circuit)
        self._seal(out, outer, path.id, path.counter, memoryview(scratch)[:length])
        path.recovery.on_sent(Sent(path.counter, 1, now, size, size, items=[("mtu", size)]))
        path.counter += 1
        path.mtu_probe = size
        self.epochs.packets += 1
        return Train(path.route.local, path.route.remote, size, size)

    def _repeat_oldest(self, path: Path) -> None:
        """What a probe timeout is worth sending: the oldest data again."""
        oldest = path.recovery.oldest()
        if oldest is not None and not oldest.is_mtu_probe:
            self._lost(path, [oldest])

    # --- time ------------------------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `expire` is due, seconds."""
        times = [self._ack_at, self._send_at, self.retire_at, self._round.deadline(), self.epochs.deadline()]
        connection = self.connection
        for path in self.paths:
            times.append(path.recovery.deadline())
            since = path.recovery.oldest_unacked_at
            if since is not None and path.recovery.outstanding:
                times.append(since + self._patience(path))
            elif path.suspect and path is not self.active:
                times.append(path.suspect_since + self._patience(path))
        if connection is not None and connection.session is self:
            times += (self._keepalive_at(connection), self._upgrade_at())
            if connection.keepalive is None:
                times.append(max(connection.last_used, self._idle_since) + limits.IDLE_SECONDS)
            if self.initiator and self.epochs.due(self.epochs.since + limits.REKEY_SECONDS):
                wait = limits.REKEY_GAP_SECONDS if self._rekey_wanted else limits.REKEY_SECONDS
                times.append(self.epochs.since + wait)
        if self.confirmed:
            times.append(self.epochs.since + limits.HARD_SECONDS)
            if not self.verified:
                times.append(self.created + limits.VERIFY_SECONDS)
        return min([time for time in times if time is not None], default=None)

    def expire(self, now: float) -> None:
        """Acts on every deadline that has passed."""
        self.epochs.expire(now)
        if self.confirmed and self.epochs.exhausted(now):
            self._owner.session_ended(self, now, CloseCode.IDLE, "keys used up", by_peer=False)
            return
        if self.confirmed and not self.verified and now >= self.created + limits.VERIFY_SECONDS:
            self._owner.session_ended(self, now, CloseCode.NOT_VERIFIED, "no log", by_peer=False)
            return
        if self.retire_at is not None and now >= self.retire_at:
            self._owner.session_ended(self, now, CloseCode.SUPERSEDED, "", by_peer=False)
            return
        for path in list(self.paths):
            self._expire_path(now, path)
            if self.ended:
                return
        upgrade_at = self._upgrade_at()
        if upgrade_at is not None and now >= upgrade_at:
            self._round.start_again(now, self._pairs())
        for route in self._round.due(now, self._pairs):
            self._challenge(now, route)
        connection = self.connection
        if connection is not None and connection.session is self:
            at = self._keepalive_at(connection)
            if at is not None and now >= at:
                self._ping_due = True
            idle_since = max(connection.last_used, self._idle_since)
            if connection.keepalive is None and now >= idle_since + limits.IDLE_SECONDS:
                self._owner.session_ended(self, now, CloseCode.IDLE, "idle", by_peer=False)
                return
            wanted = self._rekey_wanted and now >= self.epochs.since + limits.REKEY_GAP_SECONDS
            if self.initiator and self.epochs.due(self.epochs.since + limits.REKEY_SECONDS if wanted else now):
                self.start_ratchet()
        self.wake()

    def _expire_path(self, now: float, path: Path) -> None:
        recovery = path.recovery
        at = recovery.deadline()
        if at is not None and now >= at:
            self._lost(path, recovery.on_deadline(now))
            if recovery.probes and path is not self.active:
                recovery.probes = 0
                self._challenge(now, path.route)
        since = recovery.oldest_unacked_at
        if since is None or not recovery.outstanding:
            if path.suspect and path is not self.active and now >= path.suspect_since + self._patience(path):
                self._remove(path)
            return
        if now < since + self._patience(path):
            return
        if not path.suspect:
            self._leave(now, path)
            return
        if path is self.active:
            self._leave(now, path)
        if path is not self.active:
            self._remove(path)
        elif not self._stalled:
            self._stalled = True
            self._owner.session_stalled(self, now)
        elif now >= since + 180.0:
            self._owner.session_ended(self, now, CloseCode.IDLE, "no answer", by_peer=False)

    def _patience(self, path: Path) -> float:
        """How long unacknowledged data may wait until the next judgement of its path (PROTOCOL 29)."""
        if self._stalled:
            return 180.0
        pto = path.recovery.rtt.pto()
        if path.suspect:
            return max(3 * pto, limits.DEAD_SECONDS)
        return max(2 * pto, limits.SUSPECT_SECONDS)

    def _keepalive_at(self, connection: Connection) -> float | None:
        """When the active path has been silent for long enough to need a PING."""
        path = self.active
        if self._ping_due or path.recovery.outstanding:
            return None
        if connection.keepalive is not None:
            return path.last_sent + connection.keepalive
        at = path.last_sent + limits.PATH_KEEPALIVE_SECONDS
        return at if at <= connection.last_used + limits.ACTIVE_SECONDS else None
