"""The record: how to reach an agent, signed by it and served by anybody (DESIGN 3, PROTOCOL 2, 3).

A record is at most 1000 bytes, holds no private IP address and lives at most 24 hours; an expired one is
still a hint where to ask. It is stored and forwarded as the bytes that were signed. An agent that opts in as
publicly reachable names itself as a home. The exact layout is in `docs/protocol.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.constants import RECORD_LIFE_SECONDS, RECORD_LIMIT
from covey.base.errors import LimitError, ParseError, UsageError, VerifyError
from covey.base.types import IDENTITY_SIZE, Address, Identity, check_name, endpoint_text, parse_endpoint
from covey.crypto.address import address
from covey.crypto.certificates import (
    CLOCK_SKEW_US,
    SECOND_US,
    Delegation,
    TransportCertificate,
    check_life,
    verify_chain,
)
from covey.crypto.events import KeyLog
from covey.crypto.kdf import HASH_SIZE
from covey.crypto.keys import SIGNATURE_SIZE, SigningKey, verify

__all__ = [
    "ENDPOINT_TEXT_LIMIT",
    "FLAG_UNLISTED",
    "HOME_ENDPOINTS_LIMIT",
    "HOME_LIMIT",
    "NO_MAILBOX",
    "RECORD_LIFE_US",
    "TAG_LIMIT",
    "Home",
    "Record",
]

HOME_LIMIT: Final = 3
"""Rendezvous in a record (two is usual)."""

HOME_ENDPOINTS_LIMIT: Final = 2
"""Endpoints of one home: IPv4 and IPv6."""

ENDPOINT_TEXT_LIMIT: Final = 64
"""Bytes of one endpoint's text: an IPv6 endpoint needs 47, the rest is for host names."""

TAG_LIMIT: Final = 8
"""Tags in a record, at most 32 bytes each."""

NO_MAILBOX: Final = bytes(HASH_SIZE)
"""The mailbox digest of an agent without a mailbox key."""

FLAG_UNLISTED: Final = 1
"""Bit 0 of `flags`: found by identity or invitation only (DESIGN 7). The other bits are zero."""

RECORD_LIFE_US: Final = RECORD_LIFE_SECONDS * SECOND_US
"""The longest life of a record, microseconds (PROTOCOL 3)."""

_HOST = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=+@-]{0,31}")
_LABEL: Final = "record"


@dataclass(frozen=True, slots=True)
class Home:
    """A rendezvous that knows the way to the agent, and where it listens (`HOST:PORT`, at most two)."""

    identity: Identity
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One agent's record, taken apart. `parse` checks only its form, `verify` who made it and when."""

    identity: Identity
    address_nonce: int
    head_sequence: int
    head_digest: bytes = field(repr=False)
    delegation: Delegation
    certificate: TransportCertificate
    homes: tuple[Home, ...]
    name: str
    """What the agent calls itself, "" for nothing. A hint until trust is agreed (PROTOCOL 7)."""
    tags: tuple[str, ...]
    """Sorted, no duplicates: a set has one encoding."""
    mailbox_key_digest: bytes = field(repr=False)
    """SHA-256 of the signed mailbox key, or `NO_MAILBOX`."""
    flags: int
    nat_class: int
    """One byte, given its meaning by `core`."""
    sequence: int
    """Wall microseconds when it was made."""
    expires_us: int
    raw: bytes = field(repr=False)

    @classmethod
    def make(
        cls,
        operational: SigningKey,
        log: KeyLog,
        delegation: Delegation,
        certificate: TransportCertificate,
        *,
        address_nonce: int,
        sequence: int,
        expires_us: int,
        homes: Iterable[Home] = (),
        name: str = "",
        tags: Iterable[str] = (),
        mailbox_key_digest: bytes = NO_MAILBOX,
        flags: int = 0,
        nat_class: int = 0,
    ) -> Record:
        """Sign a record. `sequence` is wall microseconds, above every one used before.

        `UsageError` for a name, tag, home or endpoint that a record cannot hold, `LimitError` if it all is
        over 1000 bytes, `ValueError` for a number or digest that does not fit its field.
        """
        if len(mailbox_key_digest) != HASH_SIZE:
            raise ValueError("a mailbox key digest has 32 bytes")
        if operational.public != delegation.operational or certificate.identity != log.identity:
            raise UsageError("these keys do not belong together", code="mismatched-keys")
        writer = Writer().raw(log.identity).u8(address_nonce).u32(log.sequence).raw(log.head)
        writer.block16(delegation.raw).block16(certificate.raw)
        _write_homes(writer, tuple(homes))
        writer.text8(check_name(name) if name else "")
        _write_tags(writer, sorted(set(tags)))
        writer.raw(mailbox_key_digest).u8(flags).u8(nat_class).u64(sequence).u64(expires_us)
        body = writer.bytes()
        raw = body + operational.sign(_LABEL, body)
        if len(raw) > RECORD_LIMIT:
            raise LimitError(
                f"the record would have {len(raw)} bytes, at most {RECORD_LIMIT} fit",
                next_step="use fewer or shorter tags, or fewer homes",
            )
        return cls.parse(raw)

    @classmethod
    def parse(cls, raw: bytes) -> Record:
        """Take foreign bytes apart; `ParseError` and nothing else."""
        if len(raw) > RECORD_LIMIT:
            raise ParseError(f"a record of {len(raw)} bytes, at most {RECORD_LIMIT} allowed")
        reader = Reader(raw)
        identity, nonce = Identity(reader.take(IDENTITY_SIZE)), reader.u8()
        head_sequence, head_digest = reader.u32(), reader.take(HASH_SIZE)
        delegation = Delegation.parse(reader.block16())
        certificate = TransportCertificate.parse(reader.block16())
        homes = _read_homes(reader)
        name = _read_name(reader)
        tags = _read_tags(reader)
        mailbox_key_digest, flags, nat_class = reader.take(HASH_SIZE), reader.u8(), reader.u8()
        if flags & ~FLAG_UNLISTED:
            raise ParseError(f"unknown record flags {flags:#04x}")
        sequence, expires_us = reader.u64(), reader.u64()
        reader.take(SIGNATURE_SIZE)
        reader.done()
        return cls(
            identity=identity,
            address_nonce=nonce,
            head_sequence=head_sequence,
            head_digest=head_digest,
            delegation=delegation,
            certificate=certificate,
            homes=homes,
            name=name,
            tags=tags,
            mailbox_key_digest=mailbox_key_digest,
            flags=flags,
            nat_class=nat_class,
            sequence=sequence,
            expires_us=expires_us,
            raw=bytes(raw),
        )

    @property
    def order(self) -> tuple[int, int, int]:
        """Of two records of one identity the greater is newer; never go back to a lower (PROTOCOL 3)."""
        return self.head_sequence, self.delegation.counter, self.sequence

    @property
    def unlisted(self) -> bool:
        return bool(self.flags & FLAG_UNLISTED)

    def address(self, bits: int | None = None) -> Address:
        """The 48-bit address this record claims."""
        return address(self.identity, self.address_nonce, bits)

    def expired(self, now_us: int) -> bool:
        """Whether this is but a hint where to ask: the record, its delegation or transport key is over."""
        return now_us >= min(self.expires_us, self.delegation.until_us, self.certificate.until_us)

    def verify(self, log: KeyLog, now_us: int) -> None:
        """Return if the owner of `log` made this, under the log's head, no later than 10 minutes from now.

        The chain of keys must have held when the record was made; whether it still does is `expired`, because
        even an expired record is useful as a hint (PROTOCOL 3). `VerifyError` with the codes of
        `Delegation.verify` and

        - `log-behind`: the record names a later log head than `log` has. Fetch the log, then ask again;
        - `superseded`: it names an earlier head. A rotation or revocation has ended it;
        - `from-the-future`, `bad-life`, `other-identity`, `bad-signature`.
        """
        if self.identity != log.identity:
            raise VerifyError("this record is another identity's", code="other-identity")
        if self.head_sequence > log.sequence:
            raise VerifyError("this record is from a newer key-event log", code="log-behind")
        if log.digests[self.head_sequence] != self.head_digest:
            raise VerifyError("this record is from another branch of the key-event log", code="unknown-head")
        if self.head_sequence < log.sequence:
            raise VerifyError("this record is from before the last key event", code="superseded")
        if self.sequence > now_us + CLOCK_SKEW_US:
            raise VerifyError(
                "this record is from the future",
                code="from-the-future",
                next_step="check the clock: covey doctor",
            )
        # No upper limit of its own but its life: see `expired`.
        made_us = min(self.sequence, now_us)
        check_life("record", self.sequence, self.expires_us, self.sequence, RECORD_LIFE_US)
        verify_chain(log, self.delegation, self.certificate, made_us)
        body, signature = self.raw[:-SIGNATURE_SIZE], self.raw[-SIGNATURE_SIZE:]
        verify(self.delegation.operational, _LABEL, body, signature)


def _write_homes(writer: Writer, homes: tuple[Home, ...]) -> None:
    if len(homes) > HOME_LIMIT or len({home.identity for home in homes}) != len(homes):
        raise UsageError(f"a record holds at most {HOME_LIMIT} homes, each once")
    writer.u8(len(homes))
    for home in homes:
        if len(home.identity) != IDENTITY_SIZE or len(home.endpoints) > HOME_ENDPOINTS_LIMIT:
            raise UsageError(f"a home has an identity and at most {HOME_ENDPOINTS_LIMIT} endpoints")
        writer.raw(home.identity).u8(len(home.endpoints))
        for text in home.endpoints:
            if not _is_endpoint(text):
                raise UsageError(f"{text!r} is not an endpoint that a record can hold")
            writer.text8(text)


def _read_homes(reader: Reader) -> tuple[Home, ...]:
    homes: list[Home] = []
    for _ in range(_count(reader, HOME_LIMIT, "homes")):
        identity = Identity(reader.take(IDENTITY_SIZE))
        endpoints = tuple(
            reader.text8(ENDPOINT_TEXT_LIMIT) for _ in range(_count(reader, HOME_ENDPOINTS_LIMIT, "endpoints"))
        )
        if any(home.identity == identity for home in homes) or not all(map(_is_endpoint, endpoints)):
            raise ParseError("a home named twice, or an endpoint that is none")
        homes.append(Home(identity, endpoints))
    return tuple(homes)


def _is_endpoint(text: str) -> bool:
    """Whether `text` is short and the one spelling of a host, lower-case, and a port that is not 0."""
    if len(text) > ENDPOINT_TEXT_LIMIT or _HOST.fullmatch(text.rpartition(":")[0]) is None:
        return False
    try:
        endpoint = parse_endpoint(text)
    except ParseError:
        return False
    return endpoint[1] != 0 and endpoint_text(endpoint) == text


def _read_name(reader: Reader) -> str:
    name = reader.text8()
    try:
        return check_name(name) if name else ""
    except UsageError as error:
        raise ParseError("a record with a name that is none") from error


def _write_tags(writer: Writer, tags: list[str]) -> None:
    if len(tags) > TAG_LIMIT:
        raise UsageError(f"a record holds at most {TAG_LIMIT} tags")
    writer.u8(len(tags))
    for tag in tags:
        if _TAG.fullmatch(tag) is None:
            raise UsageError(f"{tag!r} is not a tag: use 1 to 32 of letters, digits and ._:/=+@-")
        writer.text8(tag)


def _read_tags(reader: Reader) -> tuple[str, ...]:
    tags = tuple(reader.text8() for _ in range(_count(reader, TAG_LIMIT, "tags")))
    if any(_TAG.fullmatch(tag) is None for tag in tags) or list(tags) != sorted(set(tags)):
        raise ParseError("tags that are malformed, repeated or not sorted")
    return tags


def _count(reader: Reader, limit: int, what: str) -> int:
    count = reader.u8()
    if count > limit:
        raise ParseError(f"{count} {what}, at most {limit} allowed")
    return count
