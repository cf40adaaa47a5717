"""A real Prometheus, a real controller on the starter spec, and every query that we ship."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import covey.fleet.metrics
from covey.fleet.metrics.dashboard import PANELS, Panel
from covey.fleet.providers.local import processes
from covey.fleet.spec.starter import starter
from tests.fleet.prometheus import get, program, prometheus

pytestmark = pytest.mark.xdist_group("processes")

ALERTS = Path(covey.fleet.metrics.__file__).parent / "alerts.yml"

NOTHING_ON_THE_STARTER = {
    "Age of prices",  # declared by hand, never stale
    "Premium of survive",
    "Blocked scopes, for how much longer",
    "Shortfalls",
    "Pools and signals that cannot be used",
    "Other values",
}
"""Panels that show nothing while all is well in a fleet of one local pool without targets of that kind."""


def test_promtool_accepts_the_alerts() -> None:
    checked = subprocess.run(
        [program("promtool"), "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "tests.yml").write_text(ALERT_TESTS.format(rules=ALERTS))
    checked = subprocess.run(
        [program("promtool"), "test", "rules", str(tmp_path / "tests.yml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


ALERT_TESTS = """\
rule_files: ['{rules}']
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'covey_fleet_leader', values: '1x30'}}
      - {{series: 'covey_fleet_last_turn_timestamp_seconds', values: '0+60x10 600x20'}}
      - {{series: 'covey_fleet_requests_total{{workload="web"}}', values: '0+600x30'}}
      - {{series: 'covey_fleet_violations_total{{workload="web"}}', values: '0x10 0+60x20'}}
      - {{series: 'covey_fleet_pool_control{{pool="east",cloud="aws"}}', values: '1x10 0x20'}}
      - {{series: 'covey_fleet_shortfall{{workload="web",constraint="min"}}', values: '_x20 2x10'}}
    alert_rule_test:
      - {{eval_time: 10m, alertname: CoveyFleetDoesNotTurn}}
      - {{eval_time: 10m, alertname: CoveyFleetNobodyLeads}}
      - {{eval_time: 10m, alertname: CoveyFleetViolations}}
      - {{eval_time: 10m, alertname: CoveyFleetPoolWithoutControl}}
      - eval_time: 14m
        alertname: CoveyFleetDoesNotTurn
        exp_alerts:
          - exp_labels: {{severity: page}}
            exp_annotations:
              summary: The controller has decided nothing for 4m 0s
              description: It leads and does not turn; its log says why (a store that cannot be written, most likely).
      - eval_time: 14m
        alertname: CoveyFleetPoolWithoutControl
        exp_alerts:
          - exp_labels: {{severity: ticket, pool: east, cloud: aws}}
            exp_annotations:
              summary: The API of pool east does not answer
              description: It is frozen, and its agents keep their requests as long as they are heard.
      - eval_time: 28m
        alertname: CoveyFleetViolations
        exp_alerts:
          - exp_labels: {{severity: page, workload: web}}
            exp_annotations:
              summary: 10% of the requests of web wait longer than 5 s
              description: covey fleet explain web says why there are not more agents.
      - eval_time: 24m
        alertname: CoveyFleetBelowMin
        exp_alerts:
          - exp_labels: {{severity: page, workload: web}}
            exp_annotations:
              summary: web has 2 agents fewer than its min
              description: covey fleet explain web says which constraint stands in the way.
  - interval: 1m
    input_series:
      - {{series: 'up', values: '1x10'}}
    alert_rule_test:
      - eval_time: 3m
        alertname: CoveyFleetNobodyLeads
        exp_alerts:
          - exp_labels: {{severity: page}}
            exp_annotations:
              summary: No controller leads the fleet
              description: Agents run on, and nothing follows the load. Is `covey fleet run` running, and scraped?
"""


@contextlib.contextmanager
def controller(folder: Path) -> Iterator[str]:
    """HOST:PORT of a real one on the starter spec."""
    home = folder / "home"
    spec = starter().replace("127.0.0.1:9464", "127.0.0.1:0").replace("min = 1, max = 8", "min = 2, max = 8")
    (folder / "fleet.toml").write_text(f"[budget]\nhourly_usd = 5\n{spec}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "covey.fleet", "run", "--home", str(home)],
            cwd=folder, stdout=log, stderr=log, env=os.environ | {"COVEY_FLEET_HOME": str(home)},
        )  # fmt: skip
    try:
        yield _listening(home / "controller.json", process, folder / "log")
    finally:
        process.kill()
        process.wait()
        pool = home / "pools" / "here"
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((pool / "supervisord.pid").read_text()), signal.SIGKILL)
        for pid in processes.of_pool(str(pool)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _listening(path: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline, pause = time.monotonic() + 30, threading.Event()
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError, msgspec.DecodeError):
            url = str(msgspec.json.decode(path.read_bytes())["url"])
            return url.removeprefix("http://")
        pause.wait(0.05)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_every_query_of_the_dashboard_answers_from_a_real_controller(short_path: Path, tmp_path: Path) -> None:
    with controller(short_path) as address, prometheus(tmp_path, address, rules=ALERTS, every="500ms") as server:
        server.until("covey_fleet_requests_total")
        # Something to be seen by rates: an order, which is carried out and settled.
        order = [
            sys.executable,
            "-P",
            "-m",
            "covey.fleet",
            "pin",
            "worker=4",
            "--until",
            "10m",
            "--home",
            str(short_path / "home"),
        ]
        subprocess.run(order, check=True, capture_output=True)
        server.until("increase(covey_fleet_settled_total[1m]) > 0")
        server.until("increase(covey_fleet_requests_total[1m]) > 0")
        assert get(f"http://{address}/metrics")[0] == 200
        silent = set()
        for panel in PANELS:
            if isinstance(panel, Panel):
                for query, _ in panel.queries:
                    asked = query.replace("$workload", ".*").replace("$__rate_interval", "1m")
                    if not server.ask("/api/v1/query", query=asked)["result"]:
                        silent.add((panel.title, query))
        unexpected = {
            title for title, query in silent if title not in NOTHING_ON_THE_STARTER and "forecast" not in query
        }
        assert not unexpected
        rules = server.ask("/api/v1/rules")["groups"][0]["rules"]
        assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
        assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
