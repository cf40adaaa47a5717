"""`down`: every agent ended, by the pool's own verbs, when no controller runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tests.fleet.commands.conftest import Fleet
from tests.fleet.commands.test_run import until

SPEC = """\
[pools.here]
provider = "local"
[workloads.sleeper]
mode = "act"
command = ["sleep", "600"]
grace = "200ms"
replicas = { min = 2, max = 2 }
"""


def processes(home: Path) -> list[str]:
    """Command lines that name the home."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().decode(errors="replace").replace("\0", " ")
            if str(home) in command:
                found.append(command)
    return found


def test_down_ends_agents_and_supervisor_once_the_controller_is_gone(fleet: Fleet, tmp_path: Path) -> None:
    Path("fleet.toml").write_text(SPEC)
    controller = subprocess.Popen(
        [sys.executable, "-P", "-m", "covey.fleet", "run", "--json"], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        until(controller, "decision")
        assert fleet("down", "--all", "--json").error["code"] == "running"
    finally:
        controller.terminate()
        controller.communicate(timeout=30)
    # Agents have no word of the home in their command once their launcher has become them.
    assert sum("supervisor.supervisord" in command for command in processes(tmp_path)) == 1
    assert fleet("down", "here", "--json").data == {"ended": {"here": 2}, "problems": {}}
    assert fleet("down", "here", "--json").data == {"ended": {"here": 0}, "problems": {}}
    while processes(tmp_path):  # it was told; it goes when its last agent has gone
        os.sched_yield()


def test_down_must_be_told_what(applied: Fleet) -> None:
    assert applied("down", "--json").error["code"] == "usage"
    assert applied("down", "c", "--json").error["code"] == "no-pool"
