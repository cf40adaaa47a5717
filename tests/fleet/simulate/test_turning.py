"""The controller's own turn over simulated pools: it follows demand, survives what the weather brings, repeats."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from covey.base.errors import ParseError, UsageError
from covey.fleet.simulate.api import run_turn, simulate
from covey.fleet.simulate.figures import Outcome
from covey.fleet.simulate.market import Market, load_market
from covey.fleet.simulate.record import Recorder
from covey.fleet.simulate.report import render_html
from covey.fleet.simulate.single import workload_for
from covey.fleet.simulate.traces import Setting, Trace
from covey.fleet.simulate.turning import market_spec
from covey.fleet.simulate.weather import Kill, Weather, parse_kill
from covey.fleet.simulate.world import Figures
from covey.fleet.spec.types import Place, Pool, Spec, SpotRules, Survive

HOUR = Trace(name="hour", step=1.0, rates=(10.0,) * 1200 + (30.0,) * 1200 + (10.0,) * 1200)
SETTING = Setting(rate_per_agent=1.0, min=4)
FLAT = Trace(name="flat", step=1.0, rates=(20.0,) * 3600)


def fly(
    trace: Trace, market: Market, weather: Weather, *, place: Place | None = None, recorder: Recorder | None = None
) -> Figures:
    ours = replace(workload_for("covey", SETTING), place=place or Place())
    return run_turn(trace, SETTING, market_spec(market, ours), ours, market, weather, seed=0, recorder=recorder)


def test_a_step_is_followed_up_and_down(prices: Path) -> None:
    market = load_market(prices, preemptions=0.0).of(spot=False)
    recorder = Recorder(HOUR.seconds)
    figures = fly(HOUR, market, Weather(preemptions=0.0), recorder=recorder)
    sizes = {point.at: point.ready for point in recorder.points}
    assert sizes[1100.0] == 15  # 10/s at 70 % of 1/s
    assert sizes[2350.0] >= 43
    assert sizes[3550.0] <= 30
    assert figures.replica_hours < 40
    assert figures.reversals == 1
    assert {d.wanted.binding for d in recorder.decisions}


def test_equal_runs_are_equal(prices: Path) -> None:
    market = load_market(prices, preemptions=0.2)
    place = Place(spot=SpotRules(max_share=0.5, base_on_demand=2))
    first, second = (fly(FLAT, market, Weather(preemptions=2.0), place=place) for _ in range(2))
    assert first == second
    assert first.preemptions > 0


def test_spot_that_is_taken_back_is_replaced(prices: Path) -> None:
    market = load_market(prices, preemptions=0.05)
    figures = fly(FLAT, market, Weather(preemptions=2.0), place=Place(spot=SpotRules(max_share=0.5, base_on_demand=2)))
    assert figures.preemptions > 0
    assert figures.violations < 0.05
    dear = fly(FLAT, market.of(spot=False), Weather(preemptions=0.0))
    assert figures.cost_usd < 0.8 * dear.cost_usd


def test_no_room_in_the_cheapest_pool_is_found_elsewhere(prices: Path) -> None:
    market = load_market(prices, preemptions=0.0).of(spot=False)
    figures = fly(HOUR, market, Weather(preemptions=0.0, capacity={"gcp-us-east4": 15}))
    assert figures.capacity_failures > 0
    assert figures.peak_agents > 40
    # Nothing may be started where it failed for 3, then 5 to 30 minutes: a handful of tries in an hour.
    assert figures.capacity_failures < 30


def test_min_is_restored_soon_after_a_cloud_died(prices: Path) -> None:
    market = load_market(prices, preemptions=0.0).of(spot=False)
    figures = fly(FLAT, market, Weather(preemptions=0.0, kills=(Kill(cloud="gcp", at=1800.0),)))
    assert figures.least_ready == 0
    assert figures.restored_after is not None
    assert figures.restored_after <= 10 + 5 + SETTING.cold_start


def test_survive_keeps_min_ready_when_a_cloud_dies(prices: Path) -> None:
    market = load_market(prices, preemptions=0.0).of(spot=False)
    place = Place(survive=Survive(clouds=1, keep="min"))
    for cloud in ("aws", "azure", "gcp"):
        figures = fly(FLAT, market, Weather(preemptions=0.0, kills=(Kill(cloud=cloud, at=1800.0),)), place=place)
        assert figures.least_ready is not None
        assert figures.least_ready >= SETTING.min, cloud


def test_simulate_compares_and_reports(prices: Path, trace: Path) -> None:
    outcome = simulate(trace, prices=prices, policies=("covey", "hpa", "oracle"), kills=("gcp@00:50",), seeds=1)
    assert [row.policy for row in outcome.rows] == ["covey", "hpa", "oracle"]
    page = render_html(outcome)
    assert page.count("<svg") == 9
    assert "<script" not in page
    assert "gcp" in page


def test_simulate_flies_the_pools_of_a_spec(prices: Path, trace: Path) -> None:
    """Declared prices stand, the others come from the tables; traffic makes the cheaper machine the dearer place."""
    pools = {
        "here": Pool(name="here", provider="kubernetes", labels={"cloud": "gcp"}),
        "there": Pool(name="there", provider="kubernetes", labels={"cloud": "aws"}, price=0.16, max_agents=30),
    }
    ours = replace(workload_for("covey", SETTING), name="fraud", place=Place(pools=("here", "there")))
    quiet = simulate(trace, spec=Spec(pools=pools, workloads={"fraud": ours}), prices=prices, policies=("covey",))
    assert clouds_at_the_end(quiet) == {"gcp"}
    busy = replace(ours, place=Place(pools=("here", "there"), egress_gb_hour=5.0))
    loud = simulate(trace, spec=Spec(pools=pools, workloads={"fraud": busy}), prices=prices, policies=("covey",))
    assert "aws" in clouds_at_the_end(loud)
    assert loud.rows[0].cost_usd > 1.5 * quiet.rows[0].cost_usd


def clouds_at_the_end(outcome: Outcome) -> set[str]:
    return set(outcome.points["covey"][-1].usd_per_hour)


def test_simulate_says_what_is_wrong(prices: Path, trace: Path) -> None:
    with pytest.raises(UsageError, match="no policy is called 'best'"):
        simulate(trace, policies=("best",))
    with pytest.raises(ParseError, match="no pool is in cloud 'ibm'"):
        simulate(trace, prices=prices, kills=("ibm@00:10",))
    with pytest.raises(UsageError, match="no pool is called 'moon'"):
        simulate(trace, prices=prices, capacity={"moon": 3})


@pytest.mark.parametrize(
    ("text", "kill"),
    [
        ("aws@12:00", Kill(cloud="aws", at=43200.0)),
        ("aws@01:02:03", Kill(cloud="aws", at=3723.0)),
        ("aws@90", Kill(cloud="aws", at=90.0)),
        ("my-dc@36:00+30m", Kill(cloud="my-dc", at=129600.0, lasts=1800.0)),
    ],
)
def test_kill_is_parsed(text: str, kill: Kill) -> None:
    assert parse_kill(text) == kill


@pytest.mark.parametrize("text", ["aws", "aws@", "aws@noon", "@12:00", "aws@12:00+", "aws@1:2:3:4"])
def test_kill_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_kill(text)
