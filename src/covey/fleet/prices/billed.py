"""Modelled against billed: what the journal says a day cost, beside what the clouds' invoices say.

Pure. A day counts when the controller was there for nearly all of it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timezone
from typing import Final

import msgspec

from covey.base.errors import ParseError
from covey.fleet.model import Decision
from covey.fleet.prices.tables import usd

__all__ = ["ALERT", "Difference", "compare", "modelled", "read_billed"]

ALERT: Final = 0.05
"""More than this apart is an alert (FLEET 3)."""

_COVERED: Final = 0.95
"""Of a day: less, and the journal cannot say what it cost."""

_GAP: Final = 150.0
"""Seconds that one decision may stand for: one is recorded each minute at least, so that a longer silence is a
controller that was away."""

_UNPAID: Final = frozenset({"coming", "dead"})
"""Agents that are not there: ordered and not seen, or gone."""

_DAY: Final = 86_400.0


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One day in one cloud."""

    day: str
    cloud: str
    billed: float
    modelled: float
    covered: float
    """The share of the day that the journal knows."""
    apart: float | None
    """modelled / billed - 1; None: nothing was billed, or too little of the day is known."""

    @property
    def alert(self) -> bool:
        return self.apart is not None and abs(self.apart) > ALERT


def read_billed(text: str, name: str) -> dict[tuple[str, str], float]:
    """USD by day and cloud, of a CSV with the columns day,cloud,usd; lines of one day and cloud add up."""
    found: dict[tuple[str, str], float] = {}
    reader = csv.DictReader(text.splitlines())
    if not {"day", "cloud", "usd"} <= set(reader.fieldnames or ()):
        raise ParseError(f"{name} has no columns day,cloud,usd", code="billed-table")
    for row in reader:
        try:
            key = (date.fromisoformat(row["day"]).isoformat(), row["cloud"])
            found[key] = found.get(key, 0.0) + usd(row["usd"])
        except (TypeError, ValueError):
            raise ParseError(
                f"{name} line {reader.line_num}: expected a day such as 2026-11-20, a cloud and USD",
                code="billed-table",
            ) from None
    return found


def modelled(decisions: Iterable[Decision], clouds: Mapping[str, str]) -> dict[tuple[str, str], tuple[float, float]]:
    """USD and known seconds, by day (UTC) and cloud. `decisions`: of all workloads, oldest first. `clouds`: by pool."""
    found: dict[tuple[str, str], list[float]] = {}
    before: dict[str, Decision] = {}
    workloads: set[str] = set()
    for decision in decisions:
        last = before.get(decision.workload)
        before[decision.workload] = decision
        workloads.add(decision.workload)
        if last is None or not 0 < decision.at - last.at <= _GAP:
            continue
        day = datetime.fromtimestamp(last.at, tz=timezone.utc).date().isoformat()  # noqa: UP017
        seconds = decision.at - last.at
        prices = {one.offering: one.parts for one in last.candidates}
        costs = dict.fromkeys(clouds.values(), 0.0)
        for offering, states in last.agents.items():
            parts = prices.get(offering, {})
            each = (parts.get("list") or 0.0) + (parts.get("egress") or 0.0)
            cloud = clouds.get(offering.partition("/")[0], "")
            costs[cloud] = costs.get(cloud, 0.0) + each * sum(
                count for state, count in states.items() if state not in _UNPAID
            )
        for cloud, hourly in costs.items():
            total = found.setdefault((day, cloud), [0.0, 0.0])
            total[0] += hourly * seconds / 3600
            total[1] += seconds
    return {key: (total, seconds / max(1, len(workloads))) for key, (total, seconds) in found.items()}


def compare(
    billed: Mapping[tuple[str, str], float], known: Mapping[tuple[str, str], tuple[float, float]]
) -> list[Difference]:
    """Every day that was billed, oldest first."""
    found = []
    for (day, cloud), paid in sorted(billed.items()):
        total, seconds = known.get((day, cloud), (0.0, 0.0))
        covered = min(1.0, seconds / _DAY)
        apart = total / paid - 1.0 if paid > 0 and covered >= _COVERED else None
        found.append(Difference(day=day, cloud=cloud, billed=paid, modelled=total, covered=covered, apart=apart))
    return found
