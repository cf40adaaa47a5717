"""The one string that says where a network is: `covey1...` (PROTOCOL 5).

Below the prefix: base32 (RFC 4648, lower case, no padding) of {version 1, count 1, then per rendezvous {identity 32,
endpoints 1, each text8 `HOST:PORT`, websockets 1, each text8 `HOST:PORT`}, checksum 4}. The checksum is the start of
SHA-256 over everything before it: a ticket that lost a character is refused instead of searched for. It holds no key
that rotates and no secret.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.errors import ParseError, UsageError
from covey.base.types import IDENTITY_SIZE, Identity, parse_endpoint

__all__ = ["Ticket", "TicketEntry"]

_PREFIX: Final = "covey1"
_VERSION: Final = 1
_ENTRIES_LIMIT: Final = 16
_ENDPOINTS_LIMIT: Final = 4
_CHECKSUM: Final = 4
_NEXT_STEP: Final = "copy the whole line that `covey rendezvous` printed"


@dataclass(frozen=True, slots=True)
class TicketEntry:
    """One rendezvous: who it must prove to be, and where it listens (`HOST:PORT`, a host name or an IP)."""

    identity: Identity
    endpoints: tuple[str, ...]
    """By UDP."""
    websockets: tuple[str, ...] = ()
    """By WebSocket over TLS, for agents without UDP."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """The rendezvous of one network."""

    entries: tuple[TicketEntry, ...]

    def __str__(self) -> str:
        writer = Writer().u8(_VERSION).u8(len(self.entries))
        for entry in self.entries:
            writer.raw(entry.identity).u8(len(entry.endpoints))
            for endpoint in entry.endpoints:
                writer.text8(endpoint)
            writer.u8(len(entry.websockets))
            for endpoint in entry.websockets:
                writer.text8(endpoint)
        body = writer.bytes()
        raw = body + hashlib.sha256(body).digest()[:_CHECKSUM]
        return _PREFIX + base64.b32encode(raw).decode().rstrip("=").lower()

    def joined(self, other: Ticket) -> Ticket:
        """The rendezvous of both, each once; of one that both name, the endpoints of `other` count.

        UsageError (`too-many-rendezvous`) for more than a ticket holds.
        """
        entries = {entry.identity: entry for entry in (*self.entries, *other.entries)}
        if len(entries) > _ENTRIES_LIMIT:
            raise UsageError(f"a ticket holds at most {_ENTRIES_LIMIT} rendezvous", code="too-many-rendezvous")
        return Ticket(tuple(entries.values()))

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """Raises `ParseError` (code `bad-ticket`) for anything else, also for a second spelling of a ticket."""
        try:
            ticket = cls._parse(text.strip())
        except (ValueError, LookupError) as error:
            raise ParseError(f"this is not a ticket: {error}", code="bad-ticket", next_step=_NEXT_STEP) from error
        return ticket

    @classmethod
    def _parse(cls, text: str) -> Ticket:
        if not text.startswith(_PREFIX):
            raise ValueError(f"it does not start with {_PREFIX}")
        encoded = text[len(_PREFIX) :]
        raw = base64.b32decode(encoded.upper() + "=" * (-len(encoded) % 8))
        body, checksum = raw[:-_CHECKSUM], raw[-_CHECKSUM:]
        if hashlib.sha256(body).digest()[:_CHECKSUM] != checksum:
            raise ValueError("its checksum is wrong, some of it is missing or mistyped")
        reader = Reader(body)
        if reader.u8() != _VERSION:
            raise ValueError("it is of a newer version of Covey")
        count = reader.u8()
        if not 0 < count <= _ENTRIES_LIMIT:
            raise ValueError("it names no rendezvous, or too many")
        entries = []
        for _ in range(count):
            identity = Identity(reader.take(IDENTITY_SIZE))
            number = reader.u8()
            if not 0 < number <= _ENDPOINTS_LIMIT:
                raise ValueError("a rendezvous without endpoints, or with too many")
            endpoints = tuple(reader.text8() for _ in range(number))
            number = reader.u8()
            if number > _ENDPOINTS_LIMIT:
                raise ValueError("a rendezvous with too many WebSockets")
            websockets = tuple(reader.text8() for _ in range(number))
            for endpoint in endpoints + websockets:
                if parse_endpoint(endpoint)[1] == 0:
                    raise ValueError("an endpoint with port 0")
            entries.append(TicketEntry(identity, endpoints, websockets))
        reader.done()
        if len({entry.identity for entry in entries}) != count:
            raise ValueError("it names a rendezvous twice")
        ticket = cls(tuple(entries))
        if str(ticket) != text:
            raise ValueError("it is not in its one spelling")
        return ticket
