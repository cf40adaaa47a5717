"""The user's own prices: a TOML that wins over everything that was read, and never gets old.

::

    [[discount]]                    # of every list price of a cloud, as negotiated
    cloud = "aws"
    share = "12%"

    [[price]]
    cloud = "aws"
    region = "us-east-1"
    shape = "m7g.large"
    usd = 0.0714                    # per machine and hour
    spot = false

    [[egress]]
    cloud = "aws"
    region = "us-east-1"
    to = "internet"
    usd_per_gb = 0.05
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from covey.base.errors import StorageError
from covey.fleet.prices.types import Egress, Tier
from covey.fleet.spec.kinds import BAD, Field, Flag, ListOf, Number, Reading, Table, Text, share
from covey.fleet.spec.source import MAX_BYTES, Fault, SpecError
from covey.fleet.spec.toml import read_toml

__all__ = ["Overrides", "load_overrides"]

_WORD: Final = Text("a word", r"[^\x00-\x1f]{1,253}")
_USD: Final = Number(0, 1e6, "USD,")


class Discount(msgspec.Struct, frozen=True, kw_only=True):
    """Off every list price of a cloud; spot prices are the market's."""

    cloud: str
    share: float


class OwnPrice(msgspec.Struct, frozen=True, kw_only=True):
    """Of a shape."""

    cloud: str
    region: str
    shape: str
    usd: float
    spot: bool = False


class OwnEgress(msgspec.Struct, frozen=True, kw_only=True):
    """Of a region."""

    cloud: str
    region: str
    usd_per_gb: float
    to: str = "internet"


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    discount: tuple[Discount, ...] = ()
    price: tuple[OwnPrice, ...] = ()
    egress: tuple[OwnEgress, ...] = ()

    def usd(self, cloud: str, region: str, shape: str, *, spot: bool) -> float | None:
        wanted = (cloud.lower(), region.lower(), shape.lower(), spot)
        for one in self.price:
            if (one.cloud.lower(), one.region.lower(), one.shape.lower(), one.spot) == wanted:
                return one.usd
        return None

    def factor(self, cloud: str) -> float:
        """What is left of a list price."""
        return next((1.0 - one.share for one in self.discount if one.cloud.lower() == cloud.lower()), 1.0)

    def traffic(self, cloud: str, region: str, to: str) -> Egress | None:
        wanted = (cloud.lower(), region.lower(), to.lower())
        for one in self.egress:
            if (one.cloud.lower(), one.region.lower(), one.to.lower()) == wanted:
                tiers = (Tier(0.0, one.usd_per_gb),)
                return Egress(cloud=cloud, region=region, to=to, tiers=tiers, at=0.0, source="overrides")
        return None


_PLACE: Final = {
    "cloud": Field(_WORD, "The pool's label `cloud`.", required=True),
    "region": Field(_WORD, "Its region.", required=True),
}

_TABLE: Final = Table(
    Overrides,
    {
        "discount": Field(
            ListOf(
                Table(
                    Discount,
                    {
                        "cloud": Field(_WORD, "Whose.", required=True),
                        "share": Field(share(), "What is taken off.", required=True),
                    },
                )
            ),
            "Off list prices.",
        ),
        "price": Field(
            ListOf(
                Table(
                    OwnPrice,
                    {
                        **_PLACE,
                        "shape": Field(_WORD, "The instance type.", required=True),
                        "usd": Field(_USD, "For a machine and hour.", required=True),
                        "spot": Field(Flag(), "Its spot price."),
                    },
                ),
                most=100_000,
            ),
            "Prices of shapes.",
        ),
        "egress": Field(
            ListOf(
                Table(
                    OwnEgress,
                    {
                        **_PLACE,
                        "to": Field(_WORD, "internet, or a region."),
                        "usd_per_gb": Field(_USD, "For a GB.", required=True),
                    },
                ),
                most=100_000,
            ),
            "Prices of traffic.",
        ),
    },
)


def load_overrides(path: Path) -> Overrides:
    """Raises `SpecError` with every fault and its line, `StorageError`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise StorageError(
            f"the price overrides {path} cannot be read: {error.strerror}",
            code="price-overrides",
            next_step="prices.overrides names it in the spec",
        ) from None
    if len(data) > MAX_BYTES:
        raise SpecError(path.name, [Fault(0, "", "", f"at most {MAX_BYTES} bytes")])
    reading = Reading()
    found = _TABLE.read(read_toml(data.decode(errors="replace"), path.name), "", reading)
    if reading.faults or found is BAD:
        raise SpecError(path.name, reading.faults)
    assert isinstance(found, Overrides)
    return found
