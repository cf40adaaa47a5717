"""What could not be kept, which constraint stands in the way, and the nearest feasible plan."""

from __future__ import annotations

from covey.fleet.model import Shortfall
from covey.fleet.placing.judge import DEMAND, MINIMUM, SURVIVE, WEIGHTS
from covey.fleet.placing.plan import Plan
from covey.fleet.placing.rules import Entry, Model

__all__ = ["shortfalls"]


def shortfalls(model: Model, plan: Plan) -> tuple[Shortfall, ...]:
    """All constraints that the plan does not keep, in the order in which constraints win."""
    found: list[Shortfall] = []
    for entry in model.entries:
        score = plan.score(entry)
        cover = sum(entry.options[j].speed * n for j, n in plan.counts[entry.index].items())
        for part, constraint, missing in (
            (MINIMUM, "min", score[MINIMUM]),
            (SURVIVE, "survive", score[SURVIVE]),
            (DEMAND, "demand", max(entry.need - cover, 0.0)),
            (WEIGHTS, "weights", score[WEIGHTS]),
        ):
            if score[part]:
                found.append(
                    Shortfall(
                        workload=entry.name,
                        constraint=constraint,
                        missing=missing,
                        reason=f"{missing:g} missing",
                        nearest=words(entry, plan),
                    )
                )
    return tuple(found)


def words(entry: Entry, plan: Plan) -> str:
    """One workload's plan in words."""
    counts = plan.counts[entry.index]
    if not counts:
        return "no agents"
    return ", ".join(f"{n} at {entry.options[j].key}" for j, n in sorted(counts.items()))
