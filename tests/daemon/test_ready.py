from __future__ import annotations

import json
import os
from typing import Any

import pytest

from covey.base.errors import StateError
from covey.daemon.ready import Starter
from tests.daemon.memory import MemoryNode

IN_USE = StateError("somebody has it", code="profile-in-use", next_step="use another")


def pipe_says(call: Any) -> dict[str, Any]:
    reading, writing = os.pipe()
    call(Starter(writing))
    with os.fdopen(reading) as pipe:
        text = pipe.read()  # to the end: the starter must have closed its side
    assert text.endswith("\n")
    result: dict[str, Any] = json.loads(text)
    return result


def test_ready_is_said_on_the_pipe() -> None:
    said = pipe_says(lambda starter: starter.ready(MemoryNode().view()))
    assert said["ok"]
    assert said["data"]["name"] == "aws-orchestrator"


def test_failure_is_said_on_the_pipe_with_its_status() -> None:
    said = pipe_says(lambda starter: starter.failed(IN_USE))
    assert said == {
        "schema": 1,
        "ok": False,
        "status": 409,
        "error": {"code": "profile-in-use", "message": "somebody has it", "next_step": "use another"},
    }


def test_starter_that_went_away_does_not_matter() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    Starter(writing).ready(MemoryNode().view())


@pytest.mark.parametrize("json_wanted", [False, True])
def test_foreground_says_it_is_ready(capsys: pytest.CaptureFixture[str], json_wanted: bool) -> None:
    Starter(None, foreground=True, json=json_wanted).ready(MemoryNode().view())
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert ("aws-orchestrator is up" in out) == (not json_wanted)


def test_foreground_says_why_it_failed(capsys: pytest.CaptureFixture[str]) -> None:
    Starter(None, foreground=True).failed(IN_USE)
    assert capsys.readouterr().err == "error: somebody has it (profile-in-use)\nnext: use another\n"


def test_foreground_says_why_it_failed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    Starter(None, foreground=True, json=True).failed(IN_USE)
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "profile-in-use"


def test_unforeseen_failure_keeps_its_details() -> None:
    said = pipe_says(lambda starter: starter.failed(ZeroDivisionError("secret")))
    assert said["error"]["code"] == "internal"
    assert "secret" not in json.dumps(said)
