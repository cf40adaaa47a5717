"""All that happens before a session exists, both ways: whom we call, whom we answer, and records by identity.

::

    handshakes.connect(now, target, half, routes)      # ours: tried again until it is answered, or given up
    handshakes.receive(now, datagram, route)           # every datagram that is no packet
    wait until handshakes.deadline(), then handshakes.expire(now)

What comes of it is said to the owner, as sessions that are there (ours) or half open (of others), attempts that failed
and datagrams to send. No call raises for anything that came from the network: whatever is wrong with it, silence.

What strangers may ask for is looked at in this order, cheapest first::

    length, mac1                      receive: who does not know us, gets nothing
    answered before                   the same answer
    under load: mac2, then the rate   a cookie, or nothing (`admission.py`)
    its turn                          expire: a few milliseconds at a time (`backlog.py`)
    X25519, certificates              one of a bounded number of half-open entries
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from covey.base.errors import CoveyError, VerifyError
from covey.base.types import Endpoint as Address
from covey.base.types import Identity
from covey.core import limits
from covey.core.admission import Admission, Verdict
from covey.core.backlog import Backlog
from covey.core.events import Event, HandshakeConfirmed, RecordReceived
from covey.core.handshake import Attempt, HalfOpenTable, Target, matching_key
from covey.core.keyring import Keyring
from covey.core.path import Route
from covey.core.replays import Replays
from covey.crypto.cookie import COOKIE_NONCE_SIZE, cookie_key, mac2, open_cookie, seal_cookie
from covey.crypto.credentials import Credentials, TransportPair
from covey.crypto.events import KeyLog
from covey.crypto.keys import TransportKey
from covey.crypto.mac import mac1, mac1_key, same
from covey.wire.datagram import (
    COOKIE_REPLY,
    INITIATION,
    MAC_SIZE,
    RECORD_REQUEST,
    RECORD_RESPONSE,
    RESPONSE,
    CookieReply,
    Initiation,
    RecordRequest,
    RecordResponse,
    Response,
)

if TYPE_CHECKING:
    from covey.core.session import Session
    from covey.core.sessions import Sessions

__all__ = ["NO_ANSWER", "Handshakes", "HandshakesOwner"]

NO_ANSWER: Final = "no-answer"
"""Code of an attempt that nobody answered in time."""

_REQUESTS_LIMIT: Final = 256
"""Our own requests for records that may be answered."""


class _Request(NamedTuple):
    """A record that we asked for."""

    identity: Identity
    route: Route
    proved: bool = False
    """It was sent again, with a cookie."""

    def message(self, nonce: bytes) -> bytes:
        prefix = RecordRequest.prefix(nonce, self.identity)
        return prefix + mac1(mac1_key(self.identity), prefix)


class _Work(NamedTuple):
    """What somebody asked of us and may have. `pair`: for an initiation, the key that its mac1 was made for."""

    message: Initiation | RecordRequest
    route: Route
    pair: TransportPair | None


class HandshakesOwner(Protocol):
    """What the handshakes ask of their endpoint."""

    credentials: Credentials
    record: bytes
    """Our signed record; b"" for none."""
    keyring: Keyring
    relays: dict[Address, Identity]
    """Our homes."""
    wall: Callable[[], int]
    clock: Callable[[], float]
    """Seconds, to measure our own work by."""

    @property
    def sessions(self) -> Sessions:
        """Hears what becomes of a handshake."""

    def random(self, size: int) -> bytes: ...
    def emit(self, event: Event) -> None: ...
    def send(self, route: Route, datagram: bytes) -> None: ...
    def own_log(self) -> bytes: ...


class Handshakes:
    """See the module's text for the calls."""

    def __init__(self, owner: HandshakesOwner) -> None:
        self._owner = owner
        self.last_timestamp = 0
        """Timestamp of our newest initiation; persist it, it may never go back."""
        self.replays = Replays()
        self._attempts: dict[Identity, Attempt] = {}
        self._retry_at = float("inf")
        """No attempt is due before."""
        self._tries: dict[int, Attempt] = {}
        self._half_open = HalfOpenTable()
        self._requests: OrderedDict[bytes, _Request] = OrderedDict()
        self._backlog: Backlog[_Work] = Backlog(owner.clock)
        self._admission = Admission(owner.random(32), owner.relays)

    # --- ours ----------------------------------------------------------------------------------------------------

    @property
    def attempts(self) -> int:
        """Handshakes of ours under way."""
        return len(self._attempts)

    @property
    def half_open(self) -> int:
        """Handshakes of others that we answered in the last seconds."""
        return len(self._half_open)

    @property
    def waiting(self) -> int:
        """Requests of others that wait for their turn."""
        return len(self._backlog)

    def loaded(self, now: float) -> bool:
        """Whether others ask for more than there is time for."""
        return self._backlog.loaded(now)

    def trying(self, identity: Identity) -> bool:
        """Whether a handshake of ours with `identity` is under way."""
        return identity in self._attempts

    def connect(self, now: float, target: Target, half: bytes, routes: Sequence[Route]) -> None:
        """Makes sure that one is. With the same target, new routes are added to it; another target replaces it."""
        attempt = self._attempts.get(target.identity)
        if attempt is not None and attempt.target == target:
            fresh = [route for route in routes if route not in attempt.routes]
            attempt.routes += fresh
            self._send(now, attempt, fresh)
            return
        self.cancel(target.identity)
        attempt = Attempt(target, half, list(routes), now, now)
        self._attempts[target.identity] = attempt
        self._retry(now, attempt)
        self._retry_at = min(self._retry_at, attempt.retry_at)

    def cancel(self, identity: Identity) -> None:
        """Our handshake with `identity` is not needed any more, whatever the reason."""
        attempt = self._attempts.pop(identity, None)
        if attempt is not None:
            self._forget_tries(attempt)

    def refused(self, session: Session, code: str) -> None:
        """The peer's claims did not hold after all: if `session` came of our attempt, that failed."""
        attempt = self._attempts.get(session.peer)
        if attempt is not None and attempt.session is session:
            self._fail(session.peer, code)

    def request_record(self, identity: Identity, route: Route) -> None:
        """Asks whoever is at `route` for the record of `identity`, once; `RecordReceived` may follow."""
        nonce = self._owner.random(8)
        request = self._requests[nonce] = _Request(identity, route)
        while len(self._requests) > _REQUESTS_LIMIT:
            self._requests.popitem(last=False)
        self._owner.send(route, RecordRequest.finish(request.message(nonce)))

    def expect(self, address: Address) -> None:
        """A trusted peer was seen there in an earlier life of this node: under load it does not wait with strangers."""
        self._admission.know(Route(0, address))

    # --- everybody's ---------------------------------------------------------------------------------------------

    def receive(self, now: float, datagram: memoryview, route: Route) -> None:
        """Anything but a packet, at least two bytes long."""
        self._backlog.arrived()
        try:
            kind = datagram[0]
            if kind == INITIATION:
                self._on_initiation(now, datagram, route)
            elif kind == RESPONSE:
                self._on_response(now, Response.parse(datagram), route)
            elif kind == COOKIE_REPLY:
                self._on_cookie(now, CookieReply.parse(datagram), route)
            elif kind == RECORD_REQUEST:
                self._on_record_request(now, datagram, route)
            elif kind == RECORD_RESPONSE:
                response = RecordResponse.parse(datagram)
                request = self._requests.pop(response.nonce, None)
                if request is not None:
                    self._owner.emit(RecordReceived(request.identity, response.record, response.log))
        except CoveyError:
            return

    def verify_log(self, now: float, session: Session, raw: bytes) -> KeyLog:
        """The log that the peer of a session sent. VerifyError or ParseError; `too-much` of a source of long logs."""
        owner = self._owner
        known = owner.keyring.log_of(session.peer)
        if known is not None and known.raw == raw:
            return known
        route = session.active.route
        cheap = len(raw) <= limits.ORDINARY_LOG
        if not (cheap or session.initiator) and not self._admission.verifies(now, route, len(raw)):
            raise VerifyError("too many long logs from this address", code="too-much")
        began = owner.clock()
        try:
            return KeyLog.parse(raw)
        finally:
            self._backlog.charge(now, (owner.clock() - began) or len(raw) * limits.LOG_COST)

    def verified(self, session: Session) -> None:
        """The peer of a handshake is who it says: of a pinned one, no older message 1 is accepted any more."""
        identity, key = session.peer, session.certified_key
        if not self._owner.keyring.is_pinned(identity):
            return
        self._admission.know(session.active.route)
        if session.initiator:
            return
        timestamp = self.replays.confirm(identity, key, session.payload.timestamp)
        self._owner.emit(HandshakeConfirmed(identity, key, timestamp))

    def deadline(self) -> float | None:
        """When `expire` is due, seconds; None for never."""
        due = self._half_open.deadline()
        work_at = self._backlog.deadline()
        if work_at is not None and (due is None or work_at < due):
            due = work_at
        if self._attempts and (due is None or self._retry_at < due):
            due = self._retry_at
        return due

    def expire(self, now: float) -> None:
        """Acts on every deadline that has passed."""
        if self._retry_at <= now:
            for attempt in list(self._attempts.values()):
                if attempt.retry_at <= now:
                    self._retry(now, attempt)
            self._retry_at = min((attempt.retry_at for attempt in self._attempts.values()), default=float("inf"))
        for index in self._half_open.expire(now):
            self._owner.sessions.unconfirmed(index)
        self._backlog.run(now, partial(self._answer, now))

    # --- inside --------------------------------------------------------------------------------------------------

    def _on_initiation(self, now: float, datagram: memoryview, route: Route) -> None:
        message = Initiation.parse(datagram)
        pair = matching_key(self._owner.credentials, message)
        if pair is None:
            return
        repeated = self._half_open.repeated(message.mac1)
        if repeated is not None:
            self._owner.send(route, repeated)
        elif self._admitted(now, datagram, message.mac1, pair.key.public, route):
            self._wait_turn(now, _Work(message, route, pair))

    def _on_record_request(self, now: float, datagram: memoryview, route: Route) -> None:
        request = RecordRequest.parse(datagram)
        identity = self._owner.credentials.identity
        if request.identity != identity or not self._owner.record:
            return
        if not same(mac1(mac1_key(identity), request.authenticated), request.mac1):
            return
        if self._admitted(now, datagram, request.mac1, identity, route):
            self._wait_turn(now, _Work(request, route, None))

    def _wait_turn(self, now: float, work: _Work) -> None:
        # Under load this source has proven itself: only it can have asked again.
        again = work.pair is not None and self._backlog.loaded(now)
        key = (work.route, b"" if again else work.message.mac1)
        self._backlog.put(now, work, *self._admission.place(now, work.route), key=key)

    def _admitted(self, now: float, datagram: memoryview, tag: bytes, responder: bytes, route: Route) -> bool:
        """Whether there is time for this. If a proof is missing, asks for it: `responder` is what mac1 was keyed by."""
        if not self._backlog.loaded(now):
            return True
        verdict = self._admission.judge(now, route, datagram)
        if verdict is Verdict.PROVE:
            nonce = self._owner.random(COOKIE_NONCE_SIZE)
            sealed = seal_cookie(cookie_key(responder), nonce, self._admission.cookie(now, route), tag)
            self._owner.send(route, CookieReply(bytes(datagram[4:12]), nonce, sealed).encode())
        return verdict is Verdict.TAKE

    def _answer(self, now: float, work: _Work) -> None:
        """Its turn has come. Whatever is wrong with it: silence."""
        try:
            if isinstance(work.message, RecordRequest):
                record, log = self._owner.record, self._owner.own_log()
                self._owner.send(work.route, RecordResponse(work.message.nonce, record, log).encode())
            elif work.pair is not None:
                self._answer_initiation(now, work.message, work.pair, work.route)
        except CoveyError:
            return

    def _answer_initiation(self, now: float, message: Initiation, pair: TransportPair, route: Route) -> None:
        owner = self._owner
        repeated = self._half_open.repeated(message.mac1)
        if repeated is not None:
            # It came by two ways before its turn.
            owner.send(route, repeated)
            return
        accepted = self._half_open.accept(
            now,
            owner.wall(),
            message,
            pair,
            owner.credentials,
            owner.sessions.half,
            owner.keyring.check,
            self.replays.newest,
            TransportKey(owner.random(32)),
            owner.sessions.new_index(),
        )
        pinned = accepted.verified and owner.keyring.is_pinned(accepted.established.payload.identity)
        for gone in self._half_open.remember(now, message.mac1, accepted, pinned=pinned):
            owner.sessions.unconfirmed(gone)
        owner.sessions.add_half_open(now, accepted, route)
        owner.send(route, accepted.response)

    def _on_response(self, now: float, response: Response, route: Route) -> None:
        attempt = self._tries.get(response.receiver_index)
        if attempt is None:
            return
        owner = self._owner
        established = attempt.accept(response)
        try:
            verified = owner.keyring.check(established.payload, established.certified_key, owner.wall())
        except CoveyError as error:
            # It proved the key we looked for and still contradicts itself: trying again would not help.
            self._fail(attempt.target.identity, error.code)
            return
        session = owner.sessions.answered(now, established, attempt.half, verified, route)
        self._forget_tries(attempt)
        attempt.answered(now, session)
        session.start_ratchet()
        owner.sessions.confirmed(session, now)

    def _on_cookie(self, now: float, reply: CookieReply, route: Route) -> None:
        request = self._requests.get(reply.reference)
        if request is not None:
            if request.proved or request.route != route:
                return
            message = request.message(reply.reference)
            tag = message[-MAC_SIZE:]
            cookie = open_cookie(cookie_key(request.identity), reply.nonce, reply.sealed, tag)
            self._requests[reply.reference] = request._replace(proved=True)
            self._owner.send(route, RecordRequest.finish(message, mac2(cookie, message)))
            return
        index = int.from_bytes(reply.reference[:4], "big")
        attempt = self._tries.get(index)
        if attempt is not None and attempt.take_cookie(now, reply, index, route):
            self._try(now, attempt)
            self._send(now, attempt, (route,))

    def _retry(self, now: float, attempt: Attempt) -> None:
        if now - attempt.started >= limits.HANDSHAKE_GIVE_UP:
            self._fail(attempt.target.identity, NO_ANSWER)
            return
        attempt.postpone(now)
        self._try(now, attempt)
        self._send(now, attempt, attempt.routes)

    def _try(self, now: float, attempt: Attempt) -> None:
        """A new message 1."""
        owner = self._owner
        self.last_timestamp = max(owner.wall(), self.last_timestamp + 1)
        self._forget_tries(attempt)
        key, index = TransportKey(owner.random(32)), owner.sessions.new_index()
        attempt.initiate(now, owner.credentials, key, index, self.last_timestamp)
        for each in attempt.tries:
            self._tries[each.receiver] = attempt

    def _send(self, now: float, attempt: Attempt, routes: Sequence[Route]) -> None:
        for route in routes:
            self._owner.send(route, attempt.datagram(now, route))

    def _fail(self, identity: Identity, code: str) -> None:
        self.cancel(identity)
        self._owner.sessions.attempt_failed(identity, code)

    def _forget_tries(self, attempt: Attempt) -> None:
        for each in attempt.tries:
            self._tries.pop(each.receiver, None)
