"""The bound: no violation, and no cheaper by hand."""

from __future__ import annotations

from array import array
from random import Random

import pytest

from covey.fleet.demand.policy import DemandPolicy
from covey.fleet.model import Offering
from covey.fleet.simulate.single import run_single
from covey.fleet.simulate.traces import Setting, Trace

OFFERING = Offering(pool="p", shape="s", price=1.0)
NONE: dict[str, DemandPolicy[object]] = {}


def test_oracle_serves_a_step_in_time_and_pays_for_the_cold_start() -> None:
    rates = (10.0,) * 300 + (30.0,) * 300 + (10.0,) * 300
    trace = Trace(name="x", step=1.0, rates=rates)
    figures = run_single(trace, Setting(rate_per_agent=10.0), "oracle", NONE, seed=0, offering=OFFERING)
    assert figures.violated == 0
    # By hand: 1 agent for 900 s, 2 more for 300 s and a cold start each, less what the queue lends.
    assert 900 + 2 * 300 <= figures.agent_seconds <= 2 * 60 + 900 + 2 * (300 + 60 + 5) + 60


@pytest.mark.parametrize("seed", range(4))
def test_oracle_never_violates_and_never_costs_more_than_the_peak(seed: int) -> None:
    random = Random(seed)
    level, rates = 8.0, [8.0] * 120
    while len(rates) < 2400:
        level = min(40.0, max(0.0, level + random.uniform(-9, 9)))
        rates += [float(round(level))] * random.randrange(5, 200)
    trace = Trace(name="x", step=1.0, rates=tuple(rates))
    setting = Setting(rate_per_agent=2.0)
    best = run_single(trace, setting, "oracle", NONE, seed=0, offering=OFFERING)
    peak = run_single(trace, setting, "fixed_peak", NONE, seed=0, offering=OFFERING)
    assert best.violated == 0
    assert best.agent_seconds < peak.agent_seconds
    assert array("q", trace.arrivals(0)) == array("q", [int(rate) for rate in rates])
