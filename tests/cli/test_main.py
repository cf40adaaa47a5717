"""How command lines are parsed, and how errors look, when no daemon runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from covey.cli import render
from tests.cli.conftest import Covey

NEEDS_DAEMON = [
    ["status"],
    ["id"],
    ["find", "azure"],
    ["peers"],
    ["handshake", "azure"],
    ["pending"],
    ["approve", "azure"],
    ["reject", "azure"],
    ["trust", "azure"],
    ["untrust", "azure"],
    ["ping", "azure"],
    ["send-message", "azure", "--data", "x"],
    ["inbox"],
    ["inbox", "list"],
    ["inbox", "show", "1"],
    ["inbox", "ack", "1"],
    ["inbox", "clear"],
    ["daemon", "status"],
]


@pytest.mark.parametrize("arguments", NEEDS_DAEMON, ids=" ".join)
def test_command_without_a_daemon_says_how_to_start_it(covey: Covey, arguments: list[str]) -> None:
    result = covey(*arguments)
    assert result.code == 3
    assert result.out == ""
    assert result.err == ("error: no daemon is running for profile 'default' (not-running)\nnext: covey daemon start\n")


@pytest.mark.parametrize("arguments", NEEDS_DAEMON, ids=" ".join)
def test_command_without_a_daemon_says_so_in_json(covey: Covey, arguments: list[str]) -> None:
    result = covey(*arguments, "--json")
    assert result.code == 3
    assert result.document == {
        "schema": 1,
        "ok": False,
        "error": {
            "code": "not-running",
            "message": "no daemon is running for profile 'default'",
            "next_step": "covey daemon start",
        },
    }


def test_dead_daemons_socket_is_no_daemon(covey: Covey, environment: Path) -> None:
    import socket

    run = environment / "default" / "run"
    run.mkdir(mode=0o700, parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run / "api.sock"))
    assert covey("status").code == 3


def test_socket_directory_that_others_can_change_is_refused(covey: Covey, environment: Path) -> None:
    run = environment / "default" / "run"
    run.mkdir(parents=True)
    run.chmod(0o777)
    result = covey("status", "--json")
    assert (result.code, result.document["error"]["code"]) == (9, "bad-permissions")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["statu"], "No such command 'statu'"),
        (["status", "--jsno"], "No such option"),
        (["status", "extra"], "unexpected extra argument"),
        (["find"], "Missing argument"),
        (["handshake", "a", "--wait", "soon"], "not a valid float"),
        (["handshake", "a", "--wait", "-1"], "not in the range"),
        (["ping", "a", "-c", "0"], "not in the range"),
        (["status", "--timeout", "0"], "not in the range"),
        (["send-message", "a", "--data", "x", "--type", "xml"], "'xml'"),
        (["daemon"], "say what to do"),
        (["inbox", "sho", "1"], "No such command"),
        (["inbox", "ack"], "Missing argument"),
        (["send-message", "a"], "exactly one of --data, --file and --lines"),
        (["send-message", "a", "--data", "x", "--file", "y"], "exactly one of --data, --file and --lines"),
        (["send-message", "a", "--data", "x", "--id", "short"], "32 lower-case hex digits"),
        (["--json"], "no command"),
        (["status", "--profile", "Not a profile"], "is not a profile"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage_error_exits_with_2_and_says_what_is_wrong(covey: Covey, arguments: list[str], message: str) -> None:
    if "--json" not in arguments:
        result = covey(*arguments)
        assert (result.code, result.out) == (2, "")
        assert message in result.err
        assert result.err.startswith("error: ")
        assert "Traceback" not in result.err
    document = covey(*arguments, *([] if "--json" in arguments else ["--json"])).document
    assert not document["ok"]
    assert message in document["error"]["message"]


def test_common_options_may_come_before_the_command(covey: Covey) -> None:
    result = covey("--json", "--profile", "other", "status")
    assert "'other'" in result.document["error"]["message"]
    assert result.document["error"]["next_step"] == "covey --profile other daemon start"


def test_groups_options_hold_for_its_commands(covey: Covey) -> None:
    assert "'other'" in covey("inbox", "--json", "--profile", "other", "clear").document["error"]["message"]


def test_commands_own_options_win(covey: Covey) -> None:
    result = covey("--profile", "first", "status", "--profile", "second", "--json")
    assert "'second'" in result.document["error"]["message"]


def test_profile_comes_from_the_environment(covey: Covey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVEY_PROFILE", "work")
    error = covey("status", "--json").document["error"]
    assert "'work'" in error["message"]
    assert error["next_step"] == "covey daemon start"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_is_no_error(covey: Covey, arguments: list[str]) -> None:
    result = covey(*arguments)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Usage: covey")


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version_needs_no_daemon(covey: Covey, arguments: list[str]) -> None:
    assert covey(*arguments).out.startswith("covey ")
    assert "version" in covey(*arguments, "--json").document["data"]


def test_unforeseen_error_is_internal_without_a_traceback(covey: Covey, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, *arguments: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("covey.cli.client.Client.get", broken)
    result = covey("status")
    assert result.code == 1
    assert result.err.startswith("error: ZeroDivisionError: oh (internal)\n")
    assert covey("status", "--json").document["error"]["code"] == "internal"
    monkeypatch.setenv("COVEY_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        covey("status")


def test_interrupt_exits_with_130(covey: Covey, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object, *arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("covey.cli.client.Client.get", interrupted)
    assert covey("status").code == 130


def test_output_that_nobody_reads_exits_with_141(environment: Path) -> None:
    log = environment / "default" / "state" / "daemon.log"
    log.parent.mkdir(parents=True)
    log.write_text("x" * 100 + "\n" * 20_000)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        command = [sys.executable, "-m", "covey.cli", "daemon", "logs", "-n", "20000"]
        result = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (141, "")


def test_short_output_that_nobody_reads_exits_with_141(environment: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        command = [sys.executable, "-m", "covey.cli", "version"]
        result = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (141, "")


def test_interrupt_while_following_is_quiet(environment: Path) -> None:
    log = environment / "default" / "state" / "daemon.log"
    log.parent.mkdir(parents=True)
    log.write_text('{"event": "first", "level": "info", "time": "t"}\n')
    # a shell that runs the tests in the background makes its children ignore SIGINT
    restored = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{restored}; from covey.cli.main import main; main()"
    command = [sys.executable, "-c", code, "daemon", "logs", "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"t  info  first\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")


@pytest.mark.parametrize(
    ("environment_says", "wanted"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_on_a_terminal_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment_says: dict[str, str], wanted: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment_says.items():
        monkeypatch.setenv(name, value)
    _, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream:
        assert render.colours_wanted(stream) == wanted


def test_colour_is_for_terminals_only(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stream:
        assert not render.colours_wanted(stream)
