"""The setting `paths`: good rules, and what is refused."""

from __future__ import annotations

import pytest

from covey.base.errors import UsageError
from covey.base.path_rules import PathRule, parse_path_rules


def test_rules_say_for_whom_and_which_ways_in_order() -> None:
    text = "* bulk interconnect; audit direct-only; b no-relay;"
    text += "azure primary interconnect:dx,direct backup relay:192.0.2.1;"
    assert parse_path_rules(text) == {
        "*": PathRule(bulk=("interconnect",)),
        "azure": PathRule(order=("interconnect:dx", "direct", "relay:192.0.2.1")),
        "audit": PathRule(relay="introduce"),
        "b": PathRule(relay="never"),
    }
    assert parse_path_rules("  ") == {}


def test_backup_alone_comes_after_what_is_direct() -> None:
    assert parse_path_rules("* backup relay")["*"].order == ("lan", "direct", "relay")


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "* primary",
        "* primary car",
        "* primary direct primary relay",
        "* sometimes direct",
        "* direct-only; * no-relay",
        "No Name direct-only",
        "* primary direct,,relay",
        "* primary interconnect:",
        "; ".join(f"a{number} direct-only" for number in range(300)),
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_path_rules(text)
