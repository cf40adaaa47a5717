from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from covey.cli.main import run
from tests.daemon.memory import RunningDaemon, running_daemon


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document that `--json` printed."""
        assert self.out.count("\n") == 1
        assert self.err == ""
        return json.loads(self.out)


Covey = Callable[..., Result]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and nothing of the developer's settings."""
    for name in (
        "COVEY_PROFILE",
        "COVEY_NETWORK",
        "COVEY_HOSTNAME",
        "COVEY_LISTEN",
        "COVEY_LOG_LEVEL",
        "COVEY_DEBUG",
        "NO_COLOR",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COVEY_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def covey(environment: Path, capsys: pytest.CaptureFixture[str]) -> Covey:
    """Run one command line in this process."""

    def call(*arguments: str) -> Result:
        capsys.readouterr()
        code = run(arguments)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def daemon(environment: Path) -> Iterator[RunningDaemon]:
    """A daemon over a node in memory, where the command line looks for it."""
    with running_daemon(environment) as running:
        yield running
