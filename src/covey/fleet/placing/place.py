"""From a problem to a placement: solve, then say what was chosen, what was not and why."""

from __future__ import annotations

from covey.fleet.model import Placement
from covey.fleet.placing.candidates import candidates
from covey.fleet.placing.judge import COST
from covey.fleet.placing.plan import Plan
from covey.fleet.placing.problem import Problem
from covey.fleet.placing.rules import compile_problem
from covey.fleet.placing.shortfalls import shortfalls, survive_premium
from covey.fleet.placing.solve import solve

__all__ = ["finish", "place"]


def place(problem: Problem) -> Placement:
    """Where the agents of all workloads should be. Always an answer: what cannot be kept is a shortfall."""
    return finish(solve(compile_problem(problem)), "greedy")


def finish(plan: Plan, solver: str) -> Placement:
    """A solver's plan in the words of the fleet."""
    model = plan.model
    counts: dict[str, dict[str, int]] = {}
    cost = objective = 0.0
    for entry in model.entries:
        chosen = plan.counts[entry.index]
        counts[entry.name] = {entry.options[j].key: n for j, n in sorted(chosen.items())} | entry.fixed
        cost += entry.money_fixed
        for j, n in chosen.items():
            option = entry.options[j]
            known = sum(part for part in option.parts.values() if part is not None)
            free = plan.room.granted.get((entry.index, option.key), 0)
            cost += known * n - option.free * free
        objective += plan.score(entry)[COST]
    return Placement(
        counts=counts,
        cost=cost,
        objective=objective,
        candidates={entry.name: candidates(entry, plan) for entry in model.entries},
        shortfalls=shortfalls(model, plan),
        survive_premium=survive_premium(model, plan),
        solver=solver,
    )
