"""What cannot be kept is named, with what stands in the way and the plan without it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from covey.fleet.model import Offering, Shortfall
from covey.fleet.placing import Item, Problem, place
from covey.fleet.placing.highs import place_highs
from covey.fleet.spec.types import Budget, Place, Replicas, SpotRules, Survive, Traffic, Workload

A = Offering(pool="a", shape="m", cloud="aws", price=0.10, jurisdiction="us")
B = Offering(pool="b", shape="m", cloud="azure", price=0.20, jurisdiction="eu")
A_SPOT = Offering(pool="a", shape="m", cloud="aws", price=0.03, spot=True, jurisdiction="us")

WORKLOAD = Workload(name="w", replicas=Replicas(min=2, max=50))
ITEM = Item(workload=WORKLOAD, demand=6.0, offerings=(A, B))
PROBLEM = Problem(now=0.0, items=(ITEM,))


def _with(place_: Place, **changes: object) -> Item:
    return replace(ITEM, workload=replace(WORKLOAD, place=place_, **changes))


CASES: dict[str, tuple[Problem, str, float, str]] = {
    "max": (replace(PROBLEM, items=(_with(Place(), replicas=Replicas(min=2, max=4)),)), "demand", 2.0, "max = 4"),
    "budget": (
        replace(PROBLEM, budget=Budget(hourly_usd=0.45, reserve=0.0)),
        "demand",
        2.0,
        "the budget, of which 0.45 USD/h are left",
    ),
    "blocked": (
        replace(PROBLEM, blocked={("a/on-demand", "m"): "none left", ("b/on-demand", ""): "quota"}),
        "min",
        2.0,
        "no capacity in a/on-demand (none left), b/on-demand (quota)",
    ),
    "room": (
        replace(PROBLEM, room={"a/on-demand": 1, "b/on-demand": 3}),
        "demand",
        2.0,
        "room for more agents in a/on-demand (1 left), b/on-demand (3 left)",
    ),
    "jurisdiction": (
        replace(PROBLEM, items=(_with(Place(jurisdictions=("cn",))),)),
        "min",
        2.0,
        "jurisdiction cn",
    ),
    "suspended cloud": (
        replace(PROBLEM, items=(_with(Place(pools=("a",))),), suspended=frozenset({"aws"})),
        "min",
        2.0,
        "cloud aws is suspended",
    ),
    "list of pools against survival": (
        replace(PROBLEM, items=(_with(Place(pools=("a",), survive=Survive())),)),
        "survive",
        2.0,
        "the list of pools (a)",
    ),
    "no room for the on-demand agents that spot needs beside it": (
        replace(
            PROBLEM,
            items=(replace(_with(Place(spot=SpotRules(max_share=0.5))), offerings=(A_SPOT, A)),),
            room={"a/on-demand": 2},
        ),
        "demand",
        2.0,
        "room for more agents in a/on-demand (2 left)",
    ),
    "weights": (
        replace(PROBLEM, items=(_with(Place(pools=("a",)), traffic=Traffic(weights={"aws": 1.0, "azure": 1.0})),)),
        "weights",
        3.0,
        "the list of pools (a)",
    ),
    "two at once": (
        replace(PROBLEM, items=(_with(Place(max_per_pool={"a": 2, "b": 2})),), room={"b/on-demand": 1}),
        "demand",
        3.0,
        "max_per_pool (a = 2, b = 2)",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_shortfall_names_what_stands_in_the_way(name: str) -> None:
    problem, constraint, missing, cause = CASES[name]
    short = place(problem).shortfalls[0]
    assert (short.workload, short.constraint, round(short.missing, 6)) == ("w", constraint, missing)
    assert short.reason.endswith(f"in the way: {cause}")
    assert "without that: " in short.nearest


@pytest.mark.parametrize("name", CASES)
def test_highs_misses_the_same(name: str) -> None:
    problem = CASES[name][0]
    mine, theirs = place(problem), place_highs(problem)
    assert _missing(theirs.shortfalls) == _missing(mine.shortfalls)
    assert theirs.cost == pytest.approx(mine.cost)


def _missing(shortfalls: tuple[Shortfall, ...]) -> list[tuple[str, float]]:
    return [(short.constraint, round(short.missing, 4)) for short in shortfalls]


def test_min_wins_over_the_budget_and_says_so() -> None:
    problem = replace(PROBLEM, budget=Budget(hourly_usd=0.15))
    placement = place(problem)
    assert placement.counts == {"w": {A.key: 2}}
    assert [short.constraint for short in placement.shortfalls] == ["budget", "demand"]
    assert placement.shortfalls[0].reason == "`min` and agents that cannot go cost 0.20 of 0.15 USD/h"


def test_scarce_demand_is_shared_by_priority_then_evenly() -> None:
    items = tuple(
        replace(ITEM, demand=10.0, workload=Workload(name=name, priority=priority, replicas=Replicas(min=0, max=50)))
        for name, priority in (("low", 0), ("x", 10), ("y", 10))
    )
    placement = place(Problem(now=0.0, items=items, room={A.scope: 8, B.scope: 4}))
    assert {name: sum(counts.values()) for name, counts in placement.counts.items()} == {"low": 0, "x": 6, "y": 6}


def test_survive_premium_is_half_of_it_with_three_clouds() -> None:
    third = Offering(pool="c", shape="m", cloud="gcp", price=0.10)
    item = replace(_with(Place(survive=Survive(keep=1.0))), offerings=(A, replace(B, price=0.10), third), demand=6.0)
    placement = place(replace(PROBLEM, items=(item,)))
    assert sorted(placement.counts["w"].values()) == [3, 3, 3]
    assert placement.survive_premium == {"w": pytest.approx(0.3)}


def test_stale_price_moves_nothing_but_may_start_something() -> None:
    running = replace(ITEM, running={B.key: 6})
    stale = replace(PROBLEM, items=(running,), stale_prices=frozenset({A.key}))
    assert place(stale).counts == {"w": {B.key: 6}}
    assert place(replace(PROBLEM, items=(running,))).counts == {"w": {A.key: 6}}
    assert place(replace(stale, items=(replace(running, demand=8.0),))).counts == {"w": {A.key: 2, B.key: 6}}
