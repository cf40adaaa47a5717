"""Which of two paths is better: rules first, then the local network, then direct, then the round trip (DESIGN 6.7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from covey.core.path import Path

__all__ = ["best", "better", "matches"]

_GAIN_SECONDS: Final = 0.005
_GAIN_SHARE: Final = 0.1
"""By how much a round trip must be shorter, the larger of the two, until another path is worth a change."""
_IPV6_SECONDS: Final = 0.003
"""What IPv6 is given: it has no NAT that forgets."""
_COST_SECONDS: Final = 0.001
"""What a unit of an interconnect's cost counts as."""
_LAN_SECONDS: Final = 0.01
"""A private address that is farther away is somewhere else: behind a tunnel, say."""


def better(path: Path, other: Path, order: tuple[str, ...] = ()) -> bool:
    """Whether `path` is worth leaving `other` for. `order` is that of a rule (`base.path_rules`)."""
    if path.suspect != other.suspect:
        return other.suspect
    if order:
        mine_ranks, others_ranks = _rank(path, order), _rank(other, order)
        if mine_ranks != others_ranks:
            return mine_ranks < others_ranks
    mine_class, others_class = _class(path), _class(other)
    if mine_class != others_class:
        return mine_class < others_class
    mine, theirs = _latency(path), _latency(other)
    return mine < theirs - max(_GAIN_SECONDS, _GAIN_SHARE * theirs)


def best(paths: Iterable[Path], order: tuple[str, ...] = ()) -> Path:
    """The first of `paths` (at least one) that none after it is better than."""
    first, *rest = paths
    chosen = first
    for path in rest:
        if better(path, chosen, order):
            chosen = path
    return chosen


def matches(path: Path, way: str) -> bool:
    """Whether this word of a rule means the path."""
    kind, _, name = way.partition(":")
    route = path.route
    if kind == "relay":
        return route.relayed and name in ("", route.remote[0])
    if route.relayed:
        return False
    if kind == "interconnect":
        return path.interconnect is not None and name in ("", path.interconnect)
    if kind == "lan":
        return _is_lan(path)
    if kind in ("ipv4", "ipv6"):
        return (":" in route.remote[0]) == (kind == "ipv6")
    return path.interconnect is None


def _rank(path: Path, order: tuple[str, ...]) -> int:
    return next((number for number, way in enumerate(order) if matches(path, way)), len(order))


def _class(path: Path) -> int:
    if path.route.relayed:
        return 4 if path.route.websocket else 3
    if path.route.websocket:
        return 2  # to a rendezvous itself. TCP makes of one loss a pause for everything behind it
    return 0 if _is_lan(path) else 1


def _is_lan(path: Path) -> bool:
    return path.local and path.interconnect is None and path.recovery.rtt.minimum < _LAN_SECONDS


def _latency(path: Path) -> float:
    latency = path.recovery.rtt.smoothed + path.cost * _COST_SECONDS
    return latency - _IPV6_SECONDS if ":" in path.route.remote[0] else latency
