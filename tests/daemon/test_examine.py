from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from covey.daemon.examine import main


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main(list(arguments))
    return code, json.loads(capsys.readouterr().out)


def test_answer_is_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COVEY_HOME", str(tmp_path))
    code, document = answer(capsys, "store", '{"profile": "x"}')
    assert (code, document["ok"], set(document)) == (0, True, {"ok", "data"})
    assert [each["code"] for each in document["data"]["items"]] == ["missing-directory", "identity-missing"]
    assert not list(tmp_path.iterdir()), "looking makes nothing"


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["keys"], 507, "identity-missing"),
        ([], 422, "usage"),
        (["everything"], 422, "usage"),
        (["store", '{"profile": "No Way"}'], 422, "bad-profile"),
    ],
)
def test_error_is_a_document_too(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    code: str,
) -> None:
    monkeypatch.setenv("COVEY_HOME", str(tmp_path))
    exit_code, document = answer(capsys, *arguments)
    assert (exit_code, document["ok"], document["status"], document["error"]["code"]) == (1, False, status, code)
