"""The control messages of a session: what two peers say to each other in the CRYPTO stream, acted on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from covey.base.errors import ParseError
from covey.core.events import RelayingTold, RelaysTold
from covey.wire import control, relay
from covey.wire.birthday import Birthday

if TYPE_CHECKING:
    from covey.core.session import Session, SessionOwner

__all__ = ["ControlMessages"]


class ControlMessages:
    """`on_crypto` for what arrived; `tell_heard` once the peer is verified. Raises ParseError and VerifyError."""

    __slots__ = ("_heard", "_log_served", "_owner", "_session")

    def __init__(self, session: Session, owner: SessionOwner) -> None:
        self._session = session
        self._owner = owner
        self._log_served = False
        self._heard: dict[int, relay.Relaying | dict[bytes, int]] = {}
        """The peer's words about relays, until it is verified."""

    def on_crypto(self, now: float, offset: int, data: memoryview) -> None:
        session = self._session
        for kind, body in session.crypto.receive(offset, data):
            self._on_control(now, kind, body)
            if session.ended:
                return

    def tell_heard(self) -> None:
        """The peer's identity is proven: what it said before counts now."""
        for kind in list(self._heard):
            self._tell(kind)

    def _on_control(self, now: float, kind: int, body: bytes) -> None:
        session = self._session
        if kind == control.OFFER:
            session.send_control(control.ANSWER, session.epochs.on_offer(body, now))
        elif kind == control.ANSWER:
            session.epochs.on_answer(body, now)
            session.switched()
        elif kind == control.WANT_REKEY:
            # One that crossed our offer is met by it.
            session.rekey_wanted = session.initiator and not session.epochs.offered
        elif kind == control.LOG_REQUEST:
            if not self._log_served:
                self._log_served = True
                session.crypto.send_log(self._owner.own_log())
                session.wake()
        elif kind == control.LOG:
            raw = session.crypto.take_log(body)
            if raw is not None:
                self._owner.sessions.log_received(session, raw, now)
        elif kind == control.CANDIDATES:
            session.paths.on_candidates(now, control.Candidates.parse(body))
        elif kind == control.SEEN:
            session.paths.on_seen(control.parse_seen(body))
        elif kind == control.BIRTHDAY:
            message, connection = Birthday.parse(body), session.connection
            current = connection.session if connection is not None else None
            (current or session).paths.proving.guessing.on_message(now, message)
        elif kind in (control.RELAYING, control.RELAYS, control.GONE):
            self._on_relay_control(kind, body)
        else:
            raise ParseError("unknown control message")

    def _on_relay_control(self, kind: int, body: bytes) -> None:
        session = self._session
        if kind == control.GONE:
            circuit = relay.parse_gone(body)
            if session.verified:
                self._owner.relays_used.circuit_gone(session.peer, circuit)
            return
        self._heard[kind] = relay.Relaying.parse(body) if kind == control.RELAYING else relay.parse_relays(body)
        self._tell(kind)

    def _tell(self, kind: int) -> None:
        """What the peer said about relays, once it is known who it is."""
        session = self._session
        if session.verified and session.connection is not None:
            heard = self._heard.pop(kind)
            told = RelayingTold if isinstance(heard, relay.Relaying) else RelaysTold
            self._owner.emit(told(session.connection, heard))  # type: ignore[arg-type]
