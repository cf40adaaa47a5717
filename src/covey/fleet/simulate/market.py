"""What simulated pools offer, and at what price: read from a folder of price tables.

`ondemand*.csv` has list prices (`cloud,region,instance_type,vcpu,mem_gib,gpu,arch,price_usd_h,spot_usd_h`), a
`*spot_history*.csv` how spot prices went (`commit_time,region,instance_type,on_demand,spot`), a table of egress what
a GB costs from region to region (`src,dst,cost`). One agent is one machine
of 4 vCPU and 16 GiB, x86-64, no GPU, not burstable: like shapes everywhere, so the same speed. One pool per cloud, in
the same part of the world (`PLACES`: northern Virginia), so the same jurisdiction and the same distance from whoever
asks.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec.structs import replace

from covey.base.errors import ParseError
from covey.fleet.model import Offering

__all__ = ["ONE_PRICE", "Change", "Market", "load_market", "no_prices"]

PLACES = {"aws": "us-east-1", "azure": "eastus", "gcp": "us-east4"}
ZONES = ("a", "b")
VCPU, MEMORY_GIB = 4, (15.0, 17.0)
SHAPES = 3
"""The cheapest shapes of a pool that are offered, on demand and spot each: the rest never matters."""
FOREIGN = ("t2a-", "c4a-", "n4a-", "a1.", "m6g", "m7g", "m8g", "t4g", "c6g", "c7g", "c8g")
"""Families of another architecture, where the table does not say it."""
BURSTABLE = ("t2.", "t3.", "t3a.", "t4g.", "standard_b", "basic_", "e2-micro", "e2-small", "e2-medium")
ONE_PRICE = 0.2
"""USD per agent and hour where no prices are given."""
STORY_BEGINS = "2026-06-01T00:00:00+00:00"
"""When a trace's first second is, on the calendar of the price history."""
INTERNET = {"aws": 0.09, "azure": 0.0875, "gcp": 0.12}
"""USD per GB to the internet, first tier (SkyPilot's table), where no table says it."""
NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}")
MAX_BYTES = 128 << 20


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A price that changes while the trace runs."""

    at: float
    offering: str
    price: float


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """Pools, what they offer, and what changes."""

    offerings: tuple[Offering, ...]
    changes: tuple[Change, ...] = ()
    egress: dict[str, dict[str, float]] = {}
    """By region of a source, then by destination: USD per GB, where a table says so."""

    @property
    def pools(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(offering.pool for offering in self.offerings))

    def of(self, *, clouds: Iterable[str] | None = None, spot: bool = True) -> Market:
        """A part of it."""
        chosen = None if clouds is None else frozenset(clouds)
        kept = tuple(o for o in self.offerings if (chosen is None or o.cloud in chosen) and (spot or not o.spot))
        keys = {offering.key for offering in kept}
        return replace(self, offerings=kept, changes=tuple(c for c in self.changes if c.offering in keys))

    def egress_per_gb(self, offering: Offering, to: str) -> float | None:
        """USD; None: unknown. Inside a region it is free."""
        listed = self.egress.get(offering.region, {})
        if to in listed:
            return listed[to]
        if to == offering.region:
            return 0.0
        return INTERNET.get(offering.cloud) if to == "internet" else None

    def cheapest(self) -> Offering:
        """The cheapest on demand."""
        return min((o for o in self.offerings if not o.spot), key=lambda o: (o.price or 0.0, o.key))


class _Row(msgspec.Struct, frozen=True):
    cloud: str
    region: str
    shape: str
    price: float | None
    spot: float | None


def no_prices() -> Market:
    """One pool, one price: for those who have no price tables."""
    return Market(offerings=(Offering(pool="one", shape="agent", cloud="one", price=ONE_PRICE),))


def load_market(folder: Path, *, preemptions: float, places: Iterable[tuple[str, str]] = ()) -> Market:
    """Everything in a folder of price tables. `preemptions`: of a spot agent, per hour. `places`: cloud and region of
    further pools, beside the one of `PLACES` for each cloud."""
    rows: list[_Row] = []
    history: dict[tuple[str, str], list[tuple[float, float]]] = {}
    egress: dict[str, dict[str, float]] = {}
    for path in sorted(folder.glob("*.csv")):
        for columns in _read(path):
            if {"src", "dst", "cost"} <= columns.keys():
                egress.setdefault(columns["src"], {})[columns["dst"]] = _price(columns["cost"], path) or 0.0
            elif "price_usd_h" in columns:
                rows += [row] if (row := _row(columns, path)) is not None else []
            elif "commit_time" in columns and "spot" in columns:
                at = _at(columns["commit_time"], path)
                spot = _price(columns["spot"], path)
                if spot is not None:
                    history.setdefault((columns["region"], columns["instance_type"]), []).append((at, spot))
    if not any(row.price is not None for row in rows):
        raise ParseError(
            f"{folder} has no prices for agents of {VCPU} vCPU and 16 GiB",
            next_step="needed: a CSV with cloud,region,instance_type,vcpu,mem_gib,gpu,arch,price_usd_h,spot_usd_h",
        )
    offerings: list[Offering] = []
    changes: list[Change] = []
    known = {(row.cloud, row.region) for row in rows}
    usual = {(cloud, _place(cloud, rows)) for cloud in {row.cloud for row in rows}}
    for cloud, region in sorted(usual | (known & set(places))):
        found, changing = _pool(cloud, region, rows, history, preemptions)
        offerings += found
        changes += changing
    changes.sort(key=lambda change: (change.at, change.offering))
    return Market(offerings=tuple(offerings), changes=tuple(changes), egress=egress)


def _place(cloud: str, rows: list[_Row]) -> str:
    regions = {row.region for row in rows if row.cloud == cloud}
    return PLACES[cloud] if PLACES.get(cloud) in regions else min(regions)


def _pool(
    cloud: str,
    region: str,
    rows: list[_Row],
    history: dict[tuple[str, str], list[tuple[float, float]]],
    preemptions: float,
) -> tuple[list[Offering], list[Change]]:
    here = [row for row in rows if (row.cloud, row.region) == (cloud, region)]
    pool = f"{cloud}-{region}"
    offerings: list[Offering] = []
    changes: list[Change] = []

    def offer(row: _Row, price: float, zone: str, *, spot: bool) -> Offering:
        offering = Offering(
            pool=pool,
            shape=row.shape,
            spot=spot,
            zone=f"{region}{zone}" if zone else "",
            cloud=cloud,
            region=region,
            jurisdiction="us" if region in PLACES.values() else "",
            price=price,
            preemptions=preemptions if spot else 0.0,
        )
        offerings.append(offering)
        return offering

    for row in sorted((r for r in here if r.price), key=lambda r: (r.price or 0.0, r.shape))[:SHAPES]:
        offer(row, row.price or 0.0, "", spot=False)
    begins = datetime.fromisoformat(STORY_BEGINS).timestamp()
    spots = []
    for row in here:
        if row.spot:
            known = sorted(history.get((region, row.shape), ()))
            before = [price for at, price in known if at <= begins]
            spots.append((before[-1] if before else row.spot, row, [(at, p) for at, p in known if at > begins]))
    for price, row, later in sorted(spots, key=lambda spot: (spot[0], spot[1].shape))[:SHAPES]:
        for zone in ZONES:
            key = offer(row, price, zone, spot=True).key
            changes += [Change(at=at - begins, offering=key, price=value) for at, value in later]
    return offerings, changes


def _row(columns: dict[str, str], path: Path) -> _Row | None:
    """A row that is for our agents, or None."""
    try:
        if float(columns["vcpu"] or 0) != VCPU or not MEMORY_GIB[0] <= float(columns["mem_gib"] or 0) <= MEMORY_GIB[1]:
            return None
        shape = columns["instance_type"]
        plain = shape.lower()
        if columns["gpu"] not in ("", "0") or columns["arch"] not in ("", "amd64"):
            return None
        if plain.startswith(BURSTABLE) or (not columns["arch"] and plain.startswith(FOREIGN)):
            return None
        if not all(NAME.fullmatch(columns[name]) for name in ("cloud", "region", "instance_type")):
            raise ValueError("a name with other characters than letters, digits and _.-")
        price, spot = _price(columns["price_usd_h"], path), _price(columns["spot_usd_h"], path)
        return _Row(columns["cloud"], columns["region"], shape, price, spot)
    except (KeyError, ValueError) as error:
        raise ParseError(f"{path.name}: {error!r} in the row of {str(columns.get('instance_type'))[:40]!r}") from None


def _read(path: Path) -> Iterable[dict[str, str]]:
    if path.stat().st_size > MAX_BYTES:
        raise ParseError(f"{path.name} is larger than {MAX_BYTES >> 20} MiB")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            for row in csv.DictReader(lines):
                yield {str(key): str(value or "") for key, value in row.items()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise ParseError(f"{path.name}: {error}") from None


def _price(cell: str, path: Path) -> float | None:
    if not cell:
        return None
    try:
        price = float(cell)
    except ValueError:
        raise ParseError(f"{path.name}: {cell[:40]!r} is no price") from None
    if not 0 <= price < 1e5:
        raise ParseError(f"{path.name}: {cell[:40]!r} USD per hour is no price")
    return price or None


def _at(cell: str, path: Path) -> float:
    try:
        return datetime.fromisoformat(cell).timestamp()
    except ValueError:
        raise ParseError(f"{path.name}: {cell[:40]!r} is no date") from None
