"""NAT-PMP, the NAT Port Mapping Protocol (RFC 6886): what PCP grew out of, and what older routers speak.

======== ================ ====================================== ================================================
opcode   name             request                                answer
======== ================ ====================================== ================================================
0        public address   version 1, opcode 1                    + result 2, epoch 4, IPv4 4
1        map UDP          + reserved 2, internal port 2,         + result 2, epoch 4, internal port 2,
                          external port 2, lifetime 4            external port 2, lifetime 4
======== ================ ====================================== ================================================

An answer's opcode has 0x80 added. Lifetime 0 ends the mapping. Nothing in an answer proves who wrote it: whoever takes
one checks that it came from the router's address and port.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.errors import ParseError

__all__ = ["ADDRESS", "MAP_UDP", "SUCCESS", "VERSION", "PmpAnswer", "ask_address", "ask_mapping"]

VERSION: Final = 0
ADDRESS: Final = 0
MAP_UDP: Final = 1
SUCCESS: Final = 0

_ANSWER: Final = 0x80
_SIZE_LIMIT: Final = 16


def ask_address() -> bytes:
    """What is the router's public address? Also the way to ask whether it speaks NAT-PMP."""
    return bytes((VERSION, ADDRESS))


def ask_mapping(internal_port: int, external_port: int, lifetime: int) -> bytes:
    """UDP packets to the router's `external_port` (a wish) are to reach our `internal_port` for `lifetime` seconds."""
    writer = Writer().u8(VERSION).u8(MAP_UDP).u16(0)
    return writer.u16(internal_port).u16(external_port).u32(lifetime).bytes()


@dataclass(frozen=True, slots=True)
class PmpAnswer:
    """What a NAT-PMP server says. After a failure only `opcode`, `result` and `epoch` mean something."""

    opcode: int
    result: int
    epoch: int
    """Seconds since the server lost its mappings last."""
    address: str = ""
    """Of the router, if it was asked for."""
    internal_port: int = 0
    external_port: int = 0
    lifetime: int = 0

    @classmethod
    def parse(cls, raw: bytes | memoryview) -> PmpAnswer:
        """ParseError for what is no answer."""
        if len(raw) > _SIZE_LIMIT:
            raise ParseError("too long for NAT-PMP")
        reader = Reader(raw)
        version, opcode = reader.u8(), reader.u8()
        if version != VERSION or not opcode & _ANSWER:
            raise ParseError("not an answer of NAT-PMP")
        opcode &= ~_ANSWER
        result, epoch = reader.u16(), reader.u32()
        if result != SUCCESS:
            return cls(opcode, result, epoch)
        if opcode == ADDRESS:
            answer = cls(opcode, result, epoch, address=str(ipaddress.IPv4Address(reader.take(4))))
        elif opcode == MAP_UDP:
            internal, external, lifetime = reader.u16(), reader.u16(), reader.u32()
            answer = cls(opcode, result, epoch, internal_port=internal, external_port=external, lifetime=lifetime)
        else:
            raise ParseError("an answer to what was not asked")
        reader.done()
        return answer
