"""The short form of `make failover`: one trial of what kills a path without a word."""

from __future__ import annotations

import pytest

from benchmarks.paths.failover import FAULTS, trial
from benchmarks.paths.pair import pair
from covey.lab import Lab


@pytest.mark.parametrize("name", ["black-hole", "relay", "uplink"])
def test_streams_and_messages_outlive_what_carried_them(name: str, lab: Lab) -> None:
    fault = FAULTS[name]
    with pair(*fault.kinds, lab=lab) as two:
        # A busy machine takes longer than `make failover` allows: here nothing may be lost, and it must go on.
        assert max(trial(two, fault, name, 0.5)) < 10 * fault.limit
