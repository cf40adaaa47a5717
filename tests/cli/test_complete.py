from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from covey.base.paths import Home
from covey.cli import complete
from covey.cli.app import app
from covey.cli.complete import FILES, VALUES, candidates
from tests.cli import reference
from tests.cli.conftest import Covey
from tests.daemon.memory import RunningDaemon

COMMAND = get_command(app)

PEERS = [
    {"name": "azure", "address": "1111.2222.3333", "identity": "b" * 52, "trust": "trusted"},
    {"name": "aws", "address": "", "identity": "c" * 52, "trust": "pending"},
    {"name": "twin", "address": "", "identity": "d" * 52, "trust": "unknown"},
    {"name": "twin", "address": "", "identity": "e" * 52, "trust": "unknown"},
    {"name": "$(reboot)", "address": "`id`", "identity": "x y", "trust": "trusted"},
    {"name": "-rf", "address": "a;b", "identity": "\x1b[31m", "trust": "trusted"},
]


def ask(path: str) -> Any:
    if path == "/v1/peers":
        return {"items": PEERS}
    if path == "/v1/pending":
        return {"items": [each for each in PEERS if each["trust"] == "pending"]}
    if path.startswith("/v1/inbox"):
        return {"items": [{"number": 3}, {"number": 12}]}
    raise AssertionError(path)


def offered(line: str) -> list[str]:
    *before, beginning = line.split(" ")
    return candidates(COMMAND, before, beginning, ask)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ver", ["version"]),
        ("daemon lo", ["logs"]),
        ("nothing ", []),
        ("--json sta", ["status"]),
        ("--profile work sta", ["status"]),
        ("status --tim", ["--timeout"]),
        ("status --timeout ", []),
        ("version extra ", []),
        ("ping ", ["azure", "1111.2222.3333"]),
        ("ping az", ["azure"]),
        ("ping azure ", []),
        ("ping --count 3 az", ["azure"]),
        ("ping -c 3 az", ["azure"]),
        ("trust a", ["aws", "azure"]),
        ("trust t", []),
        ("trust dd", ["d" * 52]),
        ("handshake ", ["aws", "d" * 52, "e" * 52]),
        ("approve ", ["aws"]),
        ("reject --reason x a", ["aws"]),
        ("send-message azure --type ", ["text", "json", "binary"]),
        ("send-message azure --type=b", ["--type=binary"]),
        ("send-message azure --file ", [FILES]),
        ("send-message azure --lines x", [FILES]),
        ("send-message azure --data ", []),
        ("inbox ", ["list", "show", "ack", "clear"]),
        ("inbox show ", ["3", "12"]),
        ("inbox ack 3 1", ["12"]),
        ("inbox ack -- 1", ["12"]),
        ("events --type trust", ["trust.changed", "trust.*"]),
        ("completion install z", ["zsh"]),
    ],
)
def test_offered(line: str, words: list[str]) -> None:
    assert offered(line) == words


def test_words_of_others_that_a_shell_would_understand_are_never_offered() -> None:
    assert set(offered("trust ")) == {"azure", "aws", "1111.2222.3333", "d" * 52, "e" * 52}


def test_every_source_belongs_to_a_parameter_that_exists() -> None:
    known = {("", "profile")}
    for path, command, _ in reference._walk(COMMAND, reference.typer.Context(COMMAND, info_name="covey")):
        names = {each.name for each in command.params}
        known |= {(path.removeprefix("covey "), name) for name in names} | {("", name) for name in names}
    assert set(VALUES) <= known


def test_profiles_are_those_of_this_user(environment: Path) -> None:
    for name in ("default", "work"):
        (environment / name / "state").mkdir(parents=True)
    assert offered("--profile ") == ["default", "work"]


def test_answer_is_silent_whatever_happens(covey: Covey, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(complete.VARIABLE, "bash")
    for words in (("ping", ""), (), ("--profile", "No Way", "ping", ""), ("\udcff",)):
        result = covey(*words)
        assert (result.code, result.err) == (0, "")


def test_answer_asks_the_daemon_of_the_profile_on_the_line(
    covey: Covey, daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(complete.VARIABLE, "bash")
    assert covey("find", "az").out == "azure-processor\n"
    assert covey("--profile", "other", "find", "az").out == ""
    assert covey("--profile", "=", "other", "find", "az").out == ""


def test_daemon_that_hangs_costs_the_typist_no_more_than_allowed(
    covey: Covey, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.locate("default", {"COVEY_HOME": str(environment)}, uid=0)
    home.run_dir.mkdir(mode=0o700, parents=True)
    monkeypatch.setenv(complete.VARIABLE, "bash")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(os.fspath(home.api_socket))
        silent.listen()
        begun = time.monotonic()
        assert covey("find", "").out == ""
        assert complete.ASK_SECONDS <= time.monotonic() - begun < 10 * complete.ASK_SECONDS
