from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from covey.fleet.commands.program import main


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        document = json.loads(self.out)
        assert document["ok"] is (self.code == 0)
        return document["data"]

    @property
    def error(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.out)["error"]
        return found


Fleet = Callable[..., Said]

SPEC = """\
[pools.a]
provider = "local"
labels = { cloud = "a" }
[pools.b]
provider = "local"
labels = { cloud = "b" }
[workloads.work]
mode = "recommend"
command = ["serve"]
replicas = { min = 1, max = 8 }
"""


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fleet:
    """Runs one command line in this process, in a folder and a home of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COVEY_FLEET_HOME", str(tmp_path / "home"))

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


@pytest.fixture
def applied(fleet: Fleet) -> Fleet:
    """The same, with `SPEC` applied."""
    Path("fleet.toml").write_text(SPEC)
    assert fleet("apply").code == 0
    return fleet
