"""Every offering as the solver judged it, with the reason why it has fewer agents than it could."""

from __future__ import annotations

from covey.fleet.model import Candidate
from covey.fleet.placing.costs import cost_parts, on_demand_prices, total
from covey.fleet.placing.plan import Plan
from covey.fleet.placing.rules import Entry

__all__ = ["candidates"]


def candidates(entry: Entry, plan: Plan) -> tuple[Candidate, ...]:
    """All offerings of one workload, in the order in which they were given; none when nothing about it was decided."""
    item = entry.item
    if not item.changed:
        return ()
    on_demand = on_demand_prices(item.offerings)
    places = {option.key: j for j, option in enumerate(entry.options)}
    counts = plan.counts[entry.index]
    found: list[Candidate] = []
    for offering in item.offerings:
        j = places.get(offering.key)
        parts = (
            entry.options[j].parts if j is not None else cost_parts(item.workload, offering, item.move_cost, on_demand)
        )
        found.append(
            Candidate(
                offering=offering.key,
                count=counts.get(j, 0) if j is not None else entry.fixed.get(offering.key, 0),
                was=item.running.get(offering.key, 0),
                price=total(parts),
                parts=parts,
                rejected=entry.rejected.get(offering.key, "") if j is None else _why(entry, plan, j),
            )
        )
    return tuple(found)


def _why(entry: Entry, plan: Plan, j: int) -> str:
    """Why a usable option has no more agents than it has; "" when no more were needed there."""
    option = entry.options[j]
    counts = plan.counts[entry.index]
    n = counts.get(j, 0)
    if option.pool in plan.room.closed.get(entry.index, ()):
        return f"affinity with other workloads keeps it out of pool {option.pool}"
    if n >= option.high:
        return option.growth
    if option.scope_slot >= 0 and plan.room.scopes[option.scope_slot] <= 0:
        return f"no more room in {option.offering.scope}"
    if option.pool_slot >= 0 and plan.room.pools[option.pool_slot] <= 0:
        return f"pool {option.pool} has all the agents it may have"
    cap = entry.pool_caps.get(option.pool)
    if cap is not None and sum(m for i, m in counts.items() if entry.options[i].pool == option.pool) >= cap:
        return f"at most {cap} of its agents may be in pool {option.pool}"
    if option.offering.price is None and n == 0:
        return "its price is unknown: taken only when nothing else serves"
    if n or not counts:
        return ""
    dearest = max(counts, key=lambda i: entry.options[i].price / entry.options[i].speed)
    mine, theirs = option.price / option.speed, entry.options[dearest].price / entry.options[dearest].speed
    if mine > theirs:
        return f"dearer: {mine:.4f} against {theirs:.4f} USD/h for a standard agent"
    if option.stale:
        return "its price is stale and moves nothing"
    if option.spot:
        return "the spot rules allow no more"
    if entry.item.running and entry.move:
        return "moving there would cost more than it saves"
    return "not needed"
