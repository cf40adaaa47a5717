"""The cache of prices, with their age: SQLite, so that one program may refresh it while another reads."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from covey.base.errors import StorageError
from covey.fleet.prices.types import Egress, Machine, Price, Tables, Tier

__all__ = ["Catalog", "Summary"]

_KEEP_HISTORY: Final = 90 * 86_400.0
"""Seconds of spot history. Ours: a season of shopping."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS price (
    cloud TEXT COLLATE NOCASE, region TEXT COLLATE NOCASE, shape TEXT COLLATE NOCASE, spot INTEGER, zone TEXT,
    usd REAL NOT NULL, at REAL NOT NULL, source TEXT NOT NULL, PRIMARY KEY (cloud, region, shape, spot, zone))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spot_history (
    cloud TEXT COLLATE NOCASE, region TEXT COLLATE NOCASE, shape TEXT COLLATE NOCASE, zone TEXT, at REAL,
    usd REAL NOT NULL, PRIMARY KEY (cloud, region, shape, zone, at)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS machine (
    cloud TEXT COLLATE NOCASE, shape TEXT COLLATE NOCASE, vcpu REAL, memory INTEGER, gpu INTEGER, arch TEXT,
    PRIMARY KEY (cloud, shape)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS egress (
    cloud TEXT COLLATE NOCASE, region TEXT COLLATE NOCASE, target TEXT COLLATE NOCASE, tiers TEXT NOT NULL,
    at REAL NOT NULL, source TEXT NOT NULL, PRIMARY KEY (cloud, region, target)) WITHOUT ROWID;
"""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalog knows of one cloud."""

    cloud: str
    regions: int
    on_demand: int
    on_demand_at: float | None
    """When its oldest was read."""
    spot: int
    spot_at: float | None
    egress: int


class Catalog:
    """Raises `StorageError` and nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._errors():
            self._connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.executescript(_TABLES)
            path.chmod(0o600)

    def close(self) -> None:
        self._connection.close()

    def put(self, tables: Tables) -> None:
        """All of it or nothing. An older price than the one that is there stays history."""
        with self._errors(), self._transaction():
            execute = self._connection.executemany
            execute(
                "INSERT INTO price VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET usd = excluded.usd, "
                "at = excluded.at, source = excluded.source WHERE excluded.at >= price.at",
                ((p.cloud, p.region, p.shape, int(p.spot), p.zone, p.usd, p.at, p.source) for p in tables.prices),
            )
            execute(
                "INSERT INTO spot_history VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET usd = excluded.usd",
                ((p.cloud, p.region, p.shape, p.zone, p.at, p.usd) for p in tables.prices if p.spot),
            )
            execute(
                "INSERT OR REPLACE INTO machine VALUES (?, ?, ?, ?, ?, ?)",
                ((m.cloud, m.shape, m.vcpu, m.memory, m.gpu, m.arch) for m in tables.machines),
            )
            execute(
                "INSERT INTO egress VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET tiers = excluded.tiers, "
                "at = excluded.at, source = excluded.source WHERE excluded.at >= egress.at",
                (
                    (e.cloud, e.region, e.to, msgspec.json.encode(e.tiers).decode(), e.at, e.source)
                    for e in tables.egress
                ),
            )

    def forget(self, now: float) -> None:
        """Spot history that is too old."""
        with self._errors():
            self._connection.execute("DELETE FROM spot_history WHERE at < ?", (now - _KEEP_HISTORY,))

    def price(self, cloud: str, region: str, shape: str, *, spot: bool) -> Price | None:
        """The newest. A spot price that differs by zone is the mean of its zones, as old as the oldest of them."""
        found = self.prices(cloud=cloud, region=region, shape=shape, spot=spot, limit=64)
        if not found:
            return None
        whole = next((price for price in found if not price.zone), None)
        if whole is not None or len(found) == 1:
            return whole or found[0]
        mean = sum(price.usd for price in found) / len(found)
        return msgspec.structs.replace(found[0], usd=mean, at=min(price.at for price in found), zone="")

    def prices(
        self, *, cloud: str = "", region: str = "", shape: str = "", spot: bool | None = None, limit: int = 100
    ) -> list[Price]:
        """The cheapest first."""
        wanted: dict[str, Any] = {"cloud": cloud, "region": region, "shape": shape}
        where = [f"{name} = ?" for name, value in wanted.items() if value]
        values: list[Any] = [value for value in wanted.values() if value]
        if spot is not None:
            where.append("spot = ?")
            values.append(int(spot))
        condition = f"WHERE {' AND '.join(where)}" if where else ""
        rows = self._ask(
            f"SELECT cloud, region, shape, spot, zone, usd, at, source FROM price {condition} "  # noqa: S608 - our words
            "ORDER BY usd, cloud, region, shape, zone LIMIT ?",
            (*values, limit),
        )
        return [
            Price(cloud=c, region=r, shape=s, spot=bool(p), zone=z, usd=usd, at=at, source=source)
            for c, r, s, p, z, usd, at, source in rows
        ]

    def spot_history(self, cloud: str, region: str, shape: str, *, since: float = 0.0) -> list[Price]:
        """Oldest first."""
        rows = self._ask(
            "SELECT cloud, region, shape, zone, at, usd FROM spot_history "
            "WHERE cloud = ? AND region = ? AND shape = ? AND at >= ? ORDER BY at, zone",
            (cloud, region, shape, since),
        )
        return [Price(cloud=c, region=r, shape=s, zone=z, at=at, usd=usd, spot=True) for c, r, s, z, at, usd in rows]

    def read_at(self, cloud: str, region: str) -> float:
        """When the newest list price of a region was read; 0: never."""
        rows = self._ask("SELECT max(at) FROM price WHERE cloud = ? AND region = ? AND spot = 0", (cloud, region))
        return float(rows[0][0] or 0.0)

    def machine(self, cloud: str, shape: str) -> Machine | None:
        rows = self._ask(
            "SELECT cloud, shape, vcpu, memory, gpu, arch FROM machine WHERE cloud = ? AND shape = ?", (cloud, shape)
        )
        return None if not rows else Machine(**dict(zip(Machine.__struct_fields__, rows[0], strict=True)))

    def egress(self, cloud: str, region: str, to: str) -> Egress | None:
        """Traffic that stays in its region is free; what is not known is None."""
        if region.lower() == to.lower():
            return Egress(cloud=cloud, region=region, to=to, tiers=(Tier(0.0, 0.0),), at=0.0)
        rows = self._ask(
            "SELECT cloud, region, target, tiers, at, source FROM egress WHERE cloud = ? AND region = ? AND target = ?",
            (cloud, region, to),
        )
        if not rows:
            return None
        cloud, region, to, tiers, at, source = rows[0]
        return Egress(
            cloud=cloud,
            region=region,
            to=to,
            tiers=msgspec.json.decode(tiers, type=tuple[Tier, ...]),
            at=at,
            source=source,
        )

    def summaries(self) -> list[Summary]:
        rows = self._ask(
            "SELECT cloud, count(DISTINCT region), sum(spot = 0), min(CASE WHEN spot = 0 THEN at END), sum(spot), "
            "min(CASE WHEN spot THEN at END) FROM price GROUP BY cloud ORDER BY cloud"
        )
        lines = dict(self._ask("SELECT cloud, count(*) FROM egress GROUP BY cloud"))
        found = [
            Summary(
                cloud=cloud,
                regions=regions,
                on_demand=listed,
                on_demand_at=listed_at,
                spot=spot,
                spot_at=spot_at,
                egress=lines.pop(cloud, 0),
            )
            for cloud, regions, listed, listed_at, spot, spot_at in rows
        ]
        return found + [
            Summary(cloud=cloud, regions=0, on_demand=0, on_demand_at=None, spot=0, spot_at=None, egress=count)
            for cloud, count in lines.items()
        ]

    def _ask(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        with self._errors():
            return self._connection.execute(statement, tuple(values)).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"the price catalog {self._path} cannot be used: {error}",
                code="price-catalog",
                next_step="look at it, or remove it and read prices again: covey fleet prices refresh",
            ) from error
