"""What somebody agreed to, and what is wanted by then."""

from __future__ import annotations

import pytest

from covey.fleet.loop.consent import agreed
from covey.fleet.model import Orders, Step
from covey.fleet.spec.types import Mode, Workload


def scale(size: int, offering: str = "a/m/on-demand") -> Step:
    return Step(kind="scale", workload="web", pool="a", offering=offering, size=size, cause="demand", reason="")


def remove(*ids: str) -> Step:
    return Step(kind="remove", workload="web", pool="a", ids=ids, cause="demand", reason="")


CASES: dict[str, tuple[Mode, tuple[Step, ...], Step, int, Step | None]] = {
    "act asks nobody": ("act", (), scale(3), 1, scale(3)),
    "observe does nothing": ("observe", (scale(3),), scale(3), 1, None),
    "nobody agreed": ("recommend", (), scale(3), 1, None),
    "agreed": ("recommend", (scale(3),), scale(3), 1, scale(3)),
    "agreed to more": ("recommend", (scale(5),), scale(3), 1, scale(3)),
    "agreed to fewer than are wanted now": ("recommend", (scale(2),), scale(3), 1, scale(2)),
    "agreed to what is there already": ("recommend", (scale(2),), scale(3), 2, None),
    "agreed to another place": ("recommend", (scale(3, "b/m/on-demand"),), scale(3), 1, None),
    "agreed to all of them": ("recommend", (remove("x", "y"),), remove("x"), 2, remove("x")),
    "agreed to some of them": ("recommend", (remove("x"),), remove("x", "y"), 2, None),
}


@pytest.mark.parametrize("name", CASES)
def test_step_is_taken_as_far_as_somebody_agreed(name: str) -> None:
    mode, approved, step, running, expected = CASES[name]
    orders = Orders(approved={"web": approved} if approved else {})
    assert agreed(Workload(name="web", mode=mode), step, orders, running) == expected
