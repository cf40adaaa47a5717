"""The goals of FLEET section 4, judged over rows of a backtest.

- Violations at most those of the best causal baseline, and 0.1 percentage point.
- On recorded traces, where a causal baseline has at most 1 % violations and 12 reversals per hour: agent-hours at most
  1.05 times those of the cheapest such.
- Several pools with spot: at least 25 % below the cheapest single cloud on demand, never dearer than the cheapest
  single cloud with the same spot rules.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec

from covey.fleet.simulate.figures import Row

__all__ = ["Goal", "judge_goals", "words"]

CAUSAL = ("hpa", "kpa", "skyserve", "rayserve", "threshold")
VIOLATIONS_MORE = 0.001
GOOD_VIOLATIONS, GOOD_REVERSALS = 0.01, 12.0
DEARER = 1.05
SAVING = 0.25


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """One goal on one trace."""

    trace: str
    goal: str
    """`violations`, `agent-hours`, `clouds`, `spot`."""
    reached: bool
    ours: float
    bound: float
    """What `ours` had to be at most."""
    against: str
    """The policy that set it."""


def judge_goals(rows: Sequence[Row], recorded: Container[str]) -> list[Goal]:
    """Every goal that applies. `recorded`: the traces that were not made by us."""
    by_trace: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_trace.setdefault(row.trace, {})[row.policy] = row
    goals: list[Goal] = []
    for trace, policies in by_trace.items():
        ours = policies.get("covey")
        causal = [policies[name] for name in CAUSAL if name in policies]
        if ours is not None and causal:
            best = min(causal, key=lambda row: row.violations)
            bound = best.violations + VIOLATIONS_MORE
            goals.append(_goal(trace, "violations", ours.violations, bound, best.policy))
            good = [
                row for row in causal if row.violations <= GOOD_VIOLATIONS and row.reversals_per_hour <= GOOD_REVERSALS
            ]
            if good and trace in recorded:
                best = min(good, key=lambda row: row.replica_hours)
                goals.append(_goal(trace, "agent-hours", ours.replica_hours, DEARER * best.replica_hours, best.policy))
        goals += _several(trace, policies)
    return goals


def words(goals: Sequence[Goal]) -> str:
    """For a terminal: one line each."""
    return "\n".join(
        f"{'ok  ' if goal.reached else 'MISS'}  {goal.trace}: {goal.goal} {_number(goal.ours)}, "
        f"at most {_number(goal.bound)} ({goal.against})"
        for goal in goals
    )


def _several(trace: str, policies: dict[str, Row]) -> list[Goal]:
    several = policies.get("covey@all+spot")
    if several is None:
        return []
    single = [row for name, row in policies.items() if "@" in name and not name.startswith("covey@all")]
    demand = [row for row in single if "+spot" not in row.policy]
    # A cloud without spot offers the same with and without the rules.
    spot = [row for row in single if row.policy.endswith("+spot")] + demand
    goals = []
    if demand:
        best = min(demand, key=lambda row: row.cost_usd)
        goals.append(_goal(trace, "clouds", several.cost_usd, (1 - SAVING) * best.cost_usd, best.policy))
        best = min(spot, key=lambda row: row.cost_usd)
        goals.append(_goal(trace, "spot", several.cost_usd, best.cost_usd, best.policy))
    return goals


def _goal(trace: str, goal: str, ours: float, bound: float, against: str) -> Goal:
    return Goal(trace=trace, goal=goal, reached=ours <= bound + 1e-9, ours=ours, bound=bound, against=against)


def _number(value: float) -> str:
    return f"{value:.5f}" if value < 1 else f"{value:.2f}"
