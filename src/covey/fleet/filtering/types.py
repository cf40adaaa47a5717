"""What the filter is given, what it answers and what it remembers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from covey.fleet.health import Health
from covey.fleet.model import Cause, Offering, Orders, Placement, Step, Wanted
from covey.fleet.spec.types import Spec

__all__ = ["DEFAULT_MOVE_USD", "Drain", "Move", "Moved", "Removal", "SiftInput", "SiftState", "Sifted", "move_usd"]

DEFAULT_MOVE_USD: Final = 0.01
"""USD of one move beyond double running when the spec does not say: about 100 MB of image over a paid line. Ours, not
measured: registries in the same region charge nothing, pulls from outside 0.05 to 0.12 USD per GB."""


def move_usd(move_cost: float | None) -> float:
    """The one-off cost of moving one agent, without double running: the spec's, else `DEFAULT_MOVE_USD`."""
    return DEFAULT_MOVE_USD if move_cost is None else move_cost


class SiftInput(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one sifting looks at."""

    now: float
    spec: Spec
    placement: Placement
    """What the solver wants; a workload without counts is left as it is."""
    health: Health
    wanted: Mapping[str, Wanted] = {}
    offerings: Mapping[str, tuple[Offering, ...]] = {}
    """By workload, with learned speeds."""
    coming: Mapping[tuple[str, str], int] = {}
    """By (workload, offering): agents that were ordered and do not show yet."""
    leaving: Collection[str] = ()
    """`POOL/ID` of agents that a step under way drains or removes, whether or not a look shows it yet."""
    orders: Orders = Orders()
    removable: Mapping[tuple[str, str], int] = {}
    """By (pool, workload): how many may go now without breaking a disruption budget; absent: no limit known."""
    stale_prices: frozenset[str] = frozenset()
    """Offerings whose price is too old to justify a move."""
    labels: Mapping[str, dict[str, str]] = {}
    """By pool: its labels, for jurisdiction and affinity."""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Agents that are to be replaced elsewhere: new before old. It is in flight until the old ones are gone."""

    workload: str
    source: str
    target: str
    count: int
    """Old agents that were not told to drain yet."""
    starts: int
    """New agents that were ordered for them."""
    cause: Cause
    at: float
    reason: str
    saving: float = 0.0


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Agents that came to an offering by a move: they are not moved again within the hour."""

    workload: str
    target: str
    count: int
    at: float


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that was told to finish."""

    workload: str
    since: float
    cause: Cause


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """Agents that were taken away on metrics alone, for the brakes."""

    workload: str
    count: int
    at: float


class SiftState(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept in the store between turns."""

    moves: tuple[Move, ...] = ()
    moved: tuple[Moved, ...] = ()
    drains: dict[str, Drain] = {}
    """By `POOL/ID`."""
    removals: tuple[Removal, ...] = ()


class Sifted(msgspec.Struct, frozen=True, kw_only=True):
    """What passed and what did not."""

    steps: tuple[Step, ...] = ()
    """Each leaves every hard constraint true, in whichever order they are carried out."""
    held: dict[str, tuple[str, ...]] = {}
    """By workload: what the placement wants and the filter does not let through now, with the reason."""
