"""The routers that this machine sends to what it has no other way for: those that may map ports for us.

Read from `/proc/net/route` and `/proc/net/ipv6_route` (Linux). Elsewhere none are found, and so no port is mapped.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from covey.base.errors import ParseError

__all__ = ["default_gateways", "parse_ipv4_routes", "parse_ipv6_routes"]

_IPV4: Final = Path("/proc/net/route")
_IPV6: Final = Path("/proc/net/ipv6_route")
_READ_LIMIT: Final = 1024 * 1024
"""Bytes of a routing table that are looked at: a default route is among the first of a host's. A router that carries
the whole internet's routes does not ask another one for a port."""

_UP: Final = 0x1
_GATEWAY: Final = 0x2
_REJECT: Final = 0x200
"""linux/route.h: RTF_UP, RTF_GATEWAY, RTF_REJECT."""
_IPV6_NOWHERE: Final = "0" * 32


def default_gateways() -> list[str]:
    """IP literals of the routers of the default routes: IPv4's best, IPv6's best (with its interface, if it is
    link-local). Either may be missing."""
    if not sys.platform.startswith("linux"):
        return []
    found = []
    for path, parse in ((_IPV4, parse_ipv4_routes), (_IPV6, parse_ipv6_routes)):
        try:
            with path.open("rb") as file:
                gateway = parse(file.read(_READ_LIMIT).decode("ascii", "replace").splitlines())
        except (OSError, ParseError):
            continue
        if gateway is not None:
            found.append(gateway)
    return found


def parse_ipv4_routes(lines: Iterable[str]) -> str | None:
    """The gateway of the default route with the lowest metric, from `/proc/net/route`. ParseError."""
    best: tuple[int, str] | None = None
    for fields in _rows(lines, 8):
        if fields[0] == "Iface":
            continue
        destination, gateway, flags, mask = (_hex(fields[column]) for column in (1, 2, 3, 7))
        if destination or mask or not _usable(flags) or not gateway:
            continue
        metric = _decimal(fields[6])
        if best is None or metric < best[0]:
            # The kernel prints the address as a number of this machine, which holds it in network order.
            best = metric, str(ipaddress.IPv4Address(struct.pack("=I", gateway & 0xFFFFFFFF)))
    return best[1] if best else None


def parse_ipv6_routes(lines: Iterable[str]) -> str | None:
    """The gateway of the default route with the lowest metric, from `/proc/net/ipv6_route`. ParseError."""
    best: tuple[int, str] | None = None
    for fields in _rows(lines, 10):
        destination, length, gateway, interface = fields[0], fields[1], fields[4], fields[9]
        metric, flags = _hex(fields[5]), _hex(fields[8])
        if destination != _IPV6_NOWHERE or _hex(length) or gateway == _IPV6_NOWHERE or not _usable(flags):
            continue
        if best is None or metric < best[0]:
            best = metric, _scoped(gateway, interface)
    return best[1] if best else None


def _rows(lines: Iterable[str], columns: int) -> Iterable[list[str]]:
    for line in lines:
        fields = line.split()
        if len(fields) >= columns:
            yield fields


def _usable(flags: int) -> bool:
    return flags & (_UP | _GATEWAY | _REJECT) == _UP | _GATEWAY


def _scoped(gateway: str, interface: str) -> str:
    try:
        address = ipaddress.IPv6Address(bytes.fromhex(gateway))
    except ValueError as error:
        raise ParseError("a gateway that is no address") from error
    if not address.is_link_local:
        return str(address)
    try:
        return f"{address}%{socket.if_nametoindex(interface)}"
    except OSError as error:
        raise ParseError("a route over an interface that is gone") from error


def _hex(field: str) -> int:
    try:
        return int(field, 16)
    except ValueError as error:
        raise ParseError("a route that is not as it should be") from error


def _decimal(field: str) -> int:
    try:
        return int(field)
    except ValueError as error:
        raise ParseError("a route that is not as it should be") from error
