"""One workload, a few offerings: what a plan looks like when nothing fights."""

from __future__ import annotations

import pytest

from covey.fleet.model import Offering
from covey.fleet.placing import Item, Problem, place
from covey.fleet.spec.types import Place, Replicas, SpotRules, Survive, Workload

A = Offering(pool="a", shape="m", cloud="aws", price=0.10)
A_SPOT_X = Offering(pool="a", shape="m", cloud="aws", price=0.040, spot=True, zone="x")
A_SPOT_Y = Offering(pool="a", shape="m", cloud="aws", price=0.042, spot=True, zone="y")
B = Offering(pool="b", shape="m", cloud="azure", price=0.11)
B_FAST = Offering(pool="b", shape="l", cloud="azure", price=0.18, speed=2.0)
C = Offering(pool="c", shape="m", cloud="gcp", price=0.20)

CASES = {
    "cheapest covers demand": (Place(), 7.2, (A, B, C), {A.key: 8}),
    "speed counts": (Place(), 8.0, (A, B_FAST), {B_FAST.key: 4}),
    "the last agent may be a slow cheap one": (Place(), 7.0, (A, B_FAST), {A.key: 1, B_FAST.key: 3}),
    "min counts agents": (Place(), 0.0, (B_FAST, A), {A.key: 2}),
    "pools by name": (Place(pools=("b", "c")), 3.0, (A, B, C), {B.key: 3}),
    "survive spreads what min needs": (Place(survive=Survive()), 4.0, (A, B, C), {A.key: 2, B.key: 2}),
    "survive costs half as much again with three clouds": (
        Place(survive=Survive(keep=1.0)),
        6.0,
        (A, B, C),
        {A.key: 3, B.key: 3, C.key: 3},
    ),
    "spot up to its share, half of it in one zone": (
        Place(spot=SpotRules(max_share=0.5, base_on_demand=2)),
        10.0,
        (A, A_SPOT_X, A_SPOT_Y),
        {A.key: 6, A_SPOT_X.key: 2, A_SPOT_Y.key: 2},
    ),
    "a preferred pool before a cheap one": (Place(prefer=("c",)), 3.0, (A, B, C), {C.key: 3}),
    "at most so many in one pool": (Place(max_per_pool={"a": 2}), 5.0, (A, B, C), {A.key: 2, B.key: 3}),
}


@pytest.mark.parametrize("name", CASES)
def test_place_one_workload(name: str) -> None:
    rules, demand, offerings, expected = CASES[name]
    workload = Workload(name="w", replicas=Replicas(min=2, max=50), place=rules)
    placement = place(Problem(now=0.0, items=(Item(workload=workload, demand=demand, offerings=offerings),)))
    assert placement.counts == {"w": expected}
    assert placement.shortfalls == ()
    assert [candidate.offering for candidate in placement.candidates["w"]] == [offering.key for offering in offerings]
