"""The plain values that every layer shares, and how people write them."""

from __future__ import annotations

import base64
import re
from typing import Literal, NewType

from covey.base.errors import ParseError, UsageError

__all__ = [
    "ADDRESS_SIZE",
    "IDENTITY_SIZE",
    "Address",
    "CongestionControl",
    "Endpoint",
    "Identity",
    "address_text",
    "check_name",
    "endpoint_text",
    "identity_text",
    "is_jurisdiction",
    "parse_address",
    "parse_endpoint",
    "parse_identity",
]

IDENTITY_SIZE = 32
ADDRESS_SIZE = 6

Identity = NewType("Identity", bytes)
"""An agent's inception digest, 32 bytes. What trust binds to and every table is keyed by."""

Address = NewType("Address", bytes)
"""An agent's 48-bit locator, 6 bytes. Proves nothing."""

Endpoint = tuple[str, int]
"""A UDP endpoint: IP address as text, and port."""

CongestionControl = Literal["cubic", "bbr"]
"""How fast to send: by the losses (RFC 9438), or by a model of the path (draft-ietf-ccwg-bbr)."""

_JURISDICTION = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ADDRESS = re.compile(r"([0-9a-f]{4})\.([0-9a-f]{4})\.([0-9a-f]{4})")


def identity_text(identity: bytes) -> str:
    """52 characters of lower-case base32: `id` is what people may compare, copy and use as a peer's argument."""
    return base64.b32encode(identity).decode().rstrip("=").lower()


def parse_identity(text: str) -> Identity:
    """The inverse of `identity_text`. Raises `ParseError` for anything else, also for a second spelling."""
    try:
        raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError as error:
        raise ParseError(f"{text!r} is not an identity") from error
    if len(raw) != IDENTITY_SIZE or identity_text(raw) != text:
        raise ParseError(f"{text!r} is not an identity")
    return Identity(raw)


def address_text(address: bytes) -> str:
    """`7f3a.91c0.d2e4`."""
    digits = address.hex()
    return f"{digits[:4]}.{digits[4:8]}.{digits[8:]}"


def parse_address(text: str) -> Address:
    """The inverse of `address_text`. Raises `ParseError`."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ParseError(f"{text!r} is not an address (expected something like 7f3a.91c0.d2e4)")
    return Address(bytes.fromhex("".join(match.groups())))


def is_jurisdiction(text: str) -> bool:
    """Whether it names one: `eu`, `de`, `us-ca`, or any word that a fleet has agreed upon."""
    return _JURISDICTION.fullmatch(text) is not None


def check_name(name: str) -> str:
    """`name` itself if it may name an agent (RFC 1123 label: 1 to 63 of a-z, 0-9 and inner hyphens), else `UsageError`.

    A name that looks like an address or an identity is impossible by construction: addresses have dots and an
    identity's 52 characters are accepted as a name only if they do not decode.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} is not a name: use 1 to 63 of a-z, 0-9 and hyphens, not at the ends",
            code="bad-name",
            next_step="choose another name, for example: covey up --hostname azure-processor",
        )
    if len(name) == 52:
        try:
            parse_identity(name)
        except ParseError:
            return name
        raise UsageError(f"{name!r} reads as an identity, not a name", code="bad-name")
    return name


def endpoint_text(endpoint: Endpoint) -> str:
    """`192.0.2.1:4000` or `[2001:db8::1]:4000`."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_endpoint(text: str) -> Endpoint:
    """`HOST:PORT` or `[IPV6]:PORT` (port 0 allowed). Raises `ParseError`; a host name is passed through."""
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        separator = ""
    if not separator or not host or not (port.isascii() and port.isdigit() and len(port) <= 5) or int(port) > 65_535:
        raise ParseError(f"{text!r} is not HOST:PORT")
    return host, int(port)
