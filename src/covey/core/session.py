"""Keys, packets and paths of one handshake: everything that dies with the keys.

States::

    unconfirmed --first packet opens--> confirmed --the peer's log verifies--> verified --> closed

The initiator is born confirmed. Until `verified` the session has no connection: who the peer is, is a claim. Only the
session's own frames (CRYPTO, ACK, PING, paths) count; a packet with others stays unacknowledged, so that the peer
sends them again. Frames arriving are handed to the connection, what the connection wants to send is asked for when
there is room: a session keeps no queue of application data.

Calls, all from the endpoint: `receiver` for what arrived, `transmit` until None, `deadline` and `expire`. Anything
foreign that does not make sense ends the session with `PROTOCOL` (it was authenticated, so the peer is broken or
hostile), anything unauthentic is dropped without a trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from covey.base.errors import ParseError, VerifyError
from covey.base.types import Identity
from covey.core import limits
from covey.core.acks import Acks
from covey.core.birthday import Runs
from covey.core.congestion import Congestion
from covey.core.control import ControlMessages
from covey.core.crypto_stream import CryptoStream
from covey.core.events import Event
from covey.core.path import Path, Route
from covey.core.paths import Paths
from covey.core.receiver import Receiver
from covey.core.recovery import Item, Sent
from covey.core.sender import Sender, Train
from covey.core.trains import TrainOpener, TrainSealer
from covey.wire import control, frames
from covey.wire.datagram import PACKET_OVERHEAD

if TYPE_CHECKING:
    from covey.core.connection import Connection
    from covey.core.epochs import Epochs
    from covey.core.relays_used import RelaysUsed
    from covey.core.sessions import Sessions
    from covey.wire.handshake import HandshakePayload

__all__ = ["CloseCode", "Session", "SessionOwner"]


class CloseCode:
    """Why a connection or session ended: on the wire in CLOSE."""

    DONE: Final = 0
    IDLE: Final = 1
    PROTOCOL: Final = 2
    NOT_VERIFIED: Final = 3
    LOST_STATE: Final = 4
    SUPERSEDED: Final = 5
    SHUTDOWN: Final = 6


class SessionOwner(Protocol):
    """What a session asks of its endpoint."""

    scratch: bytearray
    """65,536 bytes for one plaintext at a time, shared by all sessions."""
    sealer: TrainSealer
    opener: TrainOpener
    hurried: bool
    """A session's deadline may be nearer than `MAX_ACK_DELAY`."""
    unread: bool
    """More has arrived than was received so far."""
    runs: Runs

    @property
    def sessions(self) -> Sessions:
        """Hears what becomes of a session."""

    @property
    def relays_used(self) -> RelaysUsed: ...
    @property
    def identity(self) -> Identity:
        """Our own."""

    def random(self, size: int) -> bytes: ...
    def new_congestion(self) -> Congestion:
        """The controller of a new path."""

    def emit(self, event: Event) -> None: ...
    def session_ready(self, session: Session) -> None:
        """It has something to send."""

    def own_log(self) -> bytes: ...
    def candidates(self) -> control.Candidates: ...
    def port_families(self) -> Sequence[tuple[int, int]]:
        """(port index, 4 or 6) of every local port."""

    def close_ports(self, ports: Sequence[int]) -> None:
        """These were lent to a session (`PortsWanted`), which needs them no more."""


class Session:
    """See the module's text."""

    __slots__ = (
        "_owner",
        "_rekey_asked",
        "_said",
        "acks",
        "answered_at",
        "certified_key",
        "claims_verified",
        "confirmed",
        "connection",
        "control_messages",
        "created",
        "crypto",
        "ended",
        "epochs",
        "in_ready",
        "initiator",
        "kept_at",
        "local_half",
        "local_index",
        "own_certificate",
        "paths",
        "payload",
        "peer_index",
        "receiver",
        "rekey_wanted",
        "retire_at",
        "scheduled",
        "sender",
        "verified",
    )

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
        own_certificate: bytes,
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
        self.own_certificate = own_certificate
        """What we proved ourselves by: if we have another certificate by now, the peer should see that one."""
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
        self.acks = Acks()
        self.crypto = CryptoStream()
        self.paths = Paths(self, owner, route, now)
        self.sender = Sender(self, owner.scratch, owner.sealer)
        self.receiver = Receiver(self, owner)
        self.control_messages = ControlMessages(self, owner)
        self.rekey_wanted = False
        self._rekey_asked = -1
        self._said: dict[int, bytes] = {}
        """Of the connection's words, those that were said in this session."""
        self.answered_at = now
        """When the peer last acknowledged anything, seconds."""
        self.kept_at = now

    @property
    def in_hurry(self) -> bool:
        """Its next deadline may well be nearer than `MAX_ACK_DELAY`: pacing, or a loss that time will tell."""
        return self.sender.ready_at is not None or self.paths.active.recovery.judging

    @property
    def active(self) -> Path:
        """The path that carries the data."""
        return self.paths.active

    @property
    def round_trip(self) -> float:
        """The shortest that was seen on the active path, seconds."""
        return self.active.recovery.rtt.minimum

    @property
    def peer(self) -> Identity:
        return self.payload.identity

    # --- commands ------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        if not self.in_ready and not self.ended:
            self._owner.session_ready(self)

    def hurry(self) -> None:
        """Its next deadline may be nearer than those of ordinary traffic."""
        self._owner.hurried = True

    def start_ratchet(self) -> None:
        """The initiator offers the next epoch's keys."""
        self.rekey_wanted = False
        self.send_control(control.OFFER, self.epochs.offer())

    def consider_rekey(self, now: float) -> None:
        """When this key sealed enough, the initiator starts the ratchet; the responder asks for it, once an epoch."""
        if not self.epochs.due(now):
            return
        if self.initiator:
            self.start_ratchet()
        elif self._rekey_asked != self.epochs.epoch and self.epochs.worn:
            self._rekey_asked = self.epochs.epoch
            self.send_control(control.WANT_REKEY)

    def request_log(self) -> None:
        """Asks for the peer's key-event log, once."""
        if not self.crypto.log_wanted:
            self.crypto.log_wanted = True
            self.send_control(control.LOG_REQUEST)

    def send_control(self, kind: int, body: bytes = b"") -> None:
        self.crypto.send(kind, body)
        self.wake()

    def say_words(self) -> None:
        """Says what the connection has to say and this session has not said yet, if it may be said by now."""
        connection = self.connection
        if connection is None or connection.session is not self or not self.verified or self.epochs.epoch == 0:
            return
        for kind, body in connection.words.items():
            if self._said.get(kind) != body:
                self._said[kind] = body
                self.send_control(kind, body)

    def set_verified(self) -> None:
        """The peer's identity is proven: streams flow."""
        self.verified = True
        self.paths.exchange()
        self.say_words()
        self.control_messages.tell_heard()
        self.wake()

    def exchange_candidates(self) -> None:
        """Ours changed, or the node allows direct paths now."""
        self.paths.exchange()

    def ping(self, token: int) -> None:
        """Challenges the active path; the answer is a `Ponged` event."""
        self.sender.ping(token, self.active.route)

    def keep_alive(self) -> None:
        """Asks the peer for an acknowledgement now."""
        self.sender.ping_due = True
        self.wake()

    def rest(self, now: float) -> None:
        """Nothing is due: a session that has been silent keeps only what cannot be made again."""
        if now >= self.active.last_sent + limits.REST_SECONDS:
            self.epochs.rest()

    def retire(self, now: float) -> None:
        """Another session carries the connection: this one ends once the peer has stopped using it for three PTOs."""
        self.retire_at = now + max(self.paths.overlap(), 1.0)

    def abandon(self) -> None:
        """Gives everything in flight back to the connection."""
        for path in self.paths:
            self.lost(path, path.abandon())

    def end_idle(self, now: float, reason: str) -> None:
        """The session is over, the connection is not."""
        self._owner.sessions.ended(self, now, CloseCode.IDLE, reason, by_peer=False)

    def break_off(self, now: float, error: ParseError | VerifyError) -> None:
        """What arrived was authentic and made no sense, or the peer is not who it said."""
        if isinstance(error, VerifyError):
            code, reason = CloseCode.NOT_VERIFIED, error.code
        else:
            code, reason = CloseCode.PROTOCOL, str(error)
        self._owner.sessions.ended(self, now, code, reason, by_peer=False)

    def close(self, code: int, reason: str) -> bytes:
        """Ends the session. Returns one sealed datagram (without relay header) to send on `active.route`."""
        frame = frames.encode_close(code, reason)
        path = self.active
        out = bytearray(PACKET_OVERHEAD + len(frame))
        self.sender.seal(memoryview(out), 0, path.id, path.counter, memoryview(frame))
        path.counter += 1
        self.ended = True
        return bytes(out)

    # --- what became of what was sent --------------------------------------------------------------------------------

    def item_acked(self, path: Path, item: Item) -> None:
        match item:
            case ("stream", stream, offset, length, fin):
                stream.connection.on_stream_acked(stream, offset, length, fin)
            case ("crypto", offset, length):
                self.crypto.on_acked(offset, length)
            case ("control", kind, number):
                if self.connection is not None:
                    self.connection.on_control_acked(kind, number)
            case ("mtu", size):
                path.on_mtu_probe(size, arrived=True)
                self.wake()

    def lost(self, path: Path, runs: list[Sent]) -> None:
        """What was in flight on `path` and must be sent again; each item goes back to where it came from."""
        for run in runs:
            if run.stream is not None:
                run.stream.connection.on_stream_lost(run.stream, run.offset, run.length, run.fin)
                continue
            for item in run.items or ():
                match item:
                    case ("stream", stream, offset, length, fin):
                        stream.connection.on_stream_lost(stream, offset, length, fin)
                    case ("crypto", offset, length):
                        self.crypto.on_lost(offset, length)
                    case ("control", kind, number):
                        if self.connection is not None:
                            self.connection.on_control_lost(kind, number)
                    case ("mtu", size):
                        path.on_mtu_probe(size, arrived=False)
                        self.wake()

    def switched(self) -> None:
        """We send in the next epoch from now on. What waited for the first, post-quantum one may go."""
        if self.epochs.epoch == 1:
            self.paths.exchange()
            self.say_words()
        if self.epochs.epoch >= self.epochs.lifetimes.epochs:
            self._owner.sessions.worn(self)
        self.wake()

    def has_output(self, now: float) -> bool:
        """Whether `transmit` is worth calling: something is due, or waits for room that there may be now."""
        ack_at = self.acks.at
        if (ack_at is not None and ack_at <= now) or self.crypto.has_data or self.sender.has_output:
            return True
        connection = self.connection
        return connection is not None and connection.session is self and connection.has_output

    # --- sending ---------------------------------------------------------------------------------------------------

    def transmit(self, now: float, out: memoryview) -> Train | None:
        """The next train of this session, written into `out`; None if nothing may leave now."""
        if self.confirmed and self.epochs.exhausted(now):
            self.end_idle(now, "keys used up")
            return None
        return self.sender.transmit(now, out)

    # --- time ------------------------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `expire` is due, seconds."""
        due = self.paths.judging.deadline()
        if not self.in_ready:
            # Who waits for its turn to send needs no reminder: asked at every turn, many would cost their square.
            for at in (self.acks.at, self.sender.ready_at):
                if at is not None and at < due:
                    due = at
        for at in (self.retire_at, self.epochs.deadline()):
            if at is not None and at < due:
                due = at
        connection, epochs = self.connection, self.epochs
        if connection is not None and connection.session is self:
            at = self._keepalive_at(connection)
            if at is not None and at < due:
                due = at
            if connection.keepalive is None:
                due = min(due, self._idle_at(connection))
            if connection.last_used >= epochs.since:
                epochs.use(connection.last_used)
            if self.initiator and epochs.due(epochs.rekey_at):
                due = min(due, epochs.since + limits.REKEY_GAP_SECONDS if self.rekey_wanted else epochs.rekey_at)
        if self.confirmed:
            due = min(due, epochs.hard_at)
            if not self.verified:
                due = min(due, self.created + limits.VERIFY_SECONDS)
        return due if due < float("inf") else None

    def expire(self, now: float) -> None:
        """Acts on every deadline that has passed."""
        self.epochs.expire(now)
        if self._end_is_due(now):
            return
        self.paths.judging.expire(now)
        connection = self.connection
        if self.ended or connection is None or connection.session is not self:
            self.wake()
            return
        at = self._keepalive_at(connection)
        if at is not None and now >= at:
            self.sender.ping_due = True
        if connection.keepalive is None and now >= self._idle_at(connection):
            self.end_idle(now, "idle")
            return
        wanted = self.rekey_wanted and now >= self.epochs.since + limits.REKEY_GAP_SECONDS
        if self.initiator and self.epochs.due(self.epochs.rekey_at if wanted else now):
            self.start_ratchet()
        self.wake()

    def _end_is_due(self, now: float) -> bool:
        """Ends the session if its time is over, for whatever reason."""
        if self.confirmed and self.epochs.exhausted(now):
            self.end_idle(now, "keys used up")
        elif self.confirmed and not self.verified and now >= self.created + limits.VERIFY_SECONDS:
            # Not the peer's fault as far as we know: its connection lives on, and it may try again.
            self.end_idle(now, "no log")
        elif self.retire_at is not None and now >= self.retire_at:
            self._owner.sessions.ended(self, now, CloseCode.SUPERSEDED, "", by_peer=False)
        return self.ended

    def _idle_at(self, connection: Connection) -> float:
        """A PING of the peer counts: it may want the session kept although we do not."""
        return max(connection.last_used, self.kept_at) + limits.IDLE_SECONDS

    def _keepalive_at(self, connection: Connection) -> float | None:
        """When the active path has been silent for long enough to need a PING."""
        path = self.active
        if self.sender.ping_due or path.recovery.outstanding:
            return None
        if connection.keepalive is not None:
            return path.last_sent + connection.keepalive
        at = path.last_sent + limits.PATH_KEEPALIVE_SECONDS
        if connection.streams:
            # Who only receives cannot tell a pause from a NAT that moved, and only it can show the peer where it is
            # now: it asks each time the silence has doubled since the peer last acknowledged something, or asked.
            heard = connection.heard_at
            met = max(self.answered_at, self.kept_at)
            at = min(at, max(heard + limits.QUIET_SECONDS, 2 * met - heard))
        return at if at <= connection.last_used + limits.ACTIVE_SECONDS else None
