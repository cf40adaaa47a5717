"""The key-event log: what an identity is (DESIGN 3, PROTOCOL 1 to 4).

    INCEPT  root key R0, commitment to R1             signed by R0
    ROTATE  reveals R(n+1), commitment to R(n+2)      signed by R(n+1)
    REVOKE  nothing                                   signed by the root in force; nothing may follow

A log is INCEPT, then any number of ROTATEs, then at most one REVOKE. Each event names its sequence and the
digest of the event before it. A commitment is the digest of a public key that nobody has seen yet: whoever
steals a root can revoke (and be superseded), never rotate. An event has one root key: signing with several
would cost each delegation, and so each record of 1000 bytes, 64 bytes for every further signature, and people
who want several holders of a root split its seed instead. Exact layouts are in `docs/protocol.md`.

identity = digest of INCEPT; digests leave the signature out, so an event signed twice is still one event.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.constants import LOG_LIMIT
from covey.base.errors import LimitError, ParseError, StateError, UsageError, VerifyError
from covey.base.types import Identity
from covey.crypto.kdf import HASH_SIZE
from covey.crypto.keys import KEY_SIZE, SIGNATURE_SIZE, SigningKey, signed_bytes, verify

__all__ = [
    "COMMITMENT_SIZE",
    "EVENT_LIMIT",
    "EventKind",
    "KeyLog",
    "commitment",
    "incept",
    "merge",
    "revoke",
    "rotate",
]

COMMITMENT_SIZE: Final = HASH_SIZE
"""Bytes of the digest of a key that is not revealed yet."""

EVENT_LIMIT: Final = 256
"""Events in a log: enough for a rotation every month for 21 years, and 16 ms to verify."""

_LABEL: Final = "event"


class EventKind(IntEnum):
    """The first byte of an event."""

    INCEPT = 1
    ROTATE = 2
    REVOKE = 3


@dataclass(frozen=True, slots=True)
class KeyLog:
    """A verified log. Only the functions of this module make one, so whoever has one may rely on it."""

    identity: Identity
    raw: bytes = field(repr=False)
    """The events as they were signed, each in front of its two-byte length."""
    root_key: bytes = field(repr=False)
    """The Ed25519 public key in force."""
    next_commitment: bytes = field(repr=False)
    """The digest of the key that the next ROTATE must reveal."""
    digests: tuple[bytes, ...] = field(repr=False)
    """The digest of every event, by sequence; the first is the identity."""
    revoked: bool
    forked: bool = False
    """Set by `merge` when the identity's owner, or a thief of two keys, rotated two ways: no new trust
    (PROTOCOL 4). Not part of `raw`: whoever stores a log stores this beside it."""

    @property
    def sequence(self) -> int:
        """The sequence of the last event; 0 after INCEPT."""
        return len(self.digests) - 1

    @property
    def head(self) -> bytes:
        """The digest of the last event, 32 bytes."""
        return self.digests[-1]

    @classmethod
    def parse(cls, raw: bytes) -> KeyLog:
        """Check every byte, link and signature of a log. `ParseError` or `VerifyError`, nothing else."""
        if len(raw) > LOG_LIMIT:
            raise ParseError(f"a key-event log of {len(raw)} bytes, at most {LOG_LIMIT} allowed")
        reader = Reader(raw)
        log = _parse_incept(reader.block16())
        while reader.remaining:
            if len(log.digests) == EVENT_LIMIT:
                raise ParseError(f"a key-event log of more than {EVENT_LIMIT} events")
            log = _parse_next(log, reader.block16())
        return log


def commitment(next_public: bytes) -> bytes:
    """The 32-byte digest that commits to a root public key (32 bytes) without showing it."""
    if len(next_public) != KEY_SIZE:
        raise ValueError("a root public key has 32 bytes")
    return hashlib.sha256(b"covey commitment 1\0" + next_public).digest()


def incept(root: SigningKey, next_commitment: bytes) -> KeyLog:
    """The first event of a new identity. `next_commitment` comes from `commitment`."""
    body = Writer().u8(EventKind.INCEPT).raw(root.public).raw(_digest(next_commitment)).bytes()
    return _parse_incept(body + root.sign(_LABEL, body))


def rotate(log: KeyLog, revealed_next: SigningKey, next_commitment: bytes) -> KeyLog:
    """The log with a ROTATE to the committed key.

    Also works on a log whose last event is a REVOKE: the ROTATE takes its place and supersedes it (PROTOCOL
    4). `VerifyError` if `revealed_next` is not the committed key, `LimitError` if the log is full.
    """
    base = _without_revoke(log)
    return _append(base, EventKind.ROTATE, revealed_next, revealed_next.public + _digest(next_commitment))


def revoke(log: KeyLog, root: SigningKey) -> KeyLog:
    """The log, ended. `UsageError` if `root` is not the key in force, `StateError` if it has ended."""
    if log.revoked:
        raise StateError("this identity is revoked already")
    if root.public != log.root_key:
        raise UsageError("this is not the root key in force", code="wrong-root")
    return _append(log, EventKind.REVOKE, root, b"")


def merge(known: KeyLog, offered: KeyLog) -> KeyLog:
    """Which of two logs of one identity to believe from now on (PROTOCOL 4).

    ========================================  =========================================================
    `offered` against `known`                 result
    ========================================  =========================================================
    the same, or a beginning of it            `known`: a rollback is ignored
    continues it                              `offered`
    ROTATE where `known` has REVOKE           `offered`: the committed key supersedes the old root
    REVOKE where `known` has ROTATE           `known`, for the same reason
    another ROTATE at the same sequence       `known`, with `forked` set: first seen stays, no new trust
    ========================================  =========================================================

    `forked` never goes away. `VerifyError` if the identities differ.
    """
    if known.identity != offered.identity:
        raise VerifyError("logs of two identities", code="other-identity")
    common = next(
        (at for at, (old, new) in enumerate(zip(known.digests, offered.digests, strict=False)) if old != new),
        min(len(known.digests), len(offered.digests)),
    )
    forked = known.forked or offered.forked
    if common == len(offered.digests):
        chosen = known
    elif common == len(known.digests) or (known.revoked and common == known.sequence):
        chosen = offered
    else:
        chosen = known
        # Two different events at one sequence: only a REVOKE of the old root is simply superseded.
        forked = forked or not (offered.revoked and common == offered.sequence)
    return chosen if chosen.forked == forked else replace(chosen, forked=forked)


def _digest(value: bytes) -> bytes:
    if len(value) != COMMITMENT_SIZE:
        raise ValueError("a commitment has 32 bytes")
    return value


def _event_digest(body: bytes) -> bytes:
    return hashlib.sha256(signed_bytes(_LABEL, body)).digest()


def _parse_incept(event: bytes) -> KeyLog:
    reader = Reader(event)
    if reader.u8() != EventKind.INCEPT:
        raise ParseError("a key-event log begins with INCEPT")
    root, next_commitment = reader.take(KEY_SIZE), reader.take(COMMITMENT_SIZE)
    body = event[: reader.position]
    signature = reader.take(SIGNATURE_SIZE)
    reader.done()
    verify(root, _LABEL, body, signature)
    identity = Identity(hashlib.sha256(signed_bytes("identity", body)).digest())
    return KeyLog(identity, Writer().block16(event).bytes(), root, next_commitment, (identity,), revoked=False)


def _parse_next(log: KeyLog, event: bytes) -> KeyLog:
    reader = Reader(event)
    kind, sequence, previous = reader.u8(), reader.u32(), reader.take(HASH_SIZE)
    root, next_commitment = log.root_key, log.next_commitment
    if kind == EventKind.ROTATE:
        root, next_commitment = reader.take(KEY_SIZE), reader.take(COMMITMENT_SIZE)
    elif kind != EventKind.REVOKE:
        raise ParseError(f"key event of kind {kind}")
    body = event[: reader.position]
    signature = reader.take(SIGNATURE_SIZE)
    reader.done()
    if log.revoked:
        raise VerifyError("nothing may follow a REVOKE", code="revoked")
    if sequence != len(log.digests) or previous != log.head:
        raise VerifyError("a key event that does not link to the one before it", code="bad-link")
    if kind == EventKind.ROTATE and commitment(root) != log.next_commitment:
        raise VerifyError("a ROTATE that does not reveal the committed key", code="not-committed")
    verify(root, _LABEL, body, signature)
    return replace(
        log,
        raw=log.raw + Writer().block16(event).bytes(),
        root_key=root,
        next_commitment=next_commitment,
        digests=(*log.digests, _event_digest(body)),
        revoked=kind == EventKind.REVOKE,
    )


def _append(log: KeyLog, kind: EventKind, signer: SigningKey, rest: bytes) -> KeyLog:
    if len(log.digests) == EVENT_LIMIT:
        raise LimitError(f"a key-event log holds at most {EVENT_LIMIT} events")
    body = Writer().u8(kind).u32(len(log.digests)).raw(log.head).raw(rest).bytes()
    return _parse_next(log, body + signer.sign(_LABEL, body))


def _without_revoke(log: KeyLog) -> KeyLog:
    if not log.revoked:
        return log
    reader = Reader(log.raw)
    for _ in range(log.sequence):
        reader.block16()
    return replace(KeyLog.parse(log.raw[: reader.position]), forked=log.forked)
