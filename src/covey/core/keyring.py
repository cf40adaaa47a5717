"""What is known of other agents' keys: their verified logs, and the newest delegation each was seen with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Final

from covey.base.errors import VerifyError
from covey.base.types import Identity
from covey.core.limits import LOGS_LIMIT
from covey.crypto.certificates import Delegation, TransportCertificate, verify_chain
from covey.crypto.events import KeyLog, merge
from covey.wire.handshake import HandshakePayload

__all__ = ["Keyring"]

_Rank = tuple[int, int]
"""(log sequence, delegation counter): of two delegations the higher is newer (PROTOCOL 2, 3)."""
_NONE: Final[_Rank] = (-1, -1)


class Keyring:
    """Keeps what it learns of pinned peers, and of as many others as fit.

    `busy` says for whom there is a connection: what is known of them stays, too.
    """

    def __init__(self, busy: Container[Identity]) -> None:
        self._busy = busy
        self._logs: OrderedDict[Identity, KeyLog] = OrderedDict()
        self._pinned: set[Identity] = set()
        self._ranks: dict[Identity, _Rank] = {}

    def pin(self, identity: Identity, *, pinned: bool = True) -> None:
        (self._pinned.add if pinned else self._pinned.discard)(identity)

    def is_pinned(self, identity: Identity) -> bool:
        return identity in self._pinned

    def log_of(self, identity: Identity) -> KeyLog | None:
        return self._logs.get(identity)

    def add(self, log: KeyLog) -> KeyLog:
        """Merges a verified log with the one that is known (PROTOCOL 4); what is believed from now on."""
        known = self._logs.get(log.identity)
        self._logs[log.identity] = chosen = log if known is None else merge(known, log)
        self._logs.move_to_end(log.identity)
        if len(self._logs) > LOGS_LIMIT + len(self._pinned):
            for identity in self._logs:
                if identity not in self._pinned and identity not in self._busy:
                    del self._logs[identity]
                    self._ranks.pop(identity, None)
                    break
        return chosen

    def saw_delegation(self, identity: Identity, sequence: int, counter: int) -> None:
        """A verified record or handshake used this delegation: no lower one is accepted any more."""
        if identity in self._logs:
            self._ranks[identity] = max(self._ranks.get(identity, _NONE), (sequence, counter))

    def check(self, payload: HandshakePayload, static: bytes, now_us: int) -> bool:
        """Checks a peer's claims against the key it proved to hold. True if they are fully verified.

        False: they do not contradict each other, but the peer's log must be fetched to follow them to its identity.
        That is so without a log, and when the peer names another head that ours does not outrank: a REVOKE by a thief
        may have been superseded by the owner's ROTATE at the same sequence. VerifyError and ParseError: refused.
        """
        certificate = TransportCertificate.parse(payload.certificate)
        delegation = Delegation.parse(payload.delegation)
        if certificate.identity != payload.identity or certificate.public != static:
            raise VerifyError("the certificate is for another identity or key", code="other-identity")
        certificate.verify(delegation, now_us)
        log = self._logs.get(payload.identity)
        if log is None or (log.head != payload.log_head and log.sequence <= payload.log_sequence):
            return False
        self.check_chain(payload, log, now_us)
        return True

    def check_chain(self, payload: HandshakePayload, log: KeyLog, now_us: int) -> None:
        """Follows a peer's claims to its identity. VerifyError if they do not lead there, or are out of date."""
        delegation = Delegation.parse(payload.delegation)
        verify_chain(log, delegation, TransportCertificate.parse(payload.certificate), now_us)
        rank = (log.sequence, delegation.counter)
        if rank < self._ranks.get(payload.identity, _NONE):
            raise VerifyError("a newer delegation replaced this one", code="older-delegation")
        self.saw_delegation(payload.identity, *rank)
