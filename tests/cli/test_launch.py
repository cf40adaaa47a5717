"""Starting real processes: what reaches the user when a daemon does not come up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from covey.base import errors
from covey.base.errors import CoveyError
from covey.base.paths import Home
from covey.base.schema import KeysView
from covey.cli import launch
from covey.cli.command import Call
from tests.cli.conftest import Covey


@pytest.fixture
def home(environment: Path) -> Home:
    return Home.locate(None, os.environ, uid=os.getuid())


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Start a little program instead of the daemon; it finds its options in `options`."""
    source = f"import json, os, sys, time\noptions = json.loads(sys.argv[1])\n{code}"
    monkeypatch.setattr(launch, "_command", lambda options: [sys.executable, "-c", source, launch.json.dumps(options)])


def test_command_does_not_import_from_the_current_directory() -> None:
    assert launch._command({"profile": "p", "hostname": None})[1:] == [
        "-P",
        "-m",
        "covey.daemon",
        '{"profile": "p"}',
    ]


def test_start_returns_what_the_daemon_says(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec

    from tests.daemon.memory import MemoryNode

    view = MemoryNode().view()
    said = msgspec.json.encode({"schema": 1, "ok": True, "data": view}).decode()
    stand_in(monkeypatch, f"os.write(options['status_fd'], {said!r}.encode() + b'\\n')")
    assert launch.start(home, {}, timeout=20) == view


def test_start_raises_what_the_daemon_says(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    said = '{"ok": false, "status": 409, "error": {"code": "profile-in-use", "message": "m", "next_step": "n"}}'
    stand_in(monkeypatch, f"os.write(options['status_fd'], b'{said}\\n')")
    with pytest.raises(CoveyError) as caught:
        launch.start(home, {}, timeout=20)
    assert (type(caught.value).__name__, caught.value.code) == ("StateError", "profile-in-use")


def test_start_of_a_daemon_that_dies_points_to_its_log(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "sys.exit('cannot find libfoo')")
    with pytest.raises(CoveyError) as caught:
        launch.start(home, {}, timeout=20)
    assert (caught.value.code, caught.value.next_step) == ("start-failed", "covey daemon logs")
    assert home.log_file.read_text() == "cannot find libfoo\n"
    assert home.log_file.stat().st_mode & 0o777 == 0o600


def test_start_gives_up_after_the_timeout(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo = home.state_dir / "fifo"
    home.state_dir.mkdir(parents=True)
    os.mkfifo(fifo)
    stand_in(monkeypatch, f"open({str(fifo)!r}).read()")  # it lives until somebody opens and closes the other end
    with pytest.raises(errors.TimeoutError):
        launch.start(home, {}, timeout=0.05)
    fifo.open("w").close()


def test_wait_for_exit_notices_the_end(home: Home) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not launch.wait_for_exit(home, process.pid, timeout=0.01)
        assert process.stdin is not None
        process.stdin.close()
        assert launch.wait_for_exit(home, process.pid, timeout=20)
    assert launch.wait_for_exit(home, process.pid, timeout=0)


def test_wait_for_exit_without_pidfd_watches_the_socket(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.pidfd_open", raising=False)
    assert launch.wait_for_exit(home, os.getpid(), timeout=1)


@pytest.mark.parametrize(
    ("arguments", "config", "code", "error"),
    [
        (["--hostname", "Not A Name"], "", 2, "bad-name"),
        (["--listen", "nowhere"], "", 2, "bad-listen"),
        ([], "hostnam = 'typo'", 2, "bad-config"),
    ],
)
def test_real_daemons_startup_error_reaches_the_user(
    covey: Covey, environment: Path, arguments: list[str], config: str, code: int, error: str
) -> None:
    path = environment / "default" / "config" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(config)
    result = covey("daemon", "start", "--json", *arguments)
    assert (result.code, result.document["error"]["code"]) == (code, error)


@pytest.mark.parametrize(
    ("code", "kind", "error"),
    [
        ("print('no answer')", "CoveyError", "internal"),
        ("raise ValueError", "CoveyError", "internal"),
        ("import select; select.select([], [], [], 60)", "TimeoutError", "timeout"),
        ('print(\'{"ok": false, "status": 507, "error": {"code": "c", "message": "m"}}\')', "StorageError", "c"),
    ],
    ids=["garbage", "crash", "hang", "error"],
)
def test_ask_raises_what_went_wrong_and_prints_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], code: str, kind: str, error: str
) -> None:
    monkeypatch.setattr(launch, "_examination", lambda what, profile: [sys.executable, "-c", code])
    with pytest.raises(CoveyError) as caught:
        launch.ask(Call(timeout=2.0 if kind == "TimeoutError" else 60.0), "keys", KeysView)
    assert (type(caught.value).__name__, caught.value.code) == (kind, error)
    assert capfd.readouterr() == ("", "")
