"""What simulations come to: rows for people and programs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from covey.fleet.model import Decision
from covey.fleet.simulate.world import Figures

__all__ = ["Outcome", "Point", "Row", "Run", "row_of", "run_of", "table"]


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of a run, for plots."""

    at: float
    arrivals: float
    backlog: float
    capacity: float
    ready: int
    paid: int
    usd_per_hour: dict[str, float]
    """By cloud."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One policy, one seed."""

    trace: str
    policy: str
    seed: int
    replica_hours: float
    cost_usd: float
    violations: float
    """A fraction of all requests."""
    reversals_per_hour: float
    moves: int
    starts: int = 0
    peak_agents: int = 0
    least_ready: int | None = None
    capacity_failures: int = 0
    preemptions: int = 0
    restored_after: float | None = None
    """Seconds from the death of a cloud until `min` agents were ready again."""
    cpu_seconds: float = 0.0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One policy on one trace: medians over the seeds, and the worst."""

    trace: str
    policy: str
    replica_hours: float
    cost_usd: float
    violations: float
    reversals_per_hour: float
    moves: int
    worst: dict[str, float] = {}
    seeds: int = 1


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """All that one `covey fleet simulate` found out; JSON as it is."""

    rows: tuple[Row, ...]
    runs: tuple[Run, ...] = ()
    points: dict[str, tuple[Point, ...]] = {}
    """By policy: its first run."""
    decisions: dict[str, tuple[Decision, ...]] = {}
    dropped: dict[str, int] = {}
    """Decisions that are not in `decisions`."""
    rate_per_agent: float = 1.0
    notes: tuple[str, ...] = ()


def run_of(trace: str, policy: str, seed: int, figures: Figures, cpu_seconds: float = 0.0) -> Run:
    return Run(
        trace=trace,
        policy=policy,
        seed=seed,
        replica_hours=round(figures.replica_hours, 3),
        cost_usd=round(figures.cost_usd, 4),
        violations=round(figures.violations, 8),
        reversals_per_hour=round(figures.reversals_per_hour, 4),
        moves=figures.moves,
        starts=figures.starts,
        peak_agents=figures.peak_agents,
        least_ready=figures.least_ready,
        capacity_failures=figures.capacity_failures,
        preemptions=figures.preemptions,
        restored_after=figures.restored_after,
        cpu_seconds=round(cpu_seconds, 2),
    )


def row_of(runs: Sequence[Run]) -> Row:
    """Median and worst of runs that differ by their seed only."""
    fields = ("replica_hours", "cost_usd", "violations", "reversals_per_hour", "moves")
    middle = {field: statistics.median(getattr(run, field) for run in runs) for field in fields}
    return Row(
        trace=runs[0].trace,
        policy=runs[0].policy,
        replica_hours=round(middle["replica_hours"], 3),
        cost_usd=round(middle["cost_usd"], 4),
        violations=round(middle["violations"], 8),
        reversals_per_hour=round(middle["reversals_per_hour"], 4),
        moves=round(middle["moves"]),
        worst={field: max(float(getattr(run, field)) for run in runs) for field in fields} if len(runs) > 1 else {},
        seeds=len(runs),
    )


def table(rows: Sequence[Row]) -> str:
    """For a terminal."""
    if not rows:
        return "nothing was simulated"
    wide = max(len(row.policy) for row in rows)
    lines = [f"{'policy':{wide}}  {'agent-h':>10}  {'USD':>10}  {'violated':>9}  {'reversals/h':>11}  {'moves':>6}"]
    trace = ""
    for row in rows:
        if row.trace != trace:
            trace = row.trace
            lines.append(f"-- {trace}" + (f" (median of {row.seeds} seeds)" if row.seeds > 1 else ""))
        lines.append(
            f"{row.policy:{wide}}  {row.replica_hours:>10.1f}  {row.cost_usd:>10.2f}  {100 * row.violations:>8.3f}%"
            f"  {row.reversals_per_hour:>11.2f}  {row.moves:>6}"
        )
    return "\n".join(lines)
