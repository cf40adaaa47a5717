from __future__ import annotations

import json
from pathlib import Path

import pytest

from covey.cli import logs
from tests.cli.conftest import Covey

EVENT = {"time": "t", "level": "info", "event": "it happened", "logger": "l", "peer": "azure", "count": 3}


def test_tail_is_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a\nb\nc\n")
    assert logs.tail(path, 2) == ["b", "c"]
    assert logs.tail(path, 0) == []


def test_tail_of_no_log_is_empty(tmp_path: Path) -> None:
    assert logs.tail(tmp_path / "log", 5) == []


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (json.dumps(EVENT), "t  info  it happened  peer=azure  count=3"),
        (json.dumps({**EVENT, "peer": "\x1b[2J"}), "t  info  it happened  peer=\\x1b[2J  count=3"),
        (
            json.dumps({**EVENT, "exception": "Trace\n  line"}),
            "t  info  it happened  peer=azure  count=3\nTrace\n  line",
        ),
        ("not json \x1b", "not json \\x1b"),
        ("[1]", "[1]"),
    ],
)
def test_line_for_people(line: str, shown: str) -> None:
    assert logs.for_people(line) == shown


def test_follow_goes_on_after_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")

    class Pause:
        """Stands for the wait between two looks: what happens to the file meanwhile."""

        steps = iter(("append", "half", "rest", "rotate"))

        def wait(self, seconds: float) -> None:
            step = next(self.steps)
            if step == "rotate":
                path.rename(tmp_path / "log.1")
                path.write_text("new file\n")
            else:
                with path.open("a") as file:
                    file.write({"append": "one\n", "half": "tw", "rest": "o\n"}[step])

    monkeypatch.setattr("covey.cli.logs.threading.Event", Pause)
    followed = logs.follow(path)
    assert [next(followed) for _ in range(3)] == ["one", "two", "new file"]
    followed.close()  # type: ignore[attr-defined]


def test_logs_command_prints_the_file(covey: Covey, environment: Path) -> None:
    assert covey("daemon", "logs").err == "the log is empty\n"
    path = environment / "default" / "state" / "daemon.log"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(EVENT) + "\nplain\n")
    assert covey("daemon", "logs", "-n", "5").out == "t  info  it happened  peer=azure  count=3\nplain\n"
    data = covey("daemon", "logs", "--json").document["data"]
    assert data == {"file": str(path), "items": [EVENT, "plain"]}
