"""A few of the seeds of `make fleet-chaos`, shorter."""

from __future__ import annotations

import pytest

from tests.fleet.loop import chaos


@pytest.mark.parametrize("seed", range(6))
def test_bounds_hold_while_providers_fail_lie_and_come_late(seed: int) -> None:
    assert chaos.live(10_000 + seed, 1800.0) > 0
