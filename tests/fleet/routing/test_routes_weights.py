"""Where requests go: weights and failover together."""

from __future__ import annotations

import pytest
from hypothesis import given as draw
from hypothesis import strategies as st

from covey.fleet.health import HealthState, judge
from covey.fleet.model import Agent, Offering, Route, Wanted
from covey.fleet.routing.routes import WHOLE, RouteInput, routes, shares
from covey.fleet.spec.types import Traffic
from tests.fleet.filtering.scene import agent, agents, offering, spec, views, workload

EAST, WEST, NORTH = offering("east"), offering("west"), offering("north")


def route(
    *present: Agent,
    traffic: Traffic | None = None,
    counts: dict[str, int] | None = None,
    offerings: tuple[Offering, ...] = (EAST, WEST, NORTH),
    wanted: float | None = None,
    **fields: object,
) -> Route:
    of = spec(workload(traffic=traffic or Traffic()))
    health, _ = judge(views(*present), HealthState(), 0.0, of)
    given = RouteInput(
        now=0.0,
        spec=of,
        health=health,
        counts={"w": counts or {}},
        offerings={"w": offerings},
        wanted={} if wanted is None else {"w": Wanted(agents=wanted, binding="b", reason="r")},
        **fields,  # type: ignore[arg-type]
    )
    return routes(given)["w"]


WEIGHTS = Traffic(weights={"aws": 80, "azure": 20})


def test_route_follows_ready_speed_by_default():
    fast = offering("west", "fast", speed=2.0)
    got = route(*agents(3, EAST), *agents(3, fast), agent("new", WEST, state="starting"), offerings=(EAST, fast))
    assert got.localities == {"east": 3333, "west": 6667}
    assert got.reason == "by ready speed"


def test_route_keeps_configured_weights_whatever_the_numbers_of_agents():
    assert route(*agents(2, EAST), *agents(8, WEST), traffic=WEIGHTS).localities == {"east": 8000, "west": 2000}


@pytest.mark.parametrize(
    ("silent", "east"),
    # 1.4 x 8/10 > 1: all of its weight; 7/10: 0.98 of it; 2/10: 0.28 of 80 against 20; none.
    [(0, 8000), (2, 8000), (3, 7967), (8, 5283), (10, None)],
)
def test_route_spills_what_missing_agents_cannot_carry(silent, east):
    present = (
        *agents(10 - silent, EAST, heard_at=0.0),
        *agents(silent, EAST, start=100, heard_at=-20.0),
        *agents(4, WEST),
    )
    assert route(*present, traffic=WEIGHTS).localities.get("east") == east


def test_route_gives_a_starting_pool_what_it_can_carry():
    got = route(*agents(1, EAST), *agents(4, WEST), traffic=WEIGHTS, counts={EAST.key: 10, WEST.key: 4})
    assert got.localities == {"east": 3590, "west": 6410}  # 80 x 1.4 / 10 against 20


def test_route_shares_a_clouds_weight_among_its_pools():
    both = spec(workload(traffic=WEIGHTS), pools={"east": "aws", "south": "aws", "west": "azure"})
    south = offering("south", cloud="aws")
    present = (*agents(1, EAST), *agents(3, south), *agents(1, WEST))
    health, _ = judge(views(*present, pools=both.pools), HealthState(), 0.0, both)
    got = routes(RouteInput(now=0.0, spec=both, health=health))["w"]
    assert got.localities == {"east": 2000, "south": 6000, "west": 2000}


def test_route_without_any_weighted_cloud_follows_speed():
    got = route(*agents(1, NORTH), agent("a", offering("south")), traffic=WEIGHTS)
    assert got.localities == {"north": WHOLE}
    with_two = route(*agents(2, NORTH), *agents(2, WEST), traffic=Traffic(weights={"aws": 1}))
    assert with_two.localities == {"north": 5000, "west": 5000}
    assert with_two.reason == "no cloud with a weight is ready: by ready speed"


@pytest.mark.parametrize(
    ("prefer", "wanted", "expected"),
    [
        ("latency", 3.0, {"east": 0, "west": WHOLE}),
        ("latency", 5.0, {"east": 2000, "west": 8000}),
        ("latency", 20.0, {"east": 5000, "west": 5000}),
        ("cost", 3.0, {"east": WHOLE, "west": 0}),
    ],
)
def test_route_prefers_as_far_as_capacity_goes(prefer, wanted, expected):
    near = offering("west", latency_ms=1.0, price=0.2)
    far = offering("east", latency_ms=90.0, price=0.1)
    got = route(*agents(4, near), *agents(4, far), traffic=Traffic(prefer=prefer), offerings=(near, far), wanted=wanted)
    assert got.localities == expected


def test_route_starts_new_agents_slowly():
    old = agent("old", EAST, endpoint="h:1")
    new = agent("new", EAST, ready_at=-15.0, endpoint="h:2")
    newest = agent("newest", EAST, ready_at=0.0, endpoint="h:3")
    got = route(old, new, newest)
    assert [(each.agent, each.weight) for each in got.endpoints["east"]] == [("old", 100), ("new", 50), ("newest", 10)]


def test_route_takes_the_weight_before_the_agent_goes():
    present = (agent("a", EAST, endpoint="h:1"), agent("b", EAST, endpoint="h:2"), agent("c", WEST, endpoint="h:3"))
    got = route(*present, leaving={"east/a"}, ejected=frozenset({"west/c"}))
    assert got.localities == {"east": WHOLE}
    assert [each.address for each in got.endpoints["east"]] == ["h:2"]


def test_route_uses_the_silent_and_the_ejected_when_nobody_else_is_left():
    quiet = agent("q", EAST, heard_at=-5.0, heard_every=0.3, endpoint="h:1")
    got = route(quiet, *agents(1, WEST, state="starting"))
    assert (got.localities, got.reason) == ({"east": WHOLE}, "every ready agent is silent: all are used")
    assert route(*agents(2, EAST), ejected={"east/m0", "east/m1"}).localities == {"east": WHOLE}


def test_route_of_nothing_ready_is_empty():
    got = route(agent("new", EAST, state="starting"))
    assert (got.localities, got.endpoints, got.reason) == ({}, {}, "nothing is ready")


@draw(st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(0, 1e6), min_size=1))
def test_shares_sum_to_the_whole_and_are_within_one_of_exact(parts):
    total = sum(parts.values())
    if total > 1e-9:
        got = shares(parts)
        assert sum(got.values()) == WHOLE
        assert all(abs(got[name] - parts[name] * WHOLE / total) < 1 for name in parts)
