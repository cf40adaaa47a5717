"""Which agent one request goes to: a locality by its weight, then the less loaded of two drawn at random.

Two draws are nearly as good as asking everybody (Mitzenmacher 2001), and unlike "the least loaded of all" they do not
send every router to the same agent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from covey.fleet.model import Route, RouteEndpoint

__all__ = ["pick"]


def pick(route: Route, load: Mapping[str, int], draw: Callable[[int], int]) -> tuple[str, RouteEndpoint] | None:
    """The pool and the endpoint for one request, or None when nothing is ready. `load`: requests in flight by
    address, as the caller counts them; `draw(n)`: an even draw of 0..n-1 (`random.Random(...).randrange`)."""
    pools = [pool for pool, weight in route.localities.items() if weight > 0 and route.endpoints.get(pool)]
    if not pools:
        pools = [pool for pool, endpoints in route.endpoints.items() if endpoints]
        if not pools:
            return None
    pool = pools[0] if len(pools) == 1 else _locality(route, pools, draw)
    endpoints = route.endpoints[pool]
    if len(endpoints) == 1:
        return pool, endpoints[0]
    first = draw(len(endpoints))
    second = draw(len(endpoints) - 1)
    if second >= first:
        second += 1
    a, b = endpoints[first], endpoints[second]
    # In proportion to weight: an agent of speed 2 with two requests is as loaded as one of speed 1 with one.
    if (load.get(b.address, 0) + 1) * a.weight < (load.get(a.address, 0) + 1) * b.weight:
        return pool, b
    return pool, a


def _locality(route: Route, pools: list[str], draw: Callable[[int], int]) -> str:
    weights = [max(1, route.localities.get(pool, 0)) for pool in pools]
    at = draw(sum(weights))
    for pool, weight in zip(pools, weights, strict=True):
        at -= weight
        if at < 0:
            return pool
    return pools[-1]
