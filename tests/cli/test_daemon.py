"""The life of a daemon's process, over a node in memory: start, stop, signals, restarts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from covey.base.paths import Home
from covey.cli import launch
from tests.cli.conftest import Covey

ROOT = Path(__file__).parents[2]


def command(options: dict[str, object]) -> list[str]:
    given = json.dumps({name: value for name, value in options.items() if value is not None})
    return [sys.executable, "-m", "tests.daemon.process", given]


@pytest.fixture
def started(covey: Covey, environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Covey]:
    """`covey` with daemons over a node in memory; none is left behind."""
    monkeypatch.setattr(launch, "_command", command)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "src")]))
    yield covey
    assert covey("daemon", "stop", "--json").code == 0


def kill(covey: Covey, number: signal.Signals) -> None:
    """Send a signal to the running daemon and wait for its end."""
    pid = covey("status", "--json").document["data"]["pid"]
    handle = os.pidfd_open(pid)
    os.kill(pid, number)
    os.waitid(os.P_PIDFD, handle, os.WEXITED)
    os.close(handle)


def test_up_leaves_a_daemon_that_stop_ends(started: Covey, environment: Path) -> None:
    home = Home.locate(None, os.environ, uid=os.getuid())
    result = started("up", "--hostname", "aws-orchestrator")
    assert (result.code, result.out.splitlines()[0]) == (0, "aws-orchestrator is up")
    assert result.err == "next: covey handshake PEER\n"
    assert started("status").code == 0
    assert started("daemon", "stop").out == "aws-orchestrator stopped\n"
    assert list(environment.rglob("*.sock")) == []
    assert started("status").code == 3
    events = [json.loads(line)["event"] for line in home.log_file.read_text().splitlines()]
    assert events == ["daemon started", "daemon stopped"]
    assert home.log_file.stat().st_mode & 0o777 == 0o600


def test_daemon_is_detached(started: Covey) -> None:
    started("up")
    pid = started("status", "--json").document["data"]["pid"]
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_cleanly(started: Covey, environment: Path, number: signal.Signals) -> None:
    started("up")
    kill(started, number)
    assert list(environment.rglob("*.sock")) == []


def test_daemon_that_was_killed_is_started_again(started: Covey, environment: Path) -> None:
    started("up")
    kill(started, signal.SIGKILL)
    assert len(list(environment.rglob("*.sock"))) == 2
    assert started("status").code == 3
    assert started("up").code == 0
    assert started("status").code == 0


def test_profiles_are_separate_daemons(started: Covey) -> None:
    for name in ("aws", "azure"):
        assert started("up", "--profile", name, "--hostname", name).code == 0
    result = started("up", "--profile", "aws")
    assert result.err == "next: covey --profile aws status\n"
    names = [started("id", "--profile", name, "--json").document["data"]["name"] for name in ("aws", "azure")]
    assert names == ["aws", "azure"]
    for name in ("aws", "azure"):
        assert started("daemon", "stop", "--profile", name).out == f"{name} stopped\n"


def test_foreground_daemon_says_when_it_is_ready(started: Covey) -> None:
    options = {"foreground": True, "json": True, "hostname": "aws"}
    with subprocess.Popen(command(options), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert (ready["ok"], ready["data"]["name"], ready["data"]["pid"]) == (True, "aws", process.pid)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, b"")
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["daemon started", "daemon stopped"]
