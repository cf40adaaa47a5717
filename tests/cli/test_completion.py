"""Completion in a real bash, against a daemon; what is offered is tested with the parser in `test_complete.py`."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from covey.cli.completion import SCRIPTS
from tests.cli.conftest import Covey
from tests.daemon.memory import RunningDaemon

BIN = Path(sys.executable).parent


def environment_of(home: Path) -> dict[str, str]:
    return {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(home), "COVEY_HOME": str(home), "TERM": "dumb", "PS1": "$ "}


def bash(home: Path, *words: str, cwd: Path | None = None) -> tuple[list[str], str]:
    """What bash would offer for the last word, and what was on standard error."""
    drive = """
        source <(covey completion show bash)
        COMP_WORDS=(covey "$@") COMP_CWORD=$# COMPREPLY=()
        _covey covey "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", drive, "bash", *words],
        capture_output=True,
        text=True,
        env=environment_of(home),
        timeout=30,
        cwd=cwd,
        check=True,
    )
    return done.stdout.split(), done.stderr


def test_bash_completes_commands_options_and_peers(daemon: RunningDaemon, environment: Path) -> None:
    assert bash(environment, "hand") == (["handshake"], "")
    assert bash(environment, "daemon", "st") == (["start", "stop", "status"], "")
    assert bash(environment, "send-message", "--dat") == (["--data"], "")
    assert bash(environment, "handshake", "az") == (["azure-processor"], "")
    assert bash(environment, "handshake", "11") == (["1111.2222.3333"], "")
    daemon.node.trust = "trusted"
    assert bash(environment, "send-message", "azure-processor", "--type", "=", "j") == (["json"], "")
    assert bash(environment, "ping", "az") == (["azure-processor"], "")


def test_bash_offers_nothing_and_says_nothing_without_a_daemon(environment: Path) -> None:
    assert bash(environment, "ping", "") == ([], "")
    assert bash(environment, "ping", "--profile", "No Way", "") == ([], "")


class Terminal:
    """An interactive bash on a terminal of its own."""

    def __init__(self, home: Path) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(home)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment_of(home))
        self.screen = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, text: str, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.screen:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {text!r} in {self.screen!r}"
            self.screen += os.read(self.fd, 4096).decode(errors="replace")

    def close(self) -> None:
        os.close(self.fd)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(environment: Path) -> Iterator[Terminal]:
    found = Terminal(environment)
    yield found
    found.close()


def test_tab_in_a_terminal_completes_the_name_of_a_live_peer(daemon: RunningDaemon, terminal: Terminal) -> None:
    terminal.expect("$ ")
    terminal.type("source <(covey completion show bash); echo loa''ded\n")
    terminal.expect("loaded\r\n")
    terminal.type("covey handsh\taz\t--reason x\n")
    terminal.expect("covey handshake azure-processor --reason x")
    terminal.expect("has to approve")
    assert daemon.node.reason == "x"


def test_tab_in_a_terminal_offers_files_where_files_are_meant(environment: Path, terminal: Terminal) -> None:
    (environment / "letter.txt").write_text("x")
    terminal.expect("$ ")
    terminal.type("source <(covey completion show bash); echo loa''ded\n")
    terminal.expect("loaded\r\n")
    terminal.type("covey send-message x --file let\t")
    terminal.expect("--file letter.txt")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_install_puts_the_script_where_the_shell_looks(
    covey: Covey, environment: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("HOME", str(environment))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    for _ in range(2):  # it may be repeated
        file = Path(covey("completion", "install", "--json").document["data"]["file"])
    assert file.is_relative_to(environment)
    assert file.read_text() == SCRIPTS[shell] == covey("completion", "show", "--json").document["data"]["script"]
    assert [path for path in file.parent.iterdir() if path != file] == []
    file.write_text("my own")
    result = covey("completion", "install", shell, "--json")
    assert (result.code, result.document["error"]["code"], file.read_text()) == (2, "file-exists", "my own")


def test_install_for_an_unknown_shell_says_what_to_do(covey: Covey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/dash")
    result = covey("completion", "install", "--json")
    assert (result.code, result.document["error"]["code"]) == (2, "unknown-shell")


def test_bash_finds_what_was_installed(covey: Covey, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(environment))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    file = covey("completion", "install", "bash", "--json").document["data"]["file"]
    done = subprocess.run(
        ["bash", "--norc", "-c", f"source {file} && complete -p covey"],
        capture_output=True,
        text=True,
        env=environment_of(environment),
        check=True,
    )
    assert done.stdout == "complete -o nosort -F _covey covey\n"
