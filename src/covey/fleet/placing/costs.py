"""What one agent costs at an offering, in USD per hour, part by part.

    list price + egress + spot risk + latency

Spot risk is what preemptions cost: preemptions per hour x (one move + the on-demand price for as long as a cold start
takes). A part that is unknown stays unknown (None): it is shown so and never invented.
"""

from __future__ import annotations

from collections.abc import Iterable

from covey.fleet.model import Offering
from covey.fleet.spec.types import Workload

__all__ = ["cost_parts", "on_demand_prices", "total"]


def on_demand_prices(offerings: Iterable[Offering]) -> dict[tuple[str, str], float]:
    """By (pool, shape) the on-demand price, and under ("", "") the cheapest of all."""
    prices: dict[tuple[str, str], float] = {}
    for offering in offerings:
        if offering.spot or offering.price is None:
            continue
        for key in ((offering.pool, offering.shape), ("", "")):
            if offering.price < prices.get(key, float("inf")):
                prices[key] = offering.price
    return prices


def cost_parts(
    workload: Workload, offering: Offering, move_cost: float, on_demand: dict[tuple[str, str], float]
) -> dict[str, float | None]:
    """`list`, `egress`, `spot_risk`, `latency` of one agent of `workload` at `offering`."""
    risk = 0.0
    if offering.spot and offering.preemptions > 0:
        price = on_demand.get((offering.pool, offering.shape), on_demand.get(("", ""), offering.price or 0.0))
        risk = offering.preemptions * (move_cost + workload.cold_start / 3600 * price)
    return {
        "list": offering.price,
        "egress": offering.egress,
        "spot_risk": risk,
        "latency": workload.place.usd_per_ms_hour * offering.latency_ms,
    }


def total(parts: dict[str, float | None]) -> float | None:
    """All parts together; None when the list price is unknown. Unknown egress counts nothing."""
    if parts["list"] is None:
        return None
    return sum(part for part in parts.values() if part is not None)
