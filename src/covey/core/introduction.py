"""Meeting by a one-time code: two agents that have no record of each other (PROTOCOL 14, ADR 0011).

One side opens a *window* and says its code to the other, who *enters* it. Four datagrams later each has the other's
record and knows that whoever sent it knows the code and holds the record's transport key::

    enters                          window
    GREETING   -> psk, e                       until it is answered, at most `HANDSHAKE_RETRY_LIMIT` apart
               <- e, ee, s, es      REPLY      the same for the same greeting
    PROOF      -> s, se                        until it is confirmed
               <- (empty)           CONFIRMATION

Nothing more: no session comes of it and nothing is trusted by it. The record says whom to shake hands with, and that
handshake, the log behind it and the trust are the business of the machines that always do it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from covey.base.errors import CoveyError, CryptoError, ParseError, StateError, VerifyError
from covey.core import limits
from covey.core.events import Event, Introduced, IntroductionFailed
from covey.core.keyring import Keyring
from covey.core.path import Route
from covey.core.rates import Rates
from covey.crypto.credentials import Credentials, TransportPair
from covey.crypto.keys import TransportKey
from covey.crypto.mac import mac1, same
from covey.crypto.noise import CipherState, HandshakeState
from covey.crypto.one_time_code import CodeKeys
from covey.crypto.record import Record
from covey.wire.handshake import HandshakePayload
from covey.wire.introduction import (
    GREETING,
    GREETING_PAYLOAD,
    PROOF,
    REPLY,
    Confirmation,
    Greeting,
    Proof,
    Reply,
    decode_record,
    encode_record,
)

__all__ = ["Introduction", "IntroductionOwner"]

_PATTERN: Final = "XXpsk0"
_PROLOGUE: Final = b"covey introduction 1\0"
_NO_HALF: Final = bytes(8)
_ROUTES: Final = limits.INTRODUCTION_ROUTES


class IntroductionOwner(Protocol):
    """What an introduction asks of the endpoint it belongs to."""

    credentials: Credentials
    record: bytes
    """Our signed record; b"" for none."""
    keyring: Keyring
    wall: Callable[[], int]

    def random(self, size: int) -> bytes: ...
    def emit(self, event: Event) -> None: ...
    def send(self, route: Route, datagram: bytes) -> None: ...


@dataclass(slots=True)
class _Visit:
    """A greeting with the right mac1, and what we answered."""

    index: int
    peer_index: int
    state: HandshakeState
    reply: bytes


@dataclass(slots=True)
class _Window:
    keys: CodeKeys
    until: float
    visits: dict[bytes, _Visit] = field(default_factory=dict)
    """By the bytes of the greeting: a repeated one gets the same reply and counts once."""


@dataclass(slots=True)
class _Used:
    """The proof that used a window up: while it is repeated, our confirmation was lost."""

    proof: bytes
    confirmation: bytes
    until: float


@dataclass(slots=True)
class _Entry:
    until: float
    routes: list[Route]
    index: int
    state: HandshakeState
    datagram: bytes
    """What is repeated on `routes`: the greeting, then the proof."""
    retry_at: float
    delay: float = limits.HANDSHAKE_RETRY
    record: bytes = b""
    """The other side's, once it replied."""
    confirmation_key: bytes = b""


class Introduction:
    """At most one window and one entry at a time.

    Inputs: `open` and `close`, `enter` and `leave`; `receive` for every datagram of `INTRODUCTION_KINDS`; `deadline`
    and `expire`. `open` and `enter` replace what was there without a word; both need `owner.record` to be set.

    Outputs: datagrams to `owner.send`; in the end one event. `Introduced` once per window or entry. Or
    `IntroductionFailed`: `window-expired`; `too-many-tries` after `INTRODUCTION_TRIES` greetings that knew the code and
    came to nothing; `no-answer`; or the code of the check that a side failed although it knew the code.

    Errors: StateError from `open` and `enter` without a record of ours. `receive` never raises; whatever does not
    verify is dropped without an answer. After the event of a window or entry its keys are forgotten.

    A stranger costs one HMAC inside a window and nothing outside. What is kept is bounded by `INTRODUCTION_TRIES`, and
    one answer goes out at most `SOURCE_RATE` times a second, wherever its question comes from.
    """

    def __init__(self, owner: IntroductionOwner) -> None:
        self._owner = owner
        self._window: _Window | None = None
        self._used: _Used | None = None
        self._entry: _Entry | None = None
        self._rates = Rates(limits.SOURCE_RATE, _ROUTES, limits.INTRODUCTION_TRIES + 1)

    @property
    def is_open(self) -> bool:
        """Whether a window is open."""
        return self._window is not None

    # --- commands ------------------------------------------------------------------------------------------------

    def open(self, now: float, keys: CodeKeys, seconds: float) -> None:
        """Answer whoever knows the code of `keys`, one of them, for `seconds`."""
        self._own()
        self._window = _Window(keys, now + seconds)

    def close(self) -> None:
        """Answer nobody any more. A repeated proof of somebody who was introduced still is."""
        self._window = None

    def enter(self, now: float, keys: CodeKeys, routes: Sequence[Route], seconds: float) -> None:
        """Seek whoever opened the window of `keys`, on all `routes`, for `seconds`."""
        pair, _ = self._own()
        owner = self._owner
        state = HandshakeState(_PATTERN, True, _PROLOGUE, pair.key, TransportKey(owner.random(32)), None, keys.psk)
        index = self._new_index()
        prefix = Greeting.prefix(index, state.write_message(GREETING_PAYLOAD))
        greeting = prefix + mac1(keys.mac1_key, prefix)
        self._entry = entry = _Entry(now + seconds, list(routes)[:_ROUTES], index, state, greeting, now)
        self._repeat(now, entry)

    def add_routes(self, routes: Sequence[Route]) -> None:
        """More places where the window may be, while none has answered. Of too many the oldest are given up."""
        entry = self._entry
        if entry is None or entry.record:
            return
        for route in [route for route in routes if route not in entry.routes][:_ROUTES]:
            entry.routes = [*entry.routes[-_ROUTES + 1 :], route]
            self._owner.send(route, entry.datagram)

    def leave(self) -> None:
        """Seek no longer."""
        self._entry = None

    # --- time ----------------------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `expire` is due, seconds; None for never."""
        times = [each.until for each in (self._window, self._used) if each is not None]
        if self._entry is not None:
            times.append(min(self._entry.until, self._entry.retry_at))
        return min(times, default=None)

    def expire(self, now: float) -> None:
        """Acts on every deadline that has passed."""
        if self._used is not None and now >= self._used.until:
            self._used = None
        if self._window is not None and now >= self._window.until:
            self._fail_window("window-expired")
        entry = self._entry
        if entry is None:
            return
        if now >= entry.until:
            self._fail_entry("no-answer")
        elif now >= entry.retry_at:
            self._repeat(now, entry)

    # --- datagrams -----------------------------------------------------------------------------------------------

    def receive(self, now: float, datagram: memoryview, route: Route) -> None:
        """Any datagram of `INTRODUCTION_KINDS`."""
        try:
            kind = datagram[0]
            if kind == GREETING:
                self._on_greeting(now, datagram, route)
            elif kind == REPLY:
                self._on_reply(now, Reply.parse(datagram), route)
            elif kind == PROOF:
                self._on_proof(now, datagram, route)
            else:
                self._on_confirmation(Confirmation.parse(datagram))
        except CoveyError:
            return

    def _on_greeting(self, now: float, datagram: memoryview, route: Route) -> None:
        window = self._window
        if window is None:
            return
        greeting = Greeting.parse(datagram)
        if not same(mac1(window.keys.mac1_key, greeting.authenticated), greeting.mac1):
            return
        raw = bytes(datagram)
        visit = window.visits.get(raw)
        if visit is None:
            if len(window.visits) >= limits.INTRODUCTION_TRIES:
                self._fail_window("too-many-tries")
                return
            visit = window.visits[raw] = self._visit(window, greeting)
        self._answer(now, route, visit.reply)

    def _visit(self, window: _Window, greeting: Greeting) -> _Visit:
        pair, record = self._own()
        ephemeral = TransportKey(self._owner.random(32))
        state = HandshakeState(_PATTERN, False, _PROLOGUE, pair.key, ephemeral, None, window.keys.psk)
        if any(state.read_message(greeting.noise)):
            raise ParseError("a greeting that says something")
        index = self._new_index()
        reply = Reply(index, greeting.sender_index, state.write_message(encode_record(record)))
        return _Visit(index, greeting.sender_index, state, reply.encode())

    def _on_reply(self, now: float, reply: Reply, route: Route) -> None:
        entry = self._entry
        if entry is None or entry.record or reply.receiver_index != entry.index:
            return
        state = entry.state.copy()  # a forged reply must not spoil the handshake for the true one
        record = decode_record(state.read_message(reply.noise))
        try:
            self._check(record, state)
            _, own = self._own()
        except CoveyError as error:
            # It knows the code and the answer will stay the same: asking again would not help.
            self._fail_entry(error.code)
            return
        entry.datagram = Proof(reply.sender_index, state.write_message(encode_record(own))).encode()
        entry.record, entry.confirmation_key = record, state.split()[1]
        entry.routes, entry.delay = [route], limits.HANDSHAKE_RETRY
        self._repeat(now, entry)

    def _on_proof(self, now: float, datagram: memoryview, route: Route) -> None:
        used = self._used
        if used is not None and datagram == used.proof:
            self._answer(now, route, used.confirmation)
            return
        window = self._window
        if window is None:
            return
        proof = Proof.parse(datagram)
        visit = next((each for each in window.visits.values() if each.index == proof.receiver_index), None)
        if visit is None:
            return
        state = visit.state.copy()
        record = decode_record(state.read_message(proof.noise))
        try:
            self._check(record, state)
        except CoveyError as error:
            self._fail_window(error.code)
            return
        header = Confirmation.head(visit.peer_index)
        confirmation = header + CipherState(state.split()[1]).encrypt(header, b"")
        self._window = None
        self._used = _Used(bytes(datagram), confirmation, now + limits.INTRODUCTION_LINGER)
        self._answer(now, route, confirmation)
        self._owner.emit(Introduced(record, route, opened=True))

    def _on_confirmation(self, confirmation: Confirmation) -> None:
        entry = self._entry
        if entry is None or not entry.record or confirmation.receiver_index != entry.index:
            return
        CipherState(entry.confirmation_key).decrypt(confirmation.header, confirmation.tag)
        self._entry = None
        self._owner.emit(Introduced(entry.record, entry.routes[0], opened=False))

    # --- both sides ------------------------------------------------------------------------------------------------

    def _own(self) -> tuple[TransportPair, bytes]:
        """Our record, and the transport key it names."""
        owner = self._owner
        if owner.record:
            certified = Record.parse(owner.record).certificate.raw
            for pair in owner.credentials.transport_keys:
                if pair.certificate.raw == certified:
                    return pair, owner.record
        raise StateError("this agent has no record to introduce itself with", code="no-record")

    def _check(self, raw: bytes, state: HandshakeState) -> None:
        """The record's claims about itself hold for the key that Noise authenticated. CoveyError if not.

        Its signature is verified with the log, which the session fetches, before anything of it is kept.
        """
        record = Record.parse(raw)
        if record.identity == self._owner.credentials.identity:
            raise VerifyError("an introduction to ourselves", code="self")
        if state.remote_static is None:
            raise CryptoError("no static key")
        claims = HandshakePayload(
            0,
            _NO_HALF,
            record.identity,
            record.head_sequence,
            record.head_digest,
            record.delegation.raw,
            record.certificate.raw,
        )
        self._owner.keyring.check(claims, state.remote_static, self._owner.wall())

    def _new_index(self) -> int:
        return int.from_bytes(self._owner.random(4), "big")

    def _answer(self, now: float, route: Route, datagram: bytes) -> None:
        """What was recorded on the way can be repeated from anywhere, so answers have a rate."""
        if self._rates.take(now, datagram):
            self._owner.send(route, datagram)

    def _repeat(self, now: float, entry: _Entry) -> None:
        for route in entry.routes:
            self._owner.send(route, entry.datagram)
        entry.retry_at = now + entry.delay
        entry.delay = min(2 * entry.delay, limits.HANDSHAKE_RETRY_LIMIT)

    def _fail_window(self, code: str) -> None:
        self._window = None
        self._owner.emit(IntroductionFailed(code, opened=True))

    def _fail_entry(self, code: str) -> None:
        self._entry = None
        self._owner.emit(IntroductionFailed(code, opened=False))
