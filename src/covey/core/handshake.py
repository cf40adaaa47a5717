"""Handshakes until keys exist: our attempts, and the half-open ones of others (PROTOCOL 10 to 12).

Nothing here changes a session or a connection. An initiation from a stranger costs one MAC, then (if the MAC is
right, and under load if it is the stranger's turn) the Noise computations and one half-open entry of bounded number
and life.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from covey.base.errors import LimitError, ParseError, VerifyError
from covey.base.types import Identity
from covey.core import limits
from covey.core.path import Route
from covey.crypto.cookie import COOKIE_SECONDS, cookie_key, mac2, open_cookie
from covey.crypto.credentials import Credentials, TransportPair
from covey.crypto.keys import TransportKey
from covey.crypto.mac import mac1, mac1_key, same
from covey.crypto.noise import HandshakeState
from covey.wire.datagram import CookieReply, Initiation, Response
from covey.wire.handshake import HandshakePayload

if TYPE_CHECKING:
    from covey.core.session import Session

__all__ = [
    "Accepted",
    "Attempt",
    "Established",
    "HalfOpenTable",
    "Target",
    "matching_key",
    "own_payload",
]

NO_PSK: Final = bytes(32)
NO_PSK_TAG: Final = bytes(8)
PADDED_PAYLOAD: Final = 1000
_TRIES_KEPT: Final = 8
"""Tries of an attempt whose answer may still be on its way."""
PATTERN: Final = "IKpsk2"


def prologue(responder: Identity) -> bytes:
    """PROTOCOL 10."""
    return b"covey 1\0" + responder


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to reach: identity and current transport key, from a verified record."""

    identity: Identity
    transport_key: bytes


class Established(NamedTuple):
    """A finished handshake: what a session is made of."""

    keys: tuple[bytes, bytes]
    chaining_key: bytes
    handshake_hash: bytes
    payload: HandshakePayload
    certified_key: bytes
    own_certificate: bytes
    """Of the transport key of ours that was used, as signed."""
    local_index: int
    peer_index: int


class Accepted(NamedTuple):
    """A half-open handshake: the answer to send, and what a session is made of if it is confirmed."""

    response: bytes
    established: Established
    local_half: bytes
    verified: bool
    """The peer's chain was followed to its identity; otherwise its log must be fetched."""


class _Entry(NamedTuple):
    at: float
    accepted: Accepted

    @property
    def local_index(self) -> int:
        return self.accepted.established.local_index


def own_payload(credentials: Credentials, pair: TransportPair, timestamp: int, half: bytes) -> HandshakePayload:
    """What we say of ourselves: `timestamp` is 0 in message 2, `pair` the transport key that is in use."""
    return HandshakePayload(
        timestamp,
        half,
        credentials.identity,
        credentials.log.sequence,
        credentials.log.head,
        credentials.delegation.raw,
        pair.certificate.raw,
    )


class _Try(NamedTuple):
    receiver: int
    mac1: bytes
    state: HandshakeState
    certificate: bytes


class _Cookie(NamedTuple):
    value: bytes
    until: float


@dataclass(slots=True)
class Attempt:
    """Our handshake with one target, over any number of routes, retried with fresh keys until it is answered."""

    target: Target
    half: bytes
    routes: list[Route]
    started: float
    retry_at: float
    tries: list[_Try] = field(default_factory=list)
    session: Session | None = None
    """What came of it, until the peer is verified."""
    delay: float = limits.HANDSHAKE_RETRY
    message: bytes = b""
    """The newest message 1, up to and with mac1."""
    cookies: dict[Route, _Cookie] = field(default_factory=dict)
    proving: set[Route] = field(default_factory=set)
    """Routes on which a cookie came since the last retry."""
    false_answers: int = 0
    """Since the last retry."""

    def initiate(
        self,
        now: float,
        credentials: Credentials,
        ephemeral: TransportKey,
        index: int,
        timestamp: int,
    ) -> None:
        """Makes the next message 1, the same for every route but for its mac2."""
        pair = credentials.current
        state = HandshakeState(
            PATTERN,
            True,
            prologue(self.target.identity),
            pair.key,
            ephemeral,
            self.target.transport_key,
            NO_PSK,
        )
        payload = own_payload(credentials, pair, timestamp, self.half).encode(PADDED_PAYLOAD)
        prefix = Initiation.prefix(index, NO_PSK_TAG, state.write_message(payload))
        tag = mac1(mac1_key(self.target.transport_key), prefix)
        self.tries = [*self.tries[-_TRIES_KEPT + 1 :], _Try(index, tag, state, pair.certificate.raw)]
        self.message = prefix + tag

    def postpone(self, now: float) -> None:
        """Every route was tried: the next retry, twice as late."""
        self.retry_at = now + self.delay
        self.delay = min(2 * self.delay, limits.HANDSHAKE_RETRY_LIMIT)
        self.proving.clear()
        self.false_answers = 0

    def datagram(self, now: float, route: Route) -> bytes:
        """The newest message 1 for one route, with the proof of where we are if the responder asked for it there."""
        cookie = self.cookies.get(route)
        if cookie is None or now >= cookie.until:
            return Initiation.finish(self.message)
        return Initiation.finish(self.message, mac2(cookie.value, self.message))

    def take_cookie(self, now: float, reply: CookieReply, index: int, route: Route) -> bool:
        """A cookie for one of our tries. True if it is worth a try now; CryptoError if it does not open."""
        tried = next((each for each in self.tries if each.receiver == index), None)
        if tried is None or route not in self.routes or route in self.proving:
            return False
        value = open_cookie(cookie_key(self.target.transport_key), reply.nonce, reply.sealed, tried.mac1)
        self.cookies[route] = _Cookie(value, now + COOKIE_SECONDS)
        self.proving.add(route)
        return True

    def answered(self, now: float, session: Session) -> None:
        """A session is there. If its peer is not verified soon, the attempt goes on."""
        self.session = session
        self.tries = []
        self.delay = limits.HANDSHAKE_RETRY_LIMIT
        self.retry_at = now + self.delay

    def accept(self, response: Response) -> Established:
        """Reads message 2. CoveyError if it is none of ours or false; the attempt goes on."""
        tried = next((each for each in self.tries if each.receiver == response.receiver_index), None)
        if tried is None:
            raise ParseError("no such handshake")
        if self.false_answers >= limits.FALSE_ANSWERS:
            raise LimitError("too many false answers", code="false-answers")
        # On a copy: a forged answer must not spoil the handshake for the true one. It counts until it proves true.
        self.false_answers += 1
        state = tried.state.copy()
        payload = HandshakePayload.parse(state.read_message(response.noise))
        if payload.identity != self.target.identity:
            raise VerifyError("another identity answered", code="other-identity")
        return Established(
            state.split(),
            state.chaining_key,
            state.handshake_hash,
            payload,
            self.target.transport_key,
            tried.certificate,
            tried.receiver,
            response.sender_index,
        )


class HalfOpenTable:
    """Answers initiations. Remembers each for five seconds, so that a repeated message 1 gets the same answer.

    Half of the places are for pinned identities: a stranger that finds the other half taken evicts the oldest stranger.
    Message 1 is told by its mac1, which covers all of it; the same message comes with another mac2 by another way.
    """

    def __init__(self) -> None:
        self._strangers: OrderedDict[bytes, _Entry] = OrderedDict()
        self._pinned: OrderedDict[bytes, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._strangers) + len(self._pinned)

    def repeated(self, tag: bytes) -> bytes | None:
        """The answer to a message 1 with this mac1, if it is still known."""
        entry = self._strangers.get(tag) or self._pinned.get(tag)
        return entry.accepted.response if entry is not None else None

    def accept(
        self,
        now: float,
        now_us: int,
        message: Initiation,
        pair: TransportPair,
        credentials: Credentials,
        half_of: Callable[[Identity], bytes],
        check: Callable[[HandshakePayload, bytes, int], bool],
        last_timestamp: Callable[[Identity, bytes], int],
        ephemeral: TransportKey,
        index: int,
    ) -> Accepted:
        """Computes message 2. Any CoveyError means silence. `pair` is the transport key whose mac1 matched."""
        if message.psk_tag != NO_PSK_TAG:
            raise VerifyError("unknown psk", code="unknown-psk")
        identity = credentials.identity
        state = HandshakeState(PATTERN, False, prologue(identity), pair.key, ephemeral, None, NO_PSK)
        payload = HandshakePayload.parse(state.read_message(message.noise))
        static = state.remote_static
        if static is None or payload.identity == identity:
            raise VerifyError("a handshake with ourselves", code="self")
        if payload.timestamp <= last_timestamp(payload.identity, static):
            raise VerifyError("a replayed initiation", code="replayed")
        verified = check(payload, static, now_us)
        half = half_of(payload.identity)
        noise = state.write_message(own_payload(credentials, pair, 0, half).encode())
        response = Response(index, message.sender_index, noise).encode()
        established = Established(
            state.split(),
            state.chaining_key,
            state.handshake_hash,
            payload,
            static,
            pair.certificate.raw,
            index,
            message.sender_index,
        )
        return Accepted(response, established, half, verified)

    def remember(self, now: float, tag: bytes, accepted: Accepted, *, pinned: bool) -> list[int]:
        """Keeps an answer; the indices of entries that had to go for it."""
        (self._pinned if pinned else self._strangers)[tag] = _Entry(now, accepted)
        gone = []
        if len(self._strangers) > limits.HALF_OPEN_LIMIT // 2:
            gone.append(self._strangers.popitem(last=False)[1].local_index)
        if len(self) > limits.HALF_OPEN_LIMIT:
            gone.append((self._strangers or self._pinned).popitem(last=False)[1].local_index)
        return gone

    def expire(self, now: float) -> list[int]:
        """Forgets entries older than five seconds; their indices."""
        gone = []
        for table in (self._strangers, self._pinned):
            while table and next(iter(table.values())).at + limits.HALF_OPEN_LIFE <= now:
                gone.append(table.popitem(last=False)[1].local_index)
        return gone

    def deadline(self) -> float | None:
        due = None
        for table in (self._strangers, self._pinned):
            for entry in table.values():
                if due is None or entry.at < due:
                    due = entry.at
                break
        return None if due is None else due + limits.HALF_OPEN_LIFE


def matching_key(credentials: Credentials, message: Initiation) -> TransportPair | None:
    """The transport key of ours that mac1 was made for, tried newest first; None means silence."""
    for pair in credentials.transport_keys:
        if same(mac1(mac1_key(pair.key.public), message.authenticated), message.mac1):
            return pair
    return None
