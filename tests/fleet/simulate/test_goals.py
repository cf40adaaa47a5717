"""The goals of FLEET section 4 as code: tables of rows, and which goal they reach."""

from __future__ import annotations

import pytest

from covey.fleet.simulate.figures import Row
from covey.fleet.simulate.goals import judge_goals


def row(policy: str, hours: float, violations: float = 0.0, reversals: float = 1.0, usd: float = 0.0) -> Row:
    return Row(
        trace="day", policy=policy, replica_hours=hours, cost_usd=usd, violations=violations,
        reversals_per_hour=reversals, moves=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "reached"),
    [
        (row("covey", 105.0, 0.0019), {"violations": True, "agent-hours": True}),
        (row("covey", 105.1, 0.0021), {"violations": False, "agent-hours": False}),
    ],
)
def test_goals_follow_the_best_baseline(ours: Row, reached: dict[str, bool]) -> None:
    rows = [ours, row("hpa", 100, 0.009), row("kpa", 50, 0.009, reversals=13), row("skyserve", 60, 0.011),
            row("rayserve", 200, 0.001), row("oracle", 10)]  # fmt: skip
    assert {goal.goal: goal.reached for goal in judge_goals(rows, {"day"})} == reached


def test_made_traces_have_no_goal_of_cost() -> None:
    rows = [row("covey", 500), row("hpa", 100)]
    assert [goal.goal for goal in judge_goals(rows, ())] == ["violations"]


@pytest.mark.parametrize(("usd", "reached"), [(74.0, [True, True]), (74.5, [True, False]), (76.0, [False, False])])
def test_several_clouds_are_held_against_one(usd: float, reached: list[bool]) -> None:
    rows = [row("covey@all+spot", 1, usd=usd), row("covey@all", 1, usd=1), row("covey@all+spot(20%/h)", 1, usd=1),
            row("covey@aws", 1, usd=120), row("covey@gcp", 1, usd=100), row("covey@gcp+spot", 1, usd=74.2)]  # fmt: skip
    assert [goal.reached for goal in judge_goals(rows, {"day"})] == reached
