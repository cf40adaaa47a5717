"""Which of two paths is better (DESIGN 6.7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from covey.core.path import Path

__all__ = ["best", "better"]

_GAIN_SECONDS: Final = 0.005
_GAIN_SHARE: Final = 0.1
"""By how much a round trip must be shorter, the larger of the two, until another path is worth a change."""


def better(path: Path, other: Path) -> bool:
    """Whether `path` is worth leaving `other` for: it answers, it is direct, it is UDP as far as we see,
    or it is clearly faster."""
    if path.suspect != other.suspect:
        return other.suspect
    if path.route.relayed != other.route.relayed:
        return other.route.relayed
    if path.route.websocket != other.route.websocket:
        return other.route.websocket  # TCP makes one loss a pause for everything behind it
    mine, theirs = path.recovery.rtt.smoothed, other.recovery.rtt.smoothed
    return mine < theirs - max(_GAIN_SECONDS, _GAIN_SHARE * theirs)


def best(paths: Sequence[Path]) -> Path:
    """The first of `paths` (at least one) that none after it is better than."""
    chosen = paths[0]
    for path in paths[1:]:
        if better(path, chosen):
            chosen = path
    return chosen
