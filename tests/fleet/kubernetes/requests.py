"""Requests that follow the controller's routes: what a router in front of the fleet would do.

    python -P requests.py ROUTES_URL RATE < nothing > requests.jsonl

The table is asked for every 0.3 s and kept when nobody answers. A request goes to a pool by weight and to the less
loaded of two there; when the connection fails or nothing comes for a second it is tried again, elsewhere, twice at
most. One line of JSON for each: when, which workload, which pools were tried, whether it was answered. Another kind
of line tells the weights when they change.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
import urllib.request
from typing import Any, Final

from covey.fleet.model import Route, RouteEndpoint
from covey.fleet.routing import Ejector, pick

TRIES: Final = 3
PATIENCE: Final = 1.0
ROUTES_EVERY: Final = 0.3


class Router:
    def __init__(self, url: str) -> None:
        self.url = url
        self.routes: dict[str, Route] = {}
        self.ejectors: dict[str, Ejector] = {}
        self.load: dict[str, int] = {}
        self.draw = random.Random(1).randrange

    async def follow(self) -> None:
        while True:
            with contextlib.suppress(OSError, ValueError, KeyError):
                self._take(json.loads(await asyncio.to_thread(self._ask)))
            await asyncio.sleep(ROUTES_EVERY)

    def _ask(self) -> bytes:
        with urllib.request.urlopen(self.url, timeout=2.0) as answer:
            return bytes(answer.read())

    def _take(self, table: dict[str, Any]) -> None:
        for each in table["resources"]:
            endpoints, weights = {}, {}
            for locality in each["endpoints"]:
                pool = locality["locality"]["region"]
                weights[pool] = locality["load_balancing_weight"]
                endpoints[pool] = tuple(
                    RouteEndpoint(agent=address, address=address, weight=one["load_balancing_weight"])
                    for one in locality["lb_endpoints"]
                    for socket in [one["endpoint"]["address"]["socket_address"]]
                    for address in [f"{socket['address']}:{socket['port_value']}"]
                )
            name = each["cluster_name"]
            route = Route(workload=name, localities=weights, endpoints=endpoints)
            old = self.routes.get(name)
            if old is None or old.localities != weights:
                say(kind="weights", workload=name, weights=weights)
            self.routes[name] = route

    async def request(self, name: str) -> None:
        tried: list[str] = []
        began = time.time()
        for _ in range(TRIES):
            target = self._target(name, tried)
            if target is None:
                break
            pool, address = target
            tried.append(pool)
            self.load[address] = self.load.get(address, 0) + 1
            good = await self._send(address)
            self.load[address] -= 1
            self.ejectors.setdefault(name, Ejector()).count(address, good=float(good), bad=float(not good))
            if good:
                say(kind="request", workload=name, at=began, tried=tried, ok=True)
                return
        say(kind="request", workload=name, at=began, tried=tried, ok=False)

    def _target(self, name: str, tried: list[str]) -> tuple[str, str] | None:
        """Without those that were ejected, and after a failure without the pools that failed, where possible."""
        route = self.routes.get(name)
        if route is None:
            return None
        every = {each.address for some in route.endpoints.values() for each in some}
        ejected = self.ejectors.setdefault(name, Ejector()).sweep(every, time.time())
        for without in (set(tried), set[str]()):
            left = {
                pool: tuple(each for each in some if each.address not in ejected)
                for pool, some in route.endpoints.items()
                if pool not in without
            }
            found = pick(Route(workload=name, localities=route.localities, endpoints=left), self.load, self.draw)
            if found is not None:
                return found[0], found[1].address
        return None

    async def _send(self, address: str) -> bool:
        host, _, port = address.rpartition(":")
        writer = None
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"GET /?seconds=0.02 HTTP/1.1\r\nHost: agent\r\n\r\n")
                return b" 200 " in await reader.readline()
        except (OSError, TimeoutError):
            return False
        finally:
            if writer is not None:
                writer.close()


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps({"t": time.time(), **what}) + "\n")
    sys.stdout.flush()


async def main(url: str, rate: float) -> None:
    router = Router(url)
    following = asyncio.create_task(router.follow())
    running: set[asyncio.Task[None]] = set()
    while not following.done():
        for name in list(router.routes):
            task = asyncio.create_task(router.request(name))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.sleep(1.0 / rate)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
