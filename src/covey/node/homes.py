"""Which two rendezvous an agent's record names as those to ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from covey.base.types import Identity

__all__ = ["HOMES", "choose_homes"]

HOMES: Final = 2
_GAIN_SECONDS: Final = 0.010
"""By how much a round trip must be shorter until a home is worth a change: every change is published and looked up."""


def choose_homes(
    homes: Sequence[Identity], there: Mapping[Identity, float | None], gone: AbstractSet[Identity]
) -> list[Identity]:
    """The homes from now on: those there are, unless one that is `gone` can be replaced, or another is clearly nearer.

    `there`: the rendezvous that can be homes now, and the round trip to each in seconds, None if it is not known yet.
    The order of `homes` is kept where nothing changes; new ones come last.
    """
    chosen = list(dict.fromkeys([*(home for home in homes if home not in gone), *there, *homes]))[:HOMES]
    for other, rtt in sorted(there.items(), key=lambda each: (each[1] is None, each[1])):
        worst = max((home for home in chosen if home in there), key=lambda home: there[home] or 0.0, default=None)
        if rtt is None or worst is None or other in chosen:
            continue
        if rtt <= (there[worst] or 0.0) - _GAIN_SECONDS:
            chosen.remove(worst)
            chosen.append(other)
    return chosen
