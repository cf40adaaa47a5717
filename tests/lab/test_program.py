"""`covey lab`: a lab between commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from covey.base.errors import CoveyError
from covey.lab.program import main
from covey.lab.store import Store

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def covey_lab(tmp_path: Path) -> Iterator[Run]:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "covey.lab", *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=50)

    yield run
    assert run("down").returncode == 0


def data(done: subprocess.CompletedProcess[str]) -> Any:
    document = json.loads(done.stdout)
    assert (document["ok"], done.stderr) == (True, "")
    return document["data"]


@pytest.mark.usefixtures("lab")  # where labs can be
def test_lab_lives_until_it_is_taken_down(covey_lab: Run) -> None:
    made = data(covey_lab("up", "r1=server", "alice=symmetric", "--json"))
    assert [(each["name"], each["kind"], each["box"]) for each in made["machines"]] == [
        ("r1", "server", ""),
        ("alice", "symmetric", "alice.box"),
        ("alice.box", "symmetric", ""),
    ]
    added = covey_lab("up", "bob=beside:alice")
    assert "`-- bob 192.168.10.3" in added.stdout
    inside = covey_lab("exec", "bob", "--", "ip", "-brief", "address", "show", "eth0")
    assert inside.stdout.split()[2] == "192.168.10.3/24"
    home = Path(covey_lab("exec", "bob", "--", "sh", "-c", 'mkdir -p $COVEY_HOME/x; echo "$COVEY_HOME"').stdout.strip())
    assert home.is_dir()
    assert covey_lab("exec", "alice", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & exit 7").returncode == 7
    broken = data(covey_lab("cut", "alice", "r1", "--over", "200", "--json"))
    assert broken["faults"] == [{"one": "alice", "other": "r1", "over": 200}]
    moved = data(covey_lab("uplink", "bob", "none", "--json"))
    assert moved["faults"] == broken["faults"]
    assert data(covey_lab("heal", "alice", "--json"))["faults"] == []
    assert data(covey_lab("down", "--json")) == {"was_up": True}
    assert not home.exists()
    assert covey_lab("show").returncode == 4


def test_mistakes_make_no_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for words in ("up a=cone", "up a/b=server", "up a", "show", "nonsense", "exec a", "cut a --over x"):
        assert main(words.split()) in (2, 4), words
        assert capsys.readouterr().err.startswith("error: ")
    assert main(["cut", "a", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "no-lab"
    assert main(["down", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == {"was_up": False}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "lab-damaged"),
        (b'{"pid": 1}', "lab-damaged"),
        (b'{"pid":1,"namespace":1,"rootless":true,"machines":[],"faults":[],"counts":{}}', "no-lab"),
    ],
    ids=["cut short", "fields missing", "keeper gone"],
)
def test_what_was_kept_is_not_believed(tmp_path: Path, content: bytes, code: str) -> None:
    store = Store("default", {"XDG_RUNTIME_DIR": str(tmp_path)})
    with store.held():
        (store.directory / "lab.json").write_bytes(content)
        with pytest.raises(CoveyError, check=lambda error: error.code == code):
            store.load()


def test_directory_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "covey-lab").mkdir(mode=0o755)
    store = Store("default", {"XDG_RUNTIME_DIR": str(tmp_path)})
    with pytest.raises(CoveyError, check=lambda error: error.code == "bad-permissions"), store.held():
        pass
