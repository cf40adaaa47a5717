"""Ways to an agent that its operator declares, because no measurement could find them.

::

    addresses = "203.0.113.9:4040, 2001:db8::9"                 # forwarded by hand, or a cloud's public address
    interconnects = "expressroute=10.8.0.4@20, vpn=10.9.0.4"    # private lines: LABEL=ADDRESS, with @COST

An address without a port is meant with the port that the agent listens at.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from covey.base.errors import ParseError, UsageError
from covey.base.types import endpoint_text, parse_endpoint

__all__ = [
    "COST_LIMIT",
    "DECLARED_LIMIT",
    "LABEL",
    "Declared",
    "declared_text",
    "parse_addresses",
    "parse_interconnects",
]

LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
"""A name that an operator gave to one way; people see it."""
COST_LIMIT: Final = 255
DECLARED_LIMIT: Final = 8
"""Addresses, and interconnects, of one agent. Of 32 candidates others should have room, too."""


class Declared(NamedTuple):
    """One way. `port` 0: the one that the agent listens at. `label` "" for an address that is nothing special."""

    host: str
    port: int
    label: str = ""
    cost: int = 0
    """Relative: 0 is free."""


def parse_addresses(text: str) -> tuple[Declared, ...]:
    """UsageError (`bad-addresses`)."""
    return _several(text, "addresses", "203.0.113.9:4040", _place)


def parse_interconnects(text: str) -> tuple[Declared, ...]:
    """UsageError (`bad-interconnects`)."""
    return _several(text, "interconnects", "expressroute=10.8.0.4:4040@20", _line)


def declared_text(ways: tuple[Declared, ...]) -> str:
    """The usual form of what was parsed."""
    return ",".join(_text(way) for way in ways)


def _several(text: str, key: str, example: str, parse: Callable[[str], Declared]) -> tuple[Declared, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    try:
        if len(words) > DECLARED_LIMIT:
            raise ParseError(f"at most {DECLARED_LIMIT}")
        return tuple(parse(word) for word in words)
    except ParseError as error:
        raise UsageError(f"{key}: {error}", code=f"bad-{key}", next_step=f'for example: {key} = "{example}"') from error


def _line(word: str) -> Declared:
    label, equals, rest = word.partition("=")
    place, at, cost = rest.partition("@")
    if not equals or LABEL.fullmatch(label) is None:
        raise ParseError(f"{word!r} does not begin with a label and =")
    if at and not (cost.isascii() and cost.isdigit() and len(cost) <= 3 and int(cost) <= COST_LIMIT):
        raise ParseError(f"{word!r}: a cost is 0 to {COST_LIMIT}")
    return _place(place)._replace(label=label, cost=int(cost or 0))


def _place(word: str) -> Declared:
    """`IP`, `IP:PORT` or `[IPV6]:PORT`."""
    host, port = word, 0
    try:
        ipaddress.ip_address(word)
    except ValueError:
        host, port = parse_endpoint(word)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ParseError(f"{word!r} is no IP address with or without a port") from None
    if address.is_unspecified or address.is_multicast or "%" in host:
        raise ParseError(f"{word!r} is no address that others could send to")
    return Declared(str(address), port)


def _text(way: Declared) -> str:
    place = endpoint_text((way.host, way.port)) if way.port else way.host
    if not way.label:
        return place
    return f"{way.label}={place}" + (f"@{way.cost}" if way.cost else "")
