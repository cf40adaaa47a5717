from __future__ import annotations

import re

import pytest

from covey.base.reasons import REASONS, Reason, change_for, reason
from tests.base.reasons import BEGIN, END, PAGE, table


@pytest.mark.parametrize("each", REASONS.values(), ids=REASONS)
def test_reason_is_told_in_one_line_and_says_what_to_change(each: Reason) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", each.code)
    for text in (each.says, each.change):
        assert "\n" not in text
        assert not text.endswith(".")
        assert len(text) <= 120
    assert each.says
    assert bool(each.change) == (each.standing != "best")


def test_change_names_the_peer() -> None:
    assert change_for("not-trusted", "azure-processor") == "covey handshake azure-processor"
    assert change_for("direct", "azure-processor") == ""


def test_code_of_a_newer_daemon_is_explained_by_its_name() -> None:
    assert reason("moon-in-the-way").says == "moon in the way"
    assert change_for("moon-in-the-way", "b") == ""


def test_page_has_the_table_of_the_program() -> None:
    assert BEGIN + table() + END in PAGE.read_text(), "make it: .venv/bin/python -m tests.base.reasons"


def test_page_explains_what_takes_more_than_a_line() -> None:
    headings = set(re.findall(r"^## `([a-z-]+)`", PAGE.read_text(), re.MULTILINE))
    assert headings <= set(REASONS)
    assert {link for each in REASONS.values() for link in re.findall(r"reasons\.md#([a-z-]+)", each.change)} <= headings
