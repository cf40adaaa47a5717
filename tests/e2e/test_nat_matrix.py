"""The short form of `make nat-matrix`: agents as processes, behind boxes of a real kernel."""

from __future__ import annotations

import pytest

from benchmarks.paths.matrix import SHORT, hopeless, measure, verdict
from covey.lab import Lab


@pytest.mark.parametrize(("a", "b"), SHORT)
def test_pair_of_boxes_exchanges_a_message_and_is_direct_where_it_can_be(a: str, b: str, lab: Lab) -> None:
    row = measure(a, b, 1, lab=lab, hopeless_seconds=1.0)
    assert verdict([row]) == []
    assert row["direct"] == (0 if hopeless(a, b) else 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("a", "b"), [("port-restricted", "symmetric"), ("sequential", "port-restricted"), ("sequential", "sequential")]
)
def test_port_that_nobody_saw_is_found(a: str, b: str, lab: Lab) -> None:
    """Birthday probing takes seconds, up to 21; it may find nothing once in three thousand times."""
    row = measure(a, b, 3, lab=lab)
    assert verdict([row]) == []
    assert row["direct"] == 3
