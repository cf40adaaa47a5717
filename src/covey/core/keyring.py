"""What is known of other agents' keys: their verified logs, and the newest delegation each was seen with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Final, Literal, NamedTuple

from covey.base.errors import VerifyError
from covey.base.types import Identity
from covey.core.limits import LOGS_LIMIT
from covey.crypto.certificates import Delegation, TransportCertificate, verify_chain
from covey.crypto.events import KeyLog, merge
from covey.wire.handshake import HandshakePayload

__all__ = ["Keyring", "Standing"]

Standing = Literal["holds", "superseded", "revoked"]

_Rank = tuple[int, int]
"""(log sequence, delegation counter): of two delegations the higher is newer (PROTOCOL 2, 3)."""
_NONE: Final[_Rank] = (-1, -1)


class _Chain(NamedTuple):
    """What leads from a log to a transport key. `head` of the log under which the signatures held; b"" for unknown."""

    head: bytes
    delegation: Delegation
    certificate: TransportCertificate


class Keyring:
    """Keeps what it learns of pinned peers, and of as many others as fit.

    `busy` says for whom there is a connection: what is known of them stays, too.
    """

    def __init__(self, busy: Container[Identity]) -> None:
        self._busy = busy
        self._logs: OrderedDict[Identity, KeyLog] = OrderedDict()
        self._pinned: set[Identity] = set()
        self._ranks: dict[Identity, _Rank] = {}
        self._chains: dict[Identity, _Chain] = {}

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
                    self._chains.pop(identity, None)
                    break
        return chosen

    def saw_delegation(self, identity: Identity, sequence: int, counter: int) -> None:
        """A verified record or handshake used this delegation: no lower one is accepted any more."""
        if identity in self._logs:
            self._ranks[identity] = max(self._ranks.get(identity, _NONE), (sequence, counter))

    def standing(self, payload: HandshakePayload) -> Standing:
        """Whether claims that were verified once still are the newest word of that identity, the clock aside."""
        log = self._logs.get(payload.identity)
        if log is None:
            return "holds"
        if log.revoked:
            return "revoked"
        delegation = Delegation.parse(payload.delegation)
        newest = self._ranks.get(payload.identity, _NONE)
        holds = delegation.head == log.head and (log.sequence, delegation.counter) >= newest
        return "holds" if holds else "superseded"

    def admit_delegation(self, log: KeyLog, delegation: Delegation) -> None:
        """A statement outside of a handshake was made under this delegation, and verified under `log`.

        VerifyError (`older-delegation`) if a newer one is known; else no lower one is accepted any more.
        """
        rank = (log.sequence, delegation.counter)
        if rank < self._ranks.get(log.identity, _NONE):
            raise VerifyError("a newer delegation replaced this one", code="older-delegation")
        self.saw_delegation(log.identity, *rank)

    def check(self, payload: HandshakePayload, static: bytes, now_us: int) -> bool:
        """Checks a peer's claims against the key it proved to hold. True if they are fully verified.

        False: they do not contradict each other, but the peer's log must be fetched to follow them to its identity.
        That is so without a log, and when the peer names another head that ours does not outrank: a REVOKE by a thief
        may have been superseded by the owner's ROTATE at the same sequence. VerifyError and ParseError: refused.
        """
        log = self._logs.get(payload.identity)
        chain = self._chain(payload, log)
        if chain.certificate.identity != payload.identity or chain.certificate.public != static:
            raise VerifyError("the certificate is for another identity or key", code="other-identity")
        if log is None or (log.head != payload.log_head and log.sequence <= payload.log_sequence):
            chain.certificate.verify(chain.delegation, now_us)
            return False
        self._follow(chain, log, now_us)
        return True

    def check_chain(self, payload: HandshakePayload, log: KeyLog, now_us: int) -> None:
        """Follows a peer's claims to its identity. VerifyError if they do not lead there, or are out of date."""
        self._follow(self._chain(payload, log), log, now_us)

    def until_us(self, payload: HandshakePayload) -> int:
        """When claims end that were verified: wall microseconds."""
        chain = self._chain(payload, self._logs.get(payload.identity))
        return min(chain.certificate.until_us, chain.delegation.until_us)

    def _chain(self, payload: HandshakePayload, log: KeyLog | None) -> _Chain:
        """The claims taken apart: those that were followed before if they are the same, byte for byte."""
        known = self._chains.get(payload.identity)
        if (
            known is not None
            and log is not None
            and known.head == log.head
            and known.delegation.raw == payload.delegation
            and known.certificate.raw == payload.certificate
        ):
            return known
        return _Chain(b"", Delegation.parse(payload.delegation), TransportCertificate.parse(payload.certificate))

    def _follow(self, chain: _Chain, log: KeyLog, now_us: int) -> None:
        delegation, certificate = chain.delegation, chain.certificate
        if chain.head:
            # The signatures are as good as they were: only time can have changed something.
            delegation.check_life(now_us)
            certificate.check_life(now_us)
        else:
            verify_chain(log, delegation, certificate, now_us)
        self.admit_delegation(log, delegation)
        if log.identity in self._logs:
            self._chains[log.identity] = _Chain(log.head, delegation, certificate)
