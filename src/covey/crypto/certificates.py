"""The two statements that lead from a root key to a transport key (DESIGN 3, PROTOCOL 2, 5, 9).

    root key --Delegation--> operational key --TransportCertificate--> X25519 transport key

A delegation names the head of the log it was signed under. Only establishing events (INCEPT, ROTATE) can be
that head, and the newest one rules, so a delegation holds exactly while its head is the log's head: a ROTATE
ends the delegations of the old root, a REVOKE ends all. Both statements are kept and forwarded as the bytes
that were signed (`raw`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.constants import CLOCK_SKEW_SECONDS, TRANSPORT_KEY_LIFE_SECONDS
from covey.base.errors import VerifyError
from covey.base.types import IDENTITY_SIZE, Identity
from covey.crypto.events import KeyLog
from covey.crypto.kdf import HASH_SIZE
from covey.crypto.keys import KEY_SIZE, SIGNATURE_SIZE, SigningKey, verify

__all__ = [
    "CLOCK_SKEW_US",
    "DELEGATION_LIFE_LIMIT_US",
    "DELEGATION_LIFE_US",
    "SECOND_US",
    "TRANSPORT_LIFE_US",
    "Delegation",
    "TransportCertificate",
    "check_life",
    "verify_chain",
]

SECOND_US: Final = 1_000_000
"""Microseconds in a second."""

CLOCK_SKEW_US: Final = CLOCK_SKEW_SECONDS * SECOND_US
"""How far in the future a not-before may lie, microseconds (PROTOCOL 9)."""

DELEGATION_LIFE_US: Final = 30 * 86_400 * SECOND_US
"""How long an operational key is delegated to while the root is at hand, microseconds (DESIGN 3)."""

DELEGATION_LIFE_LIMIT_US: Final = 400 * 86_400 * SECOND_US
"""The longest delegation, for a root that is kept offline, microseconds (PROTOCOL 4)."""

TRANSPORT_LIFE_US: Final = TRANSPORT_KEY_LIFE_SECONDS * SECOND_US
"""The longest life of a transport certificate, microseconds (PROTOCOL 5)."""


def check_life(what: str, from_us: int, until_us: int, now_us: int, limit_us: int) -> None:
    """`VerifyError` unless `what` lives now, and no longer than `limit_us` altogether.

    The clocks may differ by 10 minutes at its beginning (code `not-yet-valid`), by nothing at its end
    (`expired`).
    """
    if not from_us < until_us <= from_us + limit_us:
        raise VerifyError(f"this {what} lives longer than allowed, or not at all", code="bad-life")
    if now_us < from_us - CLOCK_SKEW_US:
        raise VerifyError(
            f"this {what} is not valid yet", code="not-yet-valid", next_step="check the clock: covey doctor"
        )
    if now_us >= until_us:
        raise VerifyError(f"this {what} has expired", code="expired")


@dataclass(frozen=True, slots=True)
class Delegation:
    """The root's word that an operational key speaks for the identity. 152 bytes; of several the highest
    counter wins.

    Times are microseconds since the Unix epoch; valid from `from_us` to just before `until_us`.
    """

    head: bytes = field(repr=False)
    """Digest of the log's last event when this was signed, 32 bytes."""
    counter: int
    operational: bytes = field(repr=False)
    """Ed25519 public key, 32 bytes."""
    from_us: int
    until_us: int
    raw: bytes = field(repr=False)
    """All of it as signed, the signature at its end."""

    SIZE = HASH_SIZE + 8 + KEY_SIZE + 8 + 8 + SIGNATURE_SIZE
    LABEL = "delegation"

    @classmethod
    def make(
        cls,
        root: SigningKey,
        head_digest: bytes,
        counter: int,
        operational_public: bytes,
        from_us: int,
        until_us: int,
    ) -> Delegation:
        """Sign a delegation. `ValueError` for a value that does not fit its field."""
        if len(head_digest) != HASH_SIZE or len(operational_public) != KEY_SIZE:
            raise ValueError("a delegation needs a 32-byte digest and a 32-byte key")
        body = Writer().raw(head_digest).u64(counter).raw(operational_public).u64(from_us).u64(until_us).bytes()
        return cls.parse(body + root.sign(cls.LABEL, body))

    @classmethod
    def parse(cls, raw: bytes) -> Delegation:
        """Take it apart; `ParseError`. Nothing is believed before `verify`."""
        reader = Reader(raw)
        head, counter, operational = reader.take(HASH_SIZE), reader.u64(), reader.take(KEY_SIZE)
        from_us, until_us = reader.u64(), reader.u64()
        reader.take(SIGNATURE_SIZE)
        reader.done()
        return cls(head, counter, operational, from_us, until_us, bytes(raw))

    def verify(self, log: KeyLog, now_us: int) -> None:
        """Return if the owner of `log` made this and it lives at `now_us`, else `VerifyError`.

        Codes: `revoked`; `superseded` (signed under an earlier root); `unknown-head` (the log at hand may be
        old: fetch it); `bad-signature`; `bad-life`, `not-yet-valid`, `expired`.
        """
        if log.revoked:
            raise VerifyError("this identity is revoked", code="revoked")
        if self.head != log.head:
            if self.head in log.digests:
                raise VerifyError("this delegation is from before the root's rotation", code="superseded")
            raise VerifyError("this delegation is from a log we have not seen", code="unknown-head")
        verify(log.root_key, self.LABEL, self.raw[:-SIGNATURE_SIZE], self.raw[-SIGNATURE_SIZE:])
        self.check_life(now_us)

    def check_life(self, now_us: int) -> None:
        """The part of `verify` that time changes, for one that was verified under the same log before."""
        check_life(self.LABEL, self.from_us, self.until_us, now_us, DELEGATION_LIFE_LIMIT_US)


@dataclass(frozen=True, slots=True)
class TransportCertificate:
    """The operational key's word that an X25519 key is the identity's. 144 bytes. Times: `Delegation`."""

    identity: Identity
    public: bytes = field(repr=False)
    """X25519 public key, 32 bytes."""
    from_us: int
    until_us: int
    raw: bytes = field(repr=False)
    """All of it as signed, the signature at its end."""

    SIZE = IDENTITY_SIZE + KEY_SIZE + 8 + 8 + SIGNATURE_SIZE
    LABEL = "transport"

    @classmethod
    def make(
        cls, operational: SigningKey, identity: bytes, public: bytes, from_us: int, until_us: int
    ) -> TransportCertificate:
        """Sign a certificate. `ValueError` for a value that does not fit its field."""
        if len(identity) != IDENTITY_SIZE or len(public) != KEY_SIZE:
            raise ValueError("a transport certificate needs a 32-byte identity and a 32-byte key")
        body = Writer().raw(identity).raw(public).u64(from_us).u64(until_us).bytes()
        return cls.parse(body + operational.sign(cls.LABEL, body))

    @classmethod
    def parse(cls, raw: bytes) -> TransportCertificate:
        """Take it apart; `ParseError`. Nothing is believed before `verify`."""
        reader = Reader(raw)
        identity, public = Identity(reader.take(IDENTITY_SIZE)), reader.take(KEY_SIZE)
        from_us, until_us = reader.u64(), reader.u64()
        reader.take(SIGNATURE_SIZE)
        reader.done()
        return cls(identity, public, from_us, until_us, bytes(raw))

    def verify(self, delegation: Delegation, now_us: int) -> None:
        """Return if the key of `delegation` signed this and it lives at `now_us`, else `VerifyError`.

        Does not look at whether the delegation itself holds, nor at whose it is: that is `verify_chain`.
        """
        body, signature = self.raw[:-SIGNATURE_SIZE], self.raw[-SIGNATURE_SIZE:]
        verify(delegation.operational, self.LABEL, body, signature)
        self.check_life(now_us)

    def check_life(self, now_us: int) -> None:
        """The part of `verify` that time changes, for one that was verified with the same delegation before."""
        check_life("transport certificate", self.from_us, self.until_us, now_us, TRANSPORT_LIFE_US)


def verify_chain(log: KeyLog, delegation: Delegation, certificate: TransportCertificate, now_us: int) -> None:
    """Return if the certified transport key is that of the log's identity at `now_us`, else `VerifyError`."""
    if certificate.identity != log.identity:
        raise VerifyError("this transport certificate is for another identity", code="other-identity")
    delegation.verify(log, now_us)
    certificate.verify(delegation, now_us)
