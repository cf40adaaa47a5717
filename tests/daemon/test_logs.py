from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from covey.daemon import logs


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    path = tmp_path / "daemon.log"
    root.handlers.clear()  # pytest's own handlers must not be closed by ours
    logs.configure(path)
    yield path
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = True
    structlog.reset_defaults()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_our_event_is_one_json_line(log_file: Path) -> None:
    logs.get_logger("covey.test").info("it happened", peer="azure", count=3)
    (event,) = lines(log_file)
    assert event.pop("time").endswith("Z")
    assert event == {
        "event": "it happened",
        "level": "info",
        "logger": "covey.test",
        "peer": "azure",
        "count": 3,
    }


def test_library_record_is_one_json_line(log_file: Path) -> None:
    logging.getLogger("library").warning("%d of %d", 1, 2)
    (event,) = lines(log_file)
    assert (event["event"], event["level"], event["logger"]) == ("1 of 2", "warning", "library")


def test_traceback_is_in_the_line_without_local_variables(log_file: Path) -> None:
    secret = "hunter2"
    try:
        raise ValueError(len(secret))
    except ValueError:
        logs.get_logger("covey.test").exception("it failed")
    (event,) = lines(log_file)
    assert "ValueError: 7" in event["exception"]
    assert "hunter2" not in json.dumps(event)


@pytest.mark.parametrize("name", ["token", "body", "private_key", "psk", "Secret", "stream_token"])
def test_secret_is_not_written(log_file: Path, name: str) -> None:
    logs.get_logger("covey.test").info("it happened", **{name: "hunter2"})
    assert "hunter2" not in log_file.read_text()


def test_level_holds_for_ours_and_for_libraries(log_file: Path) -> None:
    logs.get_logger("covey.test").debug("too fine")
    logging.getLogger("library").debug("too fine")
    assert lines(log_file) == []


def test_file_is_rotated(log_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "ROTATE_BYTES", 500)
    logs.configure(log_file)
    for number in range(20):
        logs.get_logger("covey.test").info("it happened", number=number)
    kept = sorted(path.name for path in log_file.parent.iterdir())
    assert kept == ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"]


def test_without_a_file_it_goes_to_standard_error(log_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(None)
    logs.get_logger("covey.test").info("it happened")
    captured = capsys.readouterr()
    assert json.loads(captured.err)["event"] == "it happened"
    assert captured.out == ""


WITHOUT_ROOM = """
import os, sys
from pathlib import Path
from covey.daemon import logs
logs.configure(Path(sys.argv[1]))
for _ in range(3):
    logs.get_logger("test").error("not written", text="x" * 100_000)
os.write(1, b"goes on")
os._exit(0)
"""


def test_log_on_a_full_disk_is_lost_without_a_word(tmp_path: Path) -> None:
    full = tmp_path / "full.log"
    full.symlink_to("/dev/full")
    done = subprocess.run([sys.executable, "-c", WITHOUT_ROOM, str(full)], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"goes on", b"")
