"""`plan`: the controller's own turn, and nothing of it done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from covey.fleet.loop.program import Listening
from covey.fleet.model import PoolView, Reading
from tests.fleet.commands.conftest import Fleet

SPEC = """\
[pools.here]
provider = "local"
price = 0.5
[workloads.work]
mode = "act"
command = ["serve"]
replicas = { min = 2, max = 8 }
targets = [{ signal = "agents", rate_per_agent = "10/s" }]
"""

Serve = Callable[[Any], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A controller's `/seen`: gives its address."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def one(answer: Any) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = msgspec.json.encode(answer)
                self.send_response(200 if self.path == "/seen" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield one
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_plan_tells_steps_reasons_and_cost_and_does_nothing(fleet: Fleet) -> None:
    Path("fleet.toml").write_text(SPEC)
    said = fleet("plan")
    assert "here/process/on-demand to 2 agents (repair: 2 more: 0 of at least 2 run)" in said.out
    assert "cost $0.00/h -> $1.00/h (+$1.00)" in said.out
    data = fleet("plan", "--json").data
    assert (data["hourly_usd_before"], data["hourly_usd_after"]) == (0.0, 1.0)
    assert not Path("home/fleet.db").exists()
    assert fleet("plan", "--workload", "wrok", "--json").error["code"] == "no-workload"
    assert fleet("plan", "--applied", "--json").error["code"] == "no-fleet"


def test_plan_knows_what_agents_report_to_the_controller(fleet: Fleet, serve: Serve) -> None:
    Path("fleet.toml").write_text(SPEC)
    fleet("apply")
    now = time.time()
    seen = {
        "spec_version": 1,
        "views": {"here": PoolView(pool="here", at=now)},
        "readings": {"work": ({"here": Reading(at=now, arrivals=35.0, backlog=0.0, interval=1.0)},)},
    }
    listening = Listening(pid=1, url=serve(seen), epoch=1, since=now)
    Path("home/controller.json").write_bytes(msgspec.json.encode(listening))
    data = fleet("plan", "--json").data
    assert data["decisions"][0]["wanted"]["agents"] == 5.0  # 35 / (0.7 x 10)
    assert data["problems"] == {}

    # Of another version it knows other targets: not to be mixed with these.
    Path("home/controller.json").write_bytes(
        msgspec.json.encode(msgspec.structs.replace(listening, url=serve(seen | {"spec_version": 9})))
    )
    assert fleet("plan", "--json").data["decisions"][0]["wanted"]["agents"] != 5.0


def test_plan_tells_pools_that_cannot_be_asked(fleet: Fleet) -> None:
    Path("fleet.toml").write_text(SPEC + '[pools.far]\nprovider = "kubernetes"\nkubeconfig = "none"\n')
    Path("fleet.toml").write_text(Path("fleet.toml").read_text().replace("mode =", 'image = "x"\nmode =', 1))
    said = fleet("plan", "--json")
    assert list(said.data["problems"]) == ["far"]
    assert [step["pool"] for step in said.data["decisions"][0]["steps"]] == ["here"]
