from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

import covey.fleet.metrics
from covey.fleet.loop.turn import Seen, Turned, TurnState, turn
from covey.fleet.metrics import Metrics
from covey.fleet.metrics.dashboard import PANELS, Panel, dashboard
from covey.fleet.metrics.names import METRICS
from covey.fleet.model import Agent, AgentState, Offering, PoolView, Reading, Step
from covey.fleet.spec.types import Budget, Pool, Replicas, Spec, Target, Workload

FILES = Path(covey.fleet.metrics.__file__).parent
WEB = Workload(
    name="web",
    mode="act",
    replicas=Replicas(min=1, max=9),
    targets=(Target(signal="queue", source="q", rate_per_agent=5.0, every=1.0),),
)
SPEC = Spec(
    pools={name: Pool(name=name, provider="local", labels={"cloud": name}) for name in ("east", "west")},
    workloads={"web": WEB},
    budget=Budget(hourly_usd=3.0),
)
EAST = Offering(pool="east", shape="m", cloud="east", price=0.5, priced_at=940.0)
WEST = Offering(pool="west", shape="m", cloud="west", price=None)


def agent(name: str, offering: Offering, state: AgentState = "ready", busy: bool | None = None) -> Agent:
    return Agent(
        id=name, workload="web", pool=offering.pool, offering=offering.key, state=state, started_at=0.0, busy=busy
    )


def seen(backlog: float = 0.0, at: float = 1000.0, ready: int = 2) -> Seen:
    agents = tuple(agent(f"e{number}", EAST, busy=True) for number in range(ready))
    return Seen(
        views={
            "east": PoolView(pool="east", at=at, agents=agents, offerings={"web": (EAST,)}),
            "west": PoolView(
                pool="west", at=at, agents=(agent("w1", WEST, "starting"),), offerings={"web": (WEST,)}, control=False
            ),
        },
        readings={"web": ({"": Reading(at=at, arrivals=8.0, backlog=backlog, interval=1.0)},)},
    )


def after(metrics: Metrics, state: TurnState, what: Seen, now: float) -> Turned:
    turned = turn(state, what, SPEC, now)
    metrics.turned(turned, what, SPEC, now, seconds=0.02)
    return turned


LABELS = {metric.name: metric.labels for metric in METRICS}


def samples(metrics: Metrics, problems: dict[str, str] | None = None) -> dict[str, float]:
    """By name and labels, in the order of the table."""
    text = metrics.render(problems or {}).decode()
    return {
        sample.name + "".join(f",{sample.labels[label]}" for label in LABELS.get(family.name, ())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "_bucket" not in sample.name
    }


def test_gauges_are_what_the_last_turn_saw() -> None:
    metrics = Metrics()
    after(metrics, TurnState(), seen(), 1000.0)
    found = samples(metrics, {"web/1 queue": "gone"})
    assert (
        found
        | {
            "covey_fleet_leader": 1,
            "covey_fleet_last_turn_timestamp_seconds": 1000,
            "covey_fleet_problem,web/1 queue": 1,
            "covey_fleet_agents,web,east,east,ready": 2,
            "covey_fleet_agents,web,west,west,starting": 1,
            "covey_fleet_agents_busy,web,east": 2,
            "covey_fleet_agents_unpriced,web,west": 1,
            "covey_fleet_cost_usd_per_hour,web,east,east": 1.0,
            "covey_fleet_cost_usd_per_hour,web,west,west": 0.0,
            "covey_fleet_budget_usd_per_hour": 3.0,
            "covey_fleet_offering_price_usd_per_hour,east/m/on-demand": 0.5,
            "covey_fleet_price_age_seconds,east,no": 60.0,
            "covey_fleet_pool_control,east,east": 1,
            "covey_fleet_pool_control,west,west": 0,
            "covey_fleet_signal,web,queue,,arrivals": 8.0,
            "covey_fleet_replicas_max,web": 9,
            "covey_fleet_turn_seconds_count": 1,
        }
        == found
    )


def test_what_is_gone_is_no_longer_shown() -> None:
    metrics = Metrics()
    turned = after(metrics, TurnState(), seen(), 1000.0)
    after(metrics, turned.state, Seen(views={}), 1005.0)
    assert not [name for name in samples(metrics) if name.startswith(("covey_fleet_agents,", "covey_fleet_cost"))]


@pytest.mark.parametrize(
    ("backlog", "ready", "late"),
    [(0.0, 2, 0.0), (50.0, 2, 0.0), (50.1, 2, 40.0), (0.0, 0, 40.0)],
    ids=["none-waits", "five-seconds-wait", "more-waits", "nobody-is-ready"],
)
def test_requests_that_wait_longer_than_five_seconds_are_violations(backlog: float, ready: int, late: float) -> None:
    metrics = Metrics()
    turned = after(metrics, TurnState(), seen(), 1000.0)
    after(metrics, turned.state, seen(backlog, 1005.0, ready), 1005.0)
    found = samples(metrics)
    assert found["covey_fleet_requests_total,web"] == 40.0
    assert found["covey_fleet_violations_total,web"] == late


def test_steps_calls_and_reversals_are_counted() -> None:
    metrics, what = Metrics(), seen()
    calm = turn(TurnState(), what, SPEC, 1000.0)
    up = Step(kind="scale", workload="web", pool="east", size=3, cause="demand", reason="")
    down = Step(kind="remove", workload="web", pool="east", ids=("e1",), cause="demand", reason="")
    for now, step in ((1000.0, up), (1100.0, up), (1200.0, down), (1900.0, up)):
        metrics.turned(replace(calm, steps=(step,)), what, SPEC, now, seconds=0.01)
    metrics.called(up, "accepted", 0.25)
    metrics.called(up, "refused", 0.5)
    found = samples(metrics)
    assert found["covey_fleet_steps_total,web,scale,demand"] == 3
    assert found["covey_fleet_reversals_total,web"] == 1, "a change of direction after more than 10 min is none"
    assert found["covey_fleet_calls_total,east,scale,refused"] == 1
    assert found["covey_fleet_call_seconds_total,east,scale"] == 0.75


def test_before_the_first_turn_nobody_leads() -> None:
    assert samples(Metrics())["covey_fleet_leader"] == 0


def test_the_dashboard_file_is_what_its_table_makes() -> None:
    assert json.loads((FILES / "grafana.json").read_text()) == dashboard()


def test_every_metric_is_on_the_dashboard_and_every_name_there_is_one() -> None:
    exposed = {metric.name + ("_total" if metric.kind == "counter" else "") for metric in METRICS}
    asked = " ".join(query for panel in PANELS if isinstance(panel, Panel) for query, _ in panel.queries)
    named = {name.removesuffix("_bucket") for name in re.findall(r"covey_fleet_\w+", asked)}
    # In alerts only: `covey_fleet_blocked` is its time on the dashboard.
    assert exposed - {"covey_fleet_blocked"} == named


def test_every_metric_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs/fleet/metrics.md").read_text()
    assert [metric.name for metric in METRICS if f"`{metric.name}" not in text] == []
