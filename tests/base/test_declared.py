"""What an operator may declare, and what is said about the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.declared import Declared, declared_text, parse_addresses, parse_interconnects
from covey.base.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        (" , ", ()),
        ("203.0.113.9", (Declared("203.0.113.9", 0),)),
        ("203.0.113.9:4040", (Declared("203.0.113.9", 4040),)),
        ("2001:DB8::0:9 ,[2001:db8::8]:1", (Declared("2001:db8::9", 0), Declared("2001:db8::8", 1))),
    ],
)
def test_addresses_have_a_port_or_are_meant_with_ours(text: str, expected: tuple[Declared, ...]) -> None:
    assert parse_addresses(text) == expected
    assert parse_addresses(declared_text(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("er=10.8.0.4", (Declared("10.8.0.4", 0, "er"),)),
        ("er=10.8.0.4:1@20", (Declared("10.8.0.4", 1, "er", 20),)),
        ("a.b-c_9=[fd00::1]:7@255", (Declared("fd00::1", 7, "a.b-c_9", 255),)),
    ],
)
def test_interconnects_have_a_label_and_perhaps_a_cost(text: str, expected: tuple[Declared, ...]) -> None:
    assert parse_interconnects(text) == expected
    assert parse_interconnects(declared_text(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "example.com:4040",
        "203.0.113.9:",
        "203.0.113.9:70000",
        "0.0.0.0:1",
        "224.0.0.1",
        "fe80::1%2",
        "1.2.3.4," * 9,
        "@",
    ],
)
def test_addresses_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_addresses(text)
    assert caught.value.code == "bad-addresses"
    assert caught.value.next_step


@pytest.mark.parametrize(
    "text", ["10.8.0.4", "=10.8.0.4", "a b=10.8.0.4", "er=", "er=10.8.0.4@", "er=10.8.0.4@256", "er=10.8.0.4@-1"]
)
def test_interconnects_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_interconnects(text)
    assert caught.value.code == "bad-interconnects"


@given(st.text("0123456789abc.:[]=@,% ", max_size=40))
def test_any_text_is_ways_or_a_usage_error(text: str) -> None:
    for parse in (parse_addresses, parse_interconnects):
        try:
            found = parse(text)
        except UsageError:
            continue
        assert parse(declared_text(found)) == found
