"""The less loaded of two, inside a locality drawn by weight."""

from __future__ import annotations

from collections import Counter
from random import Random

from covey.fleet.model import Route, RouteEndpoint
from covey.fleet.routing import pick


def endpoints(pool: str, *weights: int) -> tuple[RouteEndpoint, ...]:
    return tuple(RouteEndpoint(agent=f"{pool}{i}", address=f"{pool}:{i}", weight=w) for i, w in enumerate(weights))


def requests(route: Route, count: int) -> tuple[Counter[str], Counter[str]]:
    """Requests that never end, by pool and by address."""
    draw, load, pools = Random(1).randrange, Counter[str](), Counter[str]()
    for _ in range(count):
        picked = pick(route, load, draw)
        assert picked is not None
        pools[picked[0]] += 1
        load[picked[1].address] += 1
    return pools, load


def test_pick_spreads_evenly_inside_and_by_weight_among_localities():
    route = Route(
        workload="w",
        localities={"east": 8000, "west": 2000},
        endpoints={"east": endpoints("east", *[100] * 8), "west": endpoints("west", 100, 100)},
    )
    pools, load = requests(route, 4000)
    assert 3100 < pools["east"] < 3300
    assert max(load.values()) - min(load.values()) < 40
    # By chance alone (one draw) the spread would be about 3 sigma = 60 on each side of 400.


def test_pick_loads_in_proportion_to_weight():
    route = Route(workload="w", localities={"east": 10000}, endpoints={"east": endpoints("east", 200, 100, 100)})
    _, load = requests(route, 4000)
    assert abs(load["east:0"] - 2000) < 40


def test_pick_uses_whoever_is_there():
    assert pick(Route(workload="w", localities={}), {}, Random(1).randrange) is None
    unweighted = Route(workload="w", localities={"east": 10000}, endpoints={"west": endpoints("west", 100)})
    picked = pick(unweighted, {}, Random(1).randrange)
    assert picked is not None
    assert picked[0] == "west"
