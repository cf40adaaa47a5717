"""`run`, as a process of its own: it leads, hears commands, waits behind another, takes over, stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.commands.conftest import Fleet

SPEC = """\
[pools.here]
provider = "local"
[workloads.none]
mode = "act"
command = ["true"]
replicas = { min = 0, max = 1 }
[workloads.many]
mode = "observe"
command = ["true"]
replicas = { min = 2, max = 3 }
[controller]
tick = "1h"
"""

Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def start(fleet: Fleet, tmp_path: Path) -> Iterator[Start]:
    """Starts `covey fleet run --json` in the same home."""
    running: list[subprocess.Popen[str]] = []

    def one() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "covey.fleet", "run", "--json"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        running.append(process)
        return process

    yield one
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def until(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """Its lines up to that event."""
    assert process.stdout is not None
    for line in process.stdout:
        found: dict[str, Any] = json.loads(line)
        if found.get("event") == event:
            return found
    raise AssertionError(f"it ended without {event}")


def test_controller_leads_hears_commands_and_is_followed_by_another(fleet: Fleet, start: Start) -> None:
    Path("fleet.toml").write_text(SPEC)
    first = start()
    until(first, "leads")
    size = until(first, "decision")["decision"]["steps"][0]["size"]  # observed, not done
    assert size == 2
    assert fleet("status", "--json").data["controller"] is True

    Path("fleet.toml").write_text(SPEC.replace("min = 2", "min = 3"))
    assert "No controller" not in fleet("apply").out
    assert until(first, "decision")["decision"]["steps"][0]["size"] == 3  # a tick is an hour: it was woken

    second = start()
    until(second, "standby")
    first.kill()
    until(second, "leads")
    second.terminate()
    assert second.stdout is not None
    out = second.stdout.read()
    second.wait(timeout=30)
    assert second.returncode == 0
    assert json.loads(out.splitlines()[-1]) == {"schema": 1, "ok": True, "data": {"stopped": True}}
    assert fleet("status", "--json").data["controller"] is False
    assert not [name for name in os.listdir("home") if name == "nudge"]


def test_without_a_spec_it_says_how_to_get_one(fleet: Fleet) -> None:
    said = fleet("run", "--json")
    assert (said.code, said.error["code"], said.error["next_step"]) == (4, "no-spec", "covey fleet init")
