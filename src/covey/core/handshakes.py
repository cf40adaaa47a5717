"""All that happens before a session exists, both ways: whom we call, whom we answer, and records by identity.

::

    handshakes.connect(now, target, half, routes)      # ours: tried again until it is answered, or given up
    handshakes.receive(now, datagram, route)           # every datagram that is no packet
    wait until handshakes.deadline(), then handshakes.expire(now)

What comes of it is said to the owner, as sessions that are there (ours) or half open (of others), attempts that failed
and datagrams to send. No call raises for anything that came from the network: whatever is wrong with it, silence.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from covey.base.errors import CoveyError
from covey.base.types import Identity
from covey.core import limits
from covey.core.events import Event, HandshakeConfirmed, RecordReceived
from covey.core.handshake import Accepted, Attempt, Established, HalfOpenTable, Target, matching_key
from covey.core.keyring import Keyring
from covey.core.path import Route
from covey.crypto.credentials import Credentials
from covey.crypto.keys import TransportKey
from covey.crypto.mac import mac1, mac1_key, same
from covey.wire.datagram import (
    INITIATION,
    RECORD_REQUEST,
    RECORD_RESPONSE,
    RESPONSE,
    Initiation,
    RecordRequest,
    RecordResponse,
    Response,
)

if TYPE_CHECKING:
    from covey.core.session import Session

__all__ = ["NO_ANSWER", "Handshakes", "HandshakesOwner"]

NO_ANSWER: Final = "no-answer"
"""Code of an attempt that nobody answered in time."""

_REQUESTS_LIMIT: Final = 256
"""Our own requests for records that may be answered."""


class HandshakesOwner(Protocol):
    """What the handshakes ask of their endpoint."""

    credentials: Credentials
    record: bytes
    """Our signed record; b"" for none."""
    keyring: Keyring
    wall: Callable[[], int]

    def random(self, size: int) -> bytes: ...
    def emit(self, event: Event) -> None: ...
    def send(self, route: Route, datagram: bytes) -> None: ...
    def own_log(self) -> bytes: ...
    def half(self, identity: Identity) -> bytes:
        """Our half of the id of the connection with a peer, or of the one that a handshake with it would begin."""

    def new_index(self) -> int:
        """A receiver index that no session has."""

    def session_answered(
        self, now: float, established: Established, half: bytes, verified: bool, route: Route
    ) -> Session:
        """Our attempt has keys: the session of it, not confirmed to anybody yet."""

    def session_half_open(self, now: float, accepted: Accepted, route: Route) -> None:
        """We answered an initiation: a session that counts for nothing before its first packet."""

    def session_confirmed(self, session: Session, now: float) -> None: ...
    def session_unconfirmed(self, index: int) -> None:
        """A half-open entry is over: so is its session, unless the initiator has confirmed it."""

    def attempt_failed(self, identity: Identity, code: str) -> None: ...


class Handshakes:
    """See the module's text for the calls."""

    def __init__(self, owner: HandshakesOwner) -> None:
        self._owner = owner
        self.last_timestamp = 0
        """Timestamp of our newest initiation; persist it, it may never go back."""
        self.timestamps: dict[tuple[Identity, bytes], int] = {}
        """Replay state of pinned peers: the newest confirmed timestamp per (identity, transport key)."""
        self._attempts: dict[Identity, Attempt] = {}
        self._half_open = HalfOpenTable()
        self._requests: OrderedDict[bytes, Identity] = OrderedDict()

    # --- ours ----------------------------------------------------------------------------------------------------

    @property
    def attempts(self) -> int:
        """Handshakes of ours under way."""
        return len(self._attempts)

    @property
    def half_open(self) -> int:
        """Handshakes of others that we answered in the last seconds."""
        return len(self._half_open)

    def trying(self, identity: Identity) -> bool:
        """Whether a handshake of ours with `identity` is under way."""
        return identity in self._attempts

    def connect(self, now: float, target: Target, half: bytes, routes: Sequence[Route]) -> None:
        """Makes sure that one is. With the same target, new routes are added to it; another target replaces it."""
        attempt = self._attempts.get(target.identity)
        if attempt is not None and attempt.target == target:
            fresh = [route for route in routes if route not in attempt.routes]
            attempt.routes += fresh
            for route in fresh:
                self._owner.send(route, attempt.datagram)
            return
        attempt = Attempt(target, half, list(routes), now, now)
        self._attempts[target.identity] = attempt
        self._retry(now, attempt)

    def cancel(self, identity: Identity) -> None:
        """Our handshake with `identity` is not needed any more, whatever the reason."""
        self._attempts.pop(identity, None)

    def refused(self, session: Session, code: str) -> None:
        """The peer's claims did not hold after all: if `session` came of our attempt, that failed."""
        attempt = self._attempts.get(session.peer)
        if attempt is not None and attempt.session is session:
            self._fail(session.peer, code)

    def request_record(self, identity: Identity, route: Route) -> None:
        """Asks whoever is at `route` for the record of `identity`, once; `RecordReceived` may follow."""
        nonce = self._owner.random(8)
        self._requests[nonce] = identity
        while len(self._requests) > _REQUESTS_LIMIT:
            self._requests.popitem(last=False)
        prefix = RecordRequest.prefix(nonce, identity)
        self._owner.send(route, RecordRequest.complete(prefix, mac1(mac1_key(identity), prefix)))

    # --- everybody's ---------------------------------------------------------------------------------------------

    def receive(self, now: float, datagram: memoryview, route: Route) -> None:
        """Anything but a packet, at least two bytes long."""
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
                    self._owner.emit(RecordReceived(identity, response.record, response.log))
        except CoveyError:
            return

    def verified(self, session: Session) -> None:
        """The peer of a handshake is who it says: of a pinned one, no older message 1 is accepted any more."""
        identity, key = session.peer, session.certified_key
        if session.initiator or not self._owner.keyring.is_pinned(identity):
            return
        timestamp = max(session.payload.timestamp, self.timestamps.get((identity, key), 0))
        self.timestamps[identity, key] = timestamp
        self._owner.emit(HandshakeConfirmed(identity, key, timestamp))

    def deadline(self) -> float | None:
        """When `expire` is due, seconds; None for never."""
        due = self._half_open.deadline()
        for attempt in self._attempts.values():
            if due is None or attempt.retry_at < due:
                due = attempt.retry_at
        return due

    def expire(self, now: float) -> None:
        """Acts on every deadline that has passed."""
        for attempt in list(self._attempts.values()):
            if attempt.retry_at <= now:
                self._retry(now, attempt)
        for index in self._half_open.expire(now):
            self._owner.session_unconfirmed(index)

    # --- inside --------------------------------------------------------------------------------------------------

    def _on_initiation(self, now: float, datagram: memoryview, route: Route) -> None:
        owner = self._owner
        message = Initiation.parse(datagram)
        pair = matching_key(owner.credentials, message)
        if pair is None:
            return
        raw = bytes(datagram)
        repeated = self._half_open.repeated(raw)
        if repeated is not None:
            owner.send(route, repeated)
            return
        index = owner.new_index()
        accepted = self._half_open.accept(
            now,
            owner.wall(),
            message,
            pair,
            owner.credentials,
            owner.half,
            owner.keyring.check,
            lambda identity, key: self.timestamps.get((identity, key), -1),
            TransportKey(owner.random(32)),
            index,
        )
        for gone in self._half_open.remember(now, raw, accepted):
            owner.session_unconfirmed(gone)
        owner.session_half_open(now, accepted, route)
        owner.send(route, accepted.response)

    def _on_response(self, now: float, response: Response, route: Route) -> None:
        for attempt in self._attempts.values():
            if any(each.receiver == response.receiver_index for each in attempt.tries):
                break
        else:
            return
        owner = self._owner
        established = attempt.accept(response)
        try:
            verified = owner.keyring.check(established.payload, established.certified_key, owner.wall())
        except CoveyError as error:
            # It proved the key we looked for and still contradicts itself: trying again would not help.
            self._fail(attempt.target.identity, error.code)
            return
        session = owner.session_answered(now, established, attempt.half, verified, route)
        attempt.answered(now, session)
        session.start_ratchet()
        owner.session_confirmed(session, now)

    def _on_record_request(self, request: RecordRequest, route: Route) -> None:
        owner = self._owner
        identity = owner.credentials.identity
        if request.identity != identity or not owner.record:
            return
        if not same(mac1(mac1_key(identity), request.authenticated), request.mac1):
            return
        owner.send(route, RecordResponse(request.nonce, owner.record, owner.own_log()).encode())

    def _retry(self, now: float, attempt: Attempt) -> None:
        if now - attempt.started >= limits.HANDSHAKE_GIVE_UP:
            self._fail(attempt.target.identity, NO_ANSWER)
            return
        owner = self._owner
        self.last_timestamp = max(owner.wall(), self.last_timestamp + 1)
        datagram = attempt.initiate(
            now, owner.credentials, TransportKey(owner.random(32)), owner.new_index(), self.last_timestamp
        )
        for route in attempt.routes:
            owner.send(route, datagram)

    def _fail(self, identity: Identity, code: str) -> None:
        del self._attempts[identity]
        self._owner.attempt_failed(identity, code)
