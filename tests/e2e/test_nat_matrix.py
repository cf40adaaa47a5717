"""The short form of `make nat-matrix`: agents as processes, behind boxes of real kernels."""

from __future__ import annotations

import pytest

from benchmarks.paths.matrix import SHORT, hopeless, measure, verdict
from covey.lab import Lab


@pytest.mark.parametrize(("a", "b"), SHORT)
def test_pair_of_boxes_exchanges_a_message_and_is_direct_where_it_can_be(a: str, b: str, lab: Lab) -> None:
    row = measure(a, b, 1, lab=lab, hopeless_seconds=1.0)
    assert verdict([row]) == []
    assert row["direct"] == (0 if hopeless(a, b) else 1)
