"""This machine's own addresses, as Linux tells them (rtnetlink(7)). Elsewhere none are found: the way to a rendezvous
has to do.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Final

from covey.base.errors import ParseError

__all__ = ["local_addresses", "parse_addresses", "parse_links"]

_GET_LINK, _NEW_LINK, _GET_ADDRESS, _NEW_ADDRESS = 18, 16, 22, 20
"""RTM_* of linux/rtnetlink.h."""
_ERROR, _DONE = 2, 3
"""NLMSG_* of linux/netlink.h."""
_DUMP_REQUEST: Final = 0x301
"""NLM_F_REQUEST | NLM_F_DUMP."""
_HEAD: Final = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port."""
_LINK: Final = struct.Struct("=BxHiII")
"""ifinfomsg: family, type, index, flags, change."""
_ADDRESS: Final = struct.Struct("=BBBBi")
"""ifaddrmsg: family, prefix length, flags, scope, index."""
_ATTRIBUTE: Final = struct.Struct("=HH")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8

_LOOPBACK, _RUNNING = 0x8, 0x40
"""IFF_* of linux/if.h. An interface that is up and not running has no carrier: a bridge without anybody on it."""
_UNUSABLE: Final = 0x08 | 0x20 | 0x40
"""IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE of linux/if_addr.h."""
_PIECE: Final = 65_536
_PIECES: Final = 64
"""Of an answer: thousands of addresses."""
_SECONDS: Final = 1.0
"""For what the kernel answers at once."""


def local_addresses() -> list[str]:
    """IP literals at which other machines may reach this one: of interfaces that run, no loopback, no link-local ones.

    In the kernel's order, [] where it does not tell.
    """
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return []
    try:
        with socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as link:
            link.settimeout(_SECONDS)
            running = parse_links(_dump(link, _GET_LINK))
            found = parse_addresses(_dump(link, _GET_ADDRESS))
    except (OSError, ParseError):
        return []  # a sandbox without netlink
    return [address for index, address in found if index in running]


def parse_links(messages: bytes) -> set[int]:
    """The indexes of the interfaces that run, from an answer to RTM_GETLINK. ParseError."""
    found = set()
    for kind, body in _messages(messages):
        if kind == _NEW_LINK:
            _, _, index, flags, _ = _unpack(_LINK, body)
            if flags & _RUNNING and not flags & _LOOPBACK:
                found.add(index)
    return found


def parse_addresses(messages: bytes) -> list[tuple[int, str]]:
    """(interface, address), from an answer to RTM_GETADDR: those that others may send to. ParseError."""
    found = []
    for kind, body in _messages(messages):
        if kind != _NEW_ADDRESS:
            continue
        family, _, flags, _, index = _unpack(_ADDRESS, body)
        attributes = _attributes(body[_ADDRESS.size :])
        if len(attributes.get(_IFA_FLAGS, b"")) == 4:
            flags = int.from_bytes(attributes[_IFA_FLAGS], "little" if _LITTLE else "big")
        # On a point-to-point interface IFA_ADDRESS is the other end.
        raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")
        if flags & _UNUSABLE or (family, len(raw)) not in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            continue
        address = ipaddress.ip_address(raw)
        if not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified):
            found.append((index, str(address)))
    return found


_LITTLE: Final = struct.pack("=H", 1) == b"\1\0"


def _dump(link: socket.socket, kind: int) -> bytes:
    """The whole answer to a question for everything of one kind. OSError, ParseError."""
    # ifinfomsg is the longer one; ifaddrmsg and what fills it up begin with the same family: any.
    question = _HEAD.pack(_HEAD.size + _LINK.size, kind, _DUMP_REQUEST, kind, 0) + bytes(_LINK.size)
    link.sendto(question, (0, 0))
    answer = b""
    for _ in range(_PIECES):
        piece = link.recv(_PIECE)
        answer += piece
        if any(found in (_DONE, _ERROR) for found, _ in _messages(piece)):
            return answer
    raise ParseError("an answer without an end")


def _messages(data: bytes) -> list[tuple[int, bytes]]:
    """(type, body) of each message."""
    found, at = [], 0
    while at < len(data):
        length, kind, _, _, _ = _unpack(_HEAD, data, at)
        if length < _HEAD.size or at + length > len(data):
            raise ParseError("a message of a wrong length")
        found.append((kind, data[at + _HEAD.size : at + length]))
        at += _aligned(length)
    return found


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _unpack(_ATTRIBUTE, data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            raise ParseError("an attribute of a wrong length")
        found[kind] = data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _unpack(layout: struct.Struct, data: bytes, at: int = 0) -> tuple[int, ...]:
    if len(data) - at < layout.size:
        raise ParseError("a message that is too short")
    return layout.unpack_from(data, at)
