"""PCP, the Port Control Protocol (RFC 6887): what a host asks its router for, and what the router answers.

======== ========= ============================================================================================
opcode   name      body after the 24-byte header
======== ========= ============================================================================================
0        ANNOUNCE  empty: asks whether a server is there; the answer carries its epoch
1        MAP       nonce 12, protocol 1, reserved 3, internal port 2, external port 2, external IP 16
======== ========= ============================================================================================

A request's header is {version 1, opcode 1, reserved 2, lifetime 4, client IP 16}; an answer's is {version 1, 0x80 |
opcode 1, reserved 1, result 1, lifetime 4, epoch 4, reserved 12}. IPv4 addresses travel as `::ffff:a.b.c.d`. Options
that an answer carries are ignored.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.errors import ParseError
from covey.base.types import Endpoint

__all__ = ["ANNOUNCE", "MAP", "NONCE_BYTES", "PORT", "VERSION", "MapRequest", "PcpAnswer", "PcpResult", "announce"]

PORT: Final = 5351
"""UDP port on which routers speak PCP and NAT-PMP (RFC 6887, 19.1)."""
VERSION: Final = 2
ANNOUNCE: Final = 0
MAP: Final = 1
NONCE_BYTES: Final = 12

_ANSWER: Final = 0x80
_SIZE_LIMIT: Final = 1100
"""Bytes of one message (RFC 6887, 7)."""
_UDP: Final = 17
_NO_ADDRESS: Final = bytes(16)


class PcpResult(IntEnum):
    """Result codes (RFC 6887, 7.4) that mean something to us; there are more."""

    SUCCESS = 0
    UNSUPP_VERSION = 1
    NOT_AUTHORIZED = 2
    UNSUPP_OPCODE = 4
    NO_RESOURCES = 8
    UNSUPP_PROTOCOL = 9
    USER_EX_QUOTA = 10
    ADDRESS_MISMATCH = 12
    """There is another NAT between us and the server."""


def announce(client_ip: str) -> bytes:
    """Is a PCP server there?"""
    return _header(ANNOUNCE, 0, client_ip).bytes()


@dataclass(frozen=True, slots=True)
class MapRequest:
    """Asks that UDP packets to an external endpoint reach `internal`. Lifetime 0 ends a mapping."""

    nonce: bytes
    """What only we know: whoever cannot say it cannot change the mapping."""
    internal: Endpoint
    lifetime: int
    """Seconds."""
    external: Endpoint | None = None
    """What we had, or would like."""

    def __post_init__(self) -> None:
        if len(self.nonce) != NONCE_BYTES:
            raise ValueError(f"a nonce has {NONCE_BYTES} bytes")

    def encode(self) -> bytes:
        host, port = self.external or ("", self.internal[1] if self.lifetime else 0)
        writer = _header(MAP, self.lifetime, self.internal[0]).raw(self.nonce).u8(_UDP).raw(bytes(3))
        return writer.u16(self.internal[1]).u16(port).raw(_packed(host) if host else _any(self.internal[0])).bytes()


@dataclass(frozen=True, slots=True)
class PcpAnswer:
    """What a PCP server says. The fields from `nonce` on are those of MAP, empty for other opcodes and failures."""

    opcode: int
    result: int
    lifetime: int
    """Seconds: of the mapping, or for how long a failure is likely to last."""
    epoch: int
    """Seconds since the server lost its mappings last (RFC 6887, 8.5)."""
    nonce: bytes = b""
    internal_port: int = 0
    external: Endpoint | None = None

    @classmethod
    def parse(cls, raw: bytes | memoryview) -> PcpAnswer:
        """ParseError for what is no answer of version 2; one of another version is a server's way to say that it has
        no PCP."""
        if len(raw) > _SIZE_LIMIT:
            raise ParseError("too long for PCP")
        reader = Reader(raw)
        version, opcode = reader.u8(), reader.u8()
        if version != VERSION or not opcode & _ANSWER:
            raise ParseError("not an answer of PCP")
        reader.u8()
        result, lifetime, epoch = reader.u8(), reader.u32(), reader.u32()
        reader.take(12)
        opcode &= ~_ANSWER
        if opcode != MAP or reader.remaining < 36:
            if opcode == MAP and result == PcpResult.SUCCESS:
                raise ParseError("a mapping without its body")
            return cls(opcode, result, lifetime, epoch)
        nonce, protocol = reader.take(NONCE_BYTES), reader.u8()
        reader.take(3)
        internal_port, port, host = reader.u16(), reader.u16(), _unpacked(reader.take(16))
        if protocol != _UDP:
            raise ParseError("a mapping of another protocol")
        return cls(opcode, result, lifetime, epoch, nonce, internal_port, (host, port) if port else None)


def _header(opcode: int, lifetime: int, client_ip: str) -> Writer:
    return Writer().u8(VERSION).u8(opcode).u16(0).u32(lifetime).raw(_packed(client_ip))


def _packed(host: str) -> bytes:
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        return bytes(10) + b"\xff\xff" + address.packed
    return address.packed


def _any(host: str) -> bytes:
    """The all-zeros address of the same family (RFC 6887, 11.1)."""
    return _NO_ADDRESS if ":" in host else bytes(10) + b"\xff\xff" + bytes(4)


def _unpacked(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)
