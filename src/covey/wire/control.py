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
0x06   CANDIDATES     mapping 1, filtering 1, ports 1, step 2 (signed), flags 1 (bit 0: consents to birthday
                      probing), count 1, then {kind 1, cost 1, label text8, family 1 (4 or 6), IP 4 or 16, port 2}
0x07   RELAYING       wire.relay
0x08   RELAYS         wire.relay
0x09   GONE           wire.relay
0x0a   BIRTHDAY       wire.birthday
0x0b   SEEN           family 1 (4 or 6), IP 4 or 16, port 2: where the receiver's packets come from
====== ============== ===============================================================================

How a NAT maps and filters is said in the words of RFC 4787; `Mapping`, `Filtering`, `Ports` and `CandidateKind` are the
numbers of it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

from covey.base.codec import Reader, Writer
from covey.base.declared import LABEL
from covey.base.errors import ParseError
from covey.base.types import Endpoint

__all__ = [
    "ANSWER",
    "BIRTHDAY",
    "CANDIDATES",
    "CANDIDATES_LIMIT",
    "GONE",
    "LOG",
    "LOG_PIECE",
    "LOG_REQUEST",
    "OFFER",
    "RELAYING",
    "RELAYS",
    "SEEN",
    "WANT_REKEY",
    "Candidate",
    "CandidateKind",
    "Candidates",
    "ControlReader",
    "Filtering",
    "Mapping",
    "NatTraits",
    "Ports",
    "encode_control",
    "encode_seen",
    "parse_seen",
]

OFFER: Final = 0x01
ANSWER: Final = 0x02
WANT_REKEY: Final = 0x03
LOG_REQUEST: Final = 0x04
LOG: Final = 0x05
CANDIDATES: Final = 0x06
RELAYING: Final = 0x07
RELAYS: Final = 0x08
GONE: Final = 0x09
BIRTHDAY: Final = 0x0A
SEEN: Final = 0x0B

CANDIDATES_LIMIT: Final = 32
"""Candidates in one message (DESIGN 6)."""
LOG_PIECE: Final = 4096
"""Bytes of log in one LOG message, so that one message always fits the stream's reassembly cap."""
_MESSAGE_LIMIT: Final = 8192

_CONSENTS: Final = 0x01
_STEP_SPAN: Final = 0x8000


class Mapping(IntEnum):
    """Which of our packets leave the NAT from the same address and port (RFC 4787, 4.1)."""

    UNKNOWN = 0
    NONE = 1
    """There is no NAT: we are seen at the address that is ours."""
    ENDPOINT_INDEPENDENT = 2
    """All: whoever sees us sees the same."""
    ADDRESS_DEPENDENT = 3
    ADDRESS_AND_PORT_DEPENDENT = 4
    BLOCKED = 5
    """None: no UDP gets out, or no answer comes back."""


class Filtering(IntEnum):
    """Whose packets the NAT or firewall lets in (RFC 4787, 5)."""

    UNKNOWN = 0
    NONE = 1
    """Everybody's, also before we sent anything."""
    ENDPOINT_INDEPENDENT = 2
    """Everybody's, once we sent anything to anybody."""
    ADDRESS_DEPENDENT = 3
    """Those of addresses that we sent to."""
    ADDRESS_AND_PORT_DEPENDENT = 4
    """Those of addresses and ports that we sent to."""


class Ports(IntEnum):
    """Which port a new mapping gets."""

    UNKNOWN = 0
    PRESERVED = 1
    """That of our socket."""
    SEQUENTIAL = 2
    """That of the last mapping, plus a step."""
    RANDOM = 3


class CandidateKind(IntEnum):
    """How a candidate was learnt."""

    HOST = 1
    """An address of one of our interfaces."""
    REFLEXIVE = 2
    """Somebody saw us there."""
    MAPPED = 3
    """A router gave it to us when asked (PCP, NAT-PMP, UPnP)."""
    DECLARED = 4
    """The operator says that it leads to us."""
    INTERCONNECT = 5
    """The operator says so of a private line, which has a label and perhaps a cost."""


_E = TypeVar("_E", bound=IntEnum)


@dataclass(frozen=True, slots=True)
class NatTraits:
    """What stands between an agent and the network, as far as it was measured.

    `step` is what a `SEQUENTIAL` NAT adds from one mapping to the next, never 0 then, and 0 otherwise.
    """

    mapping: Mapping = Mapping.UNKNOWN
    filtering: Filtering = Filtering.UNKNOWN
    ports: Ports = Ports.UNKNOWN
    step: int = 0

    def __post_init__(self) -> None:
        if (self.step != 0) != (self.ports is Ports.SEQUENTIAL) or not -_STEP_SPAN <= self.step < _STEP_SPAN:
            raise ValueError(f"ports {self.ports.name} with a step of {self.step}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One endpoint at which a peer may be reached directly; `kind` says how it was learnt.

    `cost` is relative: 0 is free, 255 the dearest. `label` names the way, "" for most.
    """

    kind: CandidateKind
    endpoint: Endpoint
    cost: int = 0
    label: str = ""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The body of a CANDIDATES message: where an agent may be reached directly, and what stands in the way."""

    items: tuple[Candidate, ...] = ()
    traits: NatTraits = NatTraits()
    consents: bool = False
    """Whoever gets this may look for the agent's port by trying many of them (birthday probing)."""

    def encode(self) -> bytes:
        traits = self.traits
        writer = Writer().u8(traits.mapping).u8(traits.filtering).u8(traits.ports).u16(traits.step % (2 * _STEP_SPAN))
        writer.u8(_CONSENTS if self.consents else 0).u8(len(self.items))
        for candidate in self.items:
            writer.u8(candidate.kind).u8(candidate.cost).text8(candidate.label)
            _write_endpoint(writer, candidate.endpoint)
        return writer.bytes()

    @classmethod
    def parse(cls, body: bytes) -> Candidates:
        """Raises `ParseError`; unspecified, multicast and port-0 endpoints are refused as malformed."""
        reader = Reader(body)
        traits = _traits(reader)
        flags, count = reader.u8(), reader.u8()
        if flags & ~_CONSENTS:
            raise ParseError("unknown flags")
        if count > CANDIDATES_LIMIT:
            raise ParseError("too many candidates")
        items = tuple(_candidate(reader) for _ in range(count))
        reader.done()
        return cls(items, traits, bool(flags))


def _traits(reader: Reader) -> NatTraits:
    mapping, filtering = _member(Mapping, reader.u8()), _member(Filtering, reader.u8())
    ports = _member(Ports, reader.u8())
    step = (reader.u16() + _STEP_SPAN) % (2 * _STEP_SPAN) - _STEP_SPAN
    try:
        return NatTraits(mapping, filtering, ports, step)
    except ValueError as error:
        raise ParseError(str(error)) from None


def _candidate(reader: Reader) -> Candidate:
    kind, cost, label = _member(CandidateKind, reader.u8()), reader.u8(), reader.text8()
    if label and LABEL.fullmatch(label) is None:
        raise ParseError("a label that is no word")
    return Candidate(kind, _read_endpoint(reader), cost, label)


def encode_seen(endpoint: Endpoint) -> bytes:
    """The body of a SEEN message."""
    writer = Writer()
    _write_endpoint(writer, endpoint)
    return writer.bytes()


def parse_seen(body: bytes) -> Endpoint:
    """Raises `ParseError`, also for an endpoint that nobody can be reached at."""
    reader = Reader(body)
    endpoint = _read_endpoint(reader)
    reader.done()
    return endpoint


def _write_endpoint(writer: Writer, endpoint: Endpoint) -> None:
    address = ipaddress.ip_address(endpoint[0])
    writer.u8(address.version).raw(address.packed).u16(endpoint[1])


def _read_endpoint(reader: Reader) -> Endpoint:
    family = reader.u8()
    if family not in (4, 6):
        raise ParseError("unknown address family")
    address = ipaddress.ip_address(reader.take(4 if family == 4 else 16))
    port = reader.u16()
    if port == 0 or address.is_unspecified or address.is_multicast:
        raise ParseError("an endpoint nobody can be reached at")
    return str(address), port


def _member(kind: type[_E], number: int) -> _E:
    try:
        return kind(number)
    except ValueError:
        raise ParseError(f"no {kind.__name__} is {number}") from None


def encode_control(kind: int, body: bytes = b"") -> bytes:
    return Writer().u8(kind).block16(body).bytes()


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
