"""Messages of the CRYPTO stream: what two sessions tell each other about themselves.

Each is {type 1, length 2, body}; the stream is ordered, reliable and outside flow control (PROTOCOL 17).

====== ============== ===============================================================================
type   name           body
====== ============== ===============================================================================
0x01   OFFER          ratchet offer (crypto.ratchet)
0x02   ANSWER         ratchet answer
0x03   WANT_REKEY     empty; the responder asks the initiator to start a ratchet
0x04   LOG_REQUEST    empty
0x05   LOG            a piece of the sender's key-event log, as it was signed; the last piece has flag 1 in front
0x06   CANDIDATES     count 1, then {kind 1, family 1 (4 or 6), IP 4 or 16, port 2}
====== ============== ===============================================================================
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.errors import ParseError
from covey.base.types import Endpoint

__all__ = [
    "ANSWER",
    "CANDIDATES",
    "CANDIDATES_LIMIT",
    "CANDIDATE_HOST",
    "CANDIDATE_REFLEXIVE",
    "LOG",
    "LOG_PIECE",
    "LOG_REQUEST",
    "OFFER",
    "WANT_REKEY",
    "Candidate",
    "ControlReader",
    "encode_candidates",
    "encode_control",
    "parse_candidates",
]

OFFER: Final = 0x01
ANSWER: Final = 0x02
WANT_REKEY: Final = 0x03
LOG_REQUEST: Final = 0x04
LOG: Final = 0x05
CANDIDATES: Final = 0x06

CANDIDATES_LIMIT: Final = 32
"""Candidates in one message (DESIGN 6)."""
LOG_PIECE: Final = 4096
"""Bytes of log in one LOG message, so that one message always fits the stream's reassembly cap."""
_MESSAGE_LIMIT: Final = 8192

CANDIDATE_HOST: Final = 1
CANDIDATE_REFLEXIVE: Final = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """One endpoint at which a peer may be reached directly; `kind` says how it was learnt."""

    kind: int
    endpoint: Endpoint


def encode_control(kind: int, body: bytes = b"") -> bytes:
    return Writer().u8(kind).block16(body).bytes()


def encode_candidates(candidates: list[Candidate]) -> bytes:
    writer = Writer().u8(len(candidates))
    for candidate in candidates:
        host, port = candidate.endpoint
        address = ipaddress.ip_address(host)
        writer.u8(candidate.kind).u8(address.version).raw(address.packed).u16(port)
    return writer.bytes()


def parse_candidates(body: bytes) -> list[Candidate]:
    """Raises `ParseError`; unspecified, multicast and port-0 endpoints are refused as malformed."""
    reader = Reader(body)
    count = reader.u8()
    if count > CANDIDATES_LIMIT:
        raise ParseError("too many candidates")
    found = []
    for _ in range(count):
        kind, family = reader.u8(), reader.u8()
        if family not in (4, 6):
            raise ParseError("unknown address family")
        address = ipaddress.ip_address(reader.take(4 if family == 4 else 16))
        port = reader.u16()
        if port == 0 or address.is_unspecified or address.is_multicast:
            raise ParseError("an endpoint nobody can be reached at")
        found.append(Candidate(kind, (str(address), port)))
    reader.done()
    return found


class ControlReader:
    """Cuts the ordered bytes of a CRYPTO stream into messages."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes | memoryview) -> list[tuple[int, bytes]]:
        """Complete messages as (type, body). Raises `ParseError` for a message over 8 KiB."""
        self._pending += data
        messages = []
        while len(self._pending) >= 3:
            length = int.from_bytes(self._pending[1:3], "big")
            if length > _MESSAGE_LIMIT:
                raise ParseError("control message too long")
            if len(self._pending) < 3 + length:
                break
            messages.append((self._pending[0], bytes(self._pending[3 : 3 + length])))
            del self._pending[: 3 + length]
        return messages
