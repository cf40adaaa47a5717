from __future__ import annotations

from typing import Any

import pytest

from covey.base.errors import StateError
from covey.base.schema import FindingView
from covey.cli import render


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain h\u00e9 \u4f60", "plain h\u00e9 \u4f60"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb", "a\\nb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\x00", "\\x00"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_safe_escapes_what_is_not_printable(text: str, shown: str) -> None:
    assert render.safe(text) == shown


def test_safe_may_keep_lines() -> None:
    assert render.safe("a\n\tb\r\x1b", newlines=True) == "a\n\tb\\r\\x1b"


def test_columns_are_aligned() -> None:
    assert render.columns(("A", "LONG"), [("aaaa", "b"), ("", "ccccc")]) == [
        "A     LONG",
        "aaaa  b",
        "      ccccc",
    ]


@pytest.mark.parametrize(
    ("passed", "text"),
    [(-5, "0 s"), (0, "0 s"), (59, "59 s"), (300, "5 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_ago(passed: float, text: str) -> None:
    assert render.ago(1000.0, 1000.0 + passed) == text


def test_fields_leave_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    render.fields([("name", "x"), ("nothing", ""), ("address", "y")])
    assert capsys.readouterr().out == "  name     x\n  address  y\n"


def test_table_on_a_terminal_is_rich_and_takes_text_literally(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    render.table(("NAME", "TRUST"), [("[bold]not markup", "trusted")], empty="")
    assert "[bold]not markup" in capsys.readouterr().out


def test_findings_are_two_lines_each_and_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    items = [FindingView("note-code", "note", "no hint"), FindingView("bad", "error", "it\x1b[0m broke", "do\nthis")]
    render.findings(render.worst_first(items))
    assert capsys.readouterr().out.splitlines() == [
        "  error  it\\x1b[0m broke (bad)",
        "         do: do\\nthis",
        "  note   no hint (note-code)",
    ]


@pytest.mark.parametrize(
    ("severities", "text"),
    [
        ([], "nothing"),
        (["note"], "1 note"),
        (["warning", "error", "warning"], "1 error, 2 warnings"),
    ],
)
def test_tally_counts_the_worst_first(severities: list[Any], text: str) -> None:
    assert render.tally([FindingView("x", severity, "x") for severity in severities]) == text


def test_verdict_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    render.verdict("ok", "all is\nwell")
    assert capsys.readouterr().out == "ok: all is\\nwell\n"


def test_warning_is_not_called_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    render.error(StateError("found 1 warning", code="warnings-found", next_step="covey up"))
    assert capsys.readouterr().err == "warning: found 1 warning (warnings-found)\nnext: covey up\n"
