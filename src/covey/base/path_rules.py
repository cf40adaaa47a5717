"""Which ways to a peer may be used, and in which order, as users write it: the setting `paths`.

::

    * bulk interconnect; azure-processor primary interconnect:dx,direct backup relay; auditor direct-only

Rules are separated by semicolons. Each begins with a peer's name, or `*` for all that have no rule of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from covey.base.errors import UsageError
from covey.base.types import check_name

__all__ = ["EXEMPT_SERVICES", "NO_RULE", "PathRule", "PathRules", "parse_path_rules"]

_WAYS: Final = ("lan", "direct", "ipv4", "ipv6", "interconnect", "relay")
_LABELLED: Final = re.compile(r"(interconnect|relay):[A-Za-z0-9._:\-\[\]]{1,64}")
_RULES_LIMIT: Final = 256
_ORDERS: Final = ("primary", "backup", "bulk")
_DEFAULT_PRIMARY: Final = ("lan", "direct")


@dataclass(frozen=True, slots=True)
class PathRule:
    """What holds for one peer. Ways are words: `lan`, `direct`, `ipv4`, `ipv6`, `interconnect`, `interconnect:LABEL`,
    `relay`, `relay:ADDRESS`."""

    order: tuple[str, ...] = ()
    """The first of these that there is carries the data, before any other path."""
    bulk: tuple[str, ...] = ()
    """The same for bulk, if one of them is there."""
    relay: Literal["data", "introduce", "never"] = "data"
    """What relays may do: carry data, or only help to find a direct path, or nothing."""


EXEMPT_SERVICES: Final = frozenset(("trust",))
"""What relays may carry whatever the rule: without trust nobody says where a direct path could lead."""

NO_RULE: Final = PathRule()

PathRules = dict[str, PathRule]
"""By the peer's name; `*` for all others."""


def parse_path_rules(text: str) -> PathRules:
    """UsageError (`bad-paths`) if `text` is not made of rules."""
    rules: PathRules = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, *words = part.split()
        if name != "*":
            check_name(name)
        if name in rules or len(rules) >= _RULES_LIMIT:
            raise _bad(f"two rules for {name}" if name in rules else f"more than {_RULES_LIMIT} rules")
        rules[name] = _rule(name, words)
    return rules


def _rule(name: str, words: list[str]) -> PathRule:
    orders: dict[str, tuple[str, ...]] = {}
    relay: Literal["data", "introduce", "never"] = "data"
    rest = iter(words)
    for word in rest:
        if word == "direct-only":
            relay = "introduce"
        elif word == "no-relay":
            relay = "never"
        elif word in _ORDERS and word not in orders:
            orders[word] = _ways(next(rest, ""))
        else:
            raise _bad(f"{word!r} in the rule for {name}")
    if not words:
        raise _bad(f"the rule for {name} says nothing")
    primary = orders.get("primary") or (_DEFAULT_PRIMARY if "backup" in orders else ())
    return PathRule(primary + orders.get("backup", ()), orders.get("bulk", ()), relay)


def _ways(text: str) -> tuple[str, ...]:
    ways = tuple(text.split(","))
    for way in ways:
        if way not in _WAYS and not _LABELLED.fullmatch(way):
            raise _bad(f"{way!r} is no way to a peer")
    return ways


def _bad(what: str) -> UsageError:
    return UsageError(
        f"paths: {what}",
        code="bad-paths",
        next_step='for example: paths = "* bulk interconnect; azure-processor primary direct backup relay"',
    )
