"""Tables of prices as files: list prices with machines, the history of spot prices, egress between regions.

::

    on demand     cloud,region,instance_type,vcpu,mem_gib,gpu,arch,price_usd_h,spot_usd_h
    spot history  commit_time,region,instance_type,on_demand,spot
    egress        src,dst,cost

Which of them a file is its first line says. Columns may stand in any order; others are ignored.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from covey.base.errors import ParseError, StorageError
from covey.fleet.prices.types import Egress, Machine, Price, Tables, Tier

__all__ = ["read_table", "usd"]

_DEAREST: Final = 1e6
"""USD per hour or GB: what is above is no price."""

_LONGEST: Final = 256
_LONGEST_LINE: Final = 1 << 16
_MOST_ROWS: Final = 5_000_000

_Row = dict[str, str]


def read_table(path: Path, at: float, *, cloud: str = "") -> Tables:
    """The file's prices, read at `at`. `cloud` says whose they are where the table does not (spot history, egress).

    Raises `ParseError` with the line, `StorageError`.
    """
    try:
        if path.exists() and not path.is_file():
            raise ParseError(f"{path.name} is no file", code="price-table")
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(_lines(file, path.name))
            head = next(reader, [])
            for columns, parse in _FORMATS.items():
                if set(columns) <= set(head):
                    return parse(_rows(reader, head, path.name), at, cloud, f"table {path.name}")
    except (csv.Error, UnicodeDecodeError) as error:
        raise ParseError(f"{path.name} is no CSV: {error}", code="price-table") from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", code="price-table") from None
    known = "; ".join(",".join(columns) for columns in _FORMATS)
    raise ParseError(
        f"{path.name} has none of the known first lines",
        code="price-table",
        next_step=f"a table has the columns {known}",
    )


def usd(text: str) -> float:
    """A price. Raises `ValueError`."""
    number = float(text)
    if not math.isfinite(number) or not 0 <= number <= _DEAREST:
        raise ValueError(text)
    return number


def _lines(file: IO[str], name: str) -> Iterator[str]:
    """One at a time; a file without line ends would otherwise be one line as large as itself."""
    while line := file.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise ParseError(f"{name} has a line of more than {_LONGEST_LINE} characters", code="price-table")
        yield line


def _rows(reader: Iterator[list[str]], head: list[str], name: str) -> Iterator[tuple[int, _Row]]:
    for number, cells in enumerate(reader, start=2):
        if number > _MOST_ROWS:
            raise ParseError(f"{name} has more than {_MOST_ROWS} lines", code="price-table")
        if not cells:
            continue
        if len(cells) < len(head) or any(len(cell) > _LONGEST for cell in cells):
            raise ParseError(f"{name} line {number}: expected {len(head)} cells", code="price-table")
        yield number, dict(zip(head, cells, strict=False))


def _each(rows: Iterable[tuple[int, _Row]], source: str, take: Callable[[_Row], None]) -> None:
    for number, row in rows:
        try:
            take(row)
        except ValueError as error:
            raise ParseError(f"{source} line {number}: {error} is not what is expected", code="price-table") from None


def _on_demand(rows: Iterable[tuple[int, _Row]], at: float, _cloud: str, source: str) -> Tables:
    prices: list[Price] = []
    machines: dict[tuple[str, str], Machine] = {}

    def take(row: _Row) -> None:
        cloud, region, shape = row["cloud"], row["region"], row["instance_type"]
        for column, spot in (("price_usd_h", False), ("spot_usd_h", True)):
            if row.get(column):
                prices.append(
                    Price(
                        cloud=cloud, region=region, shape=shape, usd=usd(row[column]), at=at, spot=spot, source=source
                    )
                )
        if row.get("vcpu") and row.get("mem_gib"):
            machines[cloud, shape] = Machine(
                cloud=cloud,
                shape=shape,
                vcpu=usd(row["vcpu"]),
                memory=round(usd(row["mem_gib"]) * (1 << 30)),
                gpu=int(usd(row.get("gpu") or "0")),
                arch=row.get("arch", ""),
            )

    _each(rows, source, take)
    return Tables(prices=tuple(prices), machines=tuple(machines.values()))


def _spot_history(rows: Iterable[tuple[int, _Row]], _at: float, cloud: str, source: str) -> Tables:
    prices: list[Price] = []
    if not cloud:
        raise ParseError(f"{source} does not say whose prices they are", code="price-table", next_step="--cloud gcp")

    def take(row: _Row) -> None:
        then = datetime.fromisoformat(row["commit_time"]).timestamp()
        for column, spot in (("on_demand", False), ("spot", True)):
            if row.get(column):
                prices.append(
                    Price(
                        cloud=cloud,
                        region=row["region"],
                        shape=row["instance_type"],
                        usd=usd(row[column]),
                        at=then,
                        spot=spot,
                        source=source,
                    )
                )

    _each(rows, source, take)
    return Tables(prices=tuple(prices))


def _egress(rows: Iterable[tuple[int, _Row]], at: float, cloud: str, source: str) -> Tables:
    found: list[Egress] = []
    if not cloud:
        raise ParseError(f"{source} does not say whose prices they are", code="price-table", next_step="--cloud aws")

    def take(row: _Row) -> None:
        tiers = (Tier(0.0, usd(row["cost"])),)
        found.append(Egress(cloud=cloud, region=row["src"], to=row["dst"], tiers=tiers, at=at, source=source))

    _each(rows, source, take)
    return Tables(egress=tuple(found))


_FORMATS: Final[dict[tuple[str, ...], Callable[[Iterable[tuple[int, _Row]], float, str, str], Tables]]] = {
    ("cloud", "region", "instance_type", "price_usd_h"): _on_demand,
    ("commit_time", "region", "instance_type", "spot"): _spot_history,
    ("src", "dst", "cost"): _egress,
}
