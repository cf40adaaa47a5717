"""What the loop asks: the price of a shape with its age, and what an agent's traffic costs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from msgspec.structs import replace

from covey.base.errors import CoveyError, StorageError
from covey.fleet.model import Offering, PoolView
from covey.fleet.prices.catalog import Catalog
from covey.fleet.prices.overrides import Overrides, load_overrides
from covey.fleet.prices.types import HOURS_A_MONTH
from covey.fleet.spec.types import PriceSources, Spec, Workload

__all__ = ["CATALOG_FILE", "PREEMPTIONS", "Quotes", "catalog_path"]

CATALOG_FILE: Final = "prices.db"

PREEMPTIONS: Final = 0.05
"""Per spot agent and hour, where nobody knows better. No cloud publishes it; FLEET 4 simulates with it."""

_log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")


def catalog_path(home: Path, sources: PriceSources) -> Path:
    """Where the catalog is: the spec's word, else in the fleet's home."""
    return Path(sources.catalog) if sources.catalog else home / CATALOG_FILE


class Quotes:
    """The overrides, then the catalog. The overrides are read again when their file changes; while they cannot be
    read, what they last said holds, and `problem` says why."""

    def __init__(self, home: Path, sources: PriceSources | None = None) -> None:
        self.problem = ""
        self._home = home
        self._sources = sources or PriceSources()
        self._catalog: Catalog | None = None
        self._seen: tuple[int, int] | None = None
        self._overrides = Overrides()

    def use(self, sources: PriceSources) -> None:
        """What a spec says about where prices come from."""
        if sources == self._sources:
            return
        self.close()
        self._sources, self._seen, self._overrides, self.problem = sources, None, Overrides(), ""

    def close(self) -> None:
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None

    def quote(self, cloud: str, region: str, shape: str, spot: bool) -> tuple[float, float | None] | None:
        """USD per machine and hour, and when that was read (None: declared by hand); None: not known."""
        own = self._current()
        declared = own.usd(cloud, region, shape, spot=spot)
        if declared is not None:
            return declared, None
        found = self._ask(lambda catalog: catalog.price(cloud, region, shape, spot=spot))
        if found is None:
            return None
        return found.usd * (1.0 if spot else own.factor(cloud)), found.at

    def traffic(self, cloud: str, region: str, to: str, gb_month: float) -> float | None:
        """USD for one more GB in a month that has seen so many; None: not known."""
        found = self._current().traffic(cloud, region, to)
        if found is None:
            found = self._ask(lambda catalog: catalog.egress(cloud, region, to))
        return None if found is None else found.usd_per_gb(gb_month)

    def priced(self, views: Mapping[str, PoolView], spec: Spec) -> dict[str, PoolView]:
        """The same views, each offering with what an agent's traffic costs there and how often spot is taken away.

        Declared traffic x price; without a declaration it is not known. A local pool's traffic costs nothing.
        """
        self.use(spec.prices)
        found = {}
        for name, view in views.items():
            pool = spec.pools.get(name)
            if pool is None or pool.provider == "local" or not view.offerings:
                found[name] = view
                continue
            offerings = {
                workload: tuple(self._billed(offering, spec.workloads.get(workload), view) for offering in offered)
                for workload, offered in view.offerings.items()
            }
            found[name] = replace(view, offerings=offerings)
        return found

    def _billed(self, offering: Offering, workload: Workload | None, view: PoolView) -> Offering:
        if offering.spot and not offering.preemptions:
            offering = replace(offering, preemptions=PREEMPTIONS)
        gb_hour = workload.place.egress_gb_hour if workload is not None else None
        if workload is None or gb_hour is None:
            return replace(offering, egress=None)
        if gb_hour == 0:
            return replace(offering, egress=0.0)
        there = sum(1 for agent in view.agents if agent.workload == workload.name)
        usd = self.traffic(
            offering.cloud, offering.region, workload.place.egress_to, gb_hour * HOURS_A_MONTH * max(1, there)
        )
        return replace(offering, egress=None if usd is None else usd * gb_hour)

    def _ask(self, question: Callable[[Catalog], _Answer]) -> _Answer | None:
        """None while the catalog cannot be used: prices are then unknown, and the loop goes on."""
        try:
            if self._catalog is None:
                self._catalog = Catalog(catalog_path(self._home, self._sources))
            return question(self._catalog)
        except StorageError as error:
            self._complain(error)
            return None

    def _current(self) -> Overrides:
        if not self._sources.overrides:
            return self._overrides
        path = Path(self._sources.overrides)
        try:
            found = path.stat()
            seen = (found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._seen = seen
                self._overrides = load_overrides(path)
                self.problem = ""
        except (CoveyError, OSError) as error:
            self._complain(error)
        return self._overrides

    def _complain(self, error: Exception) -> None:
        """Once for each problem."""
        if str(error) != self.problem:
            _log.error("prices: %s", error)
        self.problem = str(error)
