from __future__ import annotations

import re

import pytest

from covey.base.reasons import REASONS, Reason, change_for, reason


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
