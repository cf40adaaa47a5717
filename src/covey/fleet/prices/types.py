"""What every reader of prices gives. Money is USD, sizes are bytes, times are seconds since 1970."""

from __future__ import annotations

from typing import Final

import msgspec

from covey.fleet.model import STALE_ON_DEMAND, STALE_SPOT

__all__ = ["HOURS_A_MONTH", "Egress", "Machine", "Price", "Tables", "Tier", "stale"]

HOURS_A_MONTH: Final = 730.0
"""As the clouds' own calculators count."""


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of one shape for an hour."""

    cloud: str
    region: str
    shape: str
    usd: float
    at: float
    spot: bool = False
    zone: str = ""
    source: str = ""
    """Where it was read: `aws price list`, `table ondemand.csv`."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a shape is."""

    cloud: str
    shape: str
    vcpu: float
    memory: int
    gpu: int = 0
    arch: str = ""


class Tier(msgspec.Struct, frozen=True):
    """From so many GB a month on, a GB costs so much."""

    from_gb: float
    usd: float


class Egress(msgspec.Struct, frozen=True, kw_only=True):
    """Traffic that leaves a region."""

    cloud: str
    region: str
    to: str
    """`internet`, or a region of the same cloud."""
    tiers: tuple[Tier, ...]
    """By rising `from_gb`, the first from 0."""
    at: float
    source: str = ""

    def usd_per_gb(self, gb_month: float) -> float:
        """What one more GB costs in a month that has seen so many."""
        return next(tier.usd for tier in reversed(self.tiers) if tier.from_gb <= max(0.0, gb_month))


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    """What one reading gave."""

    prices: tuple[Price, ...] = ()
    machines: tuple[Machine, ...] = ()
    egress: tuple[Egress, ...] = ()


def stale(at: float | None, now: float, *, spot: bool) -> bool:
    """Whether a price read then is too old to justify a move; None was declared by hand and never is."""
    return at is not None and now - at > (STALE_SPOT if spot else STALE_ON_DEMAND)
