from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import ParseError, UsageError
from covey.base.types import (
    ADDRESS_SIZE,
    IDENTITY_SIZE,
    address_text,
    check_name,
    endpoint_text,
    identity_text,
    parse_address,
    parse_endpoint,
    parse_identity,
)


@given(st.binary(min_size=IDENTITY_SIZE, max_size=IDENTITY_SIZE))
def test_identity_text_survives(identity: bytes) -> None:
    text = identity_text(identity)
    assert len(text) == 52
    assert parse_identity(text) == identity


@given(st.binary(min_size=ADDRESS_SIZE, max_size=ADDRESS_SIZE))
def test_address_text_survives(address: bytes) -> None:
    assert parse_address(address_text(address)) == address


def test_address_text_is_three_groups() -> None:
    assert address_text(bytes.fromhex("7f3a91c0d2e4")) == "7f3a.91c0.d2e4"


GOOD = identity_text(bytes(range(32)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        GOOD[:-1],
        GOOD + "a",
        GOOD.upper(),
        GOOD[:-1] + "9",
        GOOD + "====",
        " " + GOOD[1:],
        "ß" * 26,
        "a" * 51 + "b",
    ],
)
def test_parse_identity_refuses(text: str) -> None:
    with pytest.raises(ParseError):
        parse_identity(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7f3a.91c0",
        "7F3A.91C0.D2E4",
        "7f3a91c0d2e4",
        "7f3a.91c0.d2e4 ",
        "7f3a.91c0.d2e4\n",
        "gf3a.91c0.d2e4",
        "٧f3a.91c0.d2e4",
    ],
)
def test_parse_address_refuses(text: str) -> None:
    with pytest.raises(ParseError):
        parse_address(text)


@pytest.mark.parametrize("name", ["a", "0", "azure-processor", "a" * 63, "a--b", "x" * 52])
def test_check_name_accepts(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "a-",
        "A",
        "a.b",
        "a_b",
        "a b",
        "a" * 64,
        "ä",
        "a\n",
        "7f3a.91c0.d2e4",
        GOOD,
        identity_text(bytes(32)),
    ],
)
def test_check_name_refuses(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(name)
    assert caught.value.code == "bad-name"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.1:4040", ("192.0.2.1", 4040)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65_535)),
        ("rendezvous.example.org:443", ("rendezvous.example.org", 443)),
        ("192.0.2.1:0", ("192.0.2.1", 0)),
    ],
)
def test_endpoint_text_survives(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(text) == endpoint
    assert endpoint_text(endpoint) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        "host:",
        ":4040",
        "2001:db8::1:4040",
        "host:65536",
        pytest.param("host:" + "9" * 5000, id="more digits than Python makes a number of"),
        "host:-1",
        "host:x",
        "host:²",
        "host:٤",
        "[]:1",
    ],
)
def test_parse_endpoint_refuses(text: str) -> None:
    with pytest.raises(ParseError):
        parse_endpoint(text)


@given(st.text(max_size=80))
def test_parsers_raise_only_parse_errors(text: str) -> None:
    for parse in (parse_identity, parse_address, parse_endpoint):
        with suppress(ParseError):
            parse(text)
    with suppress(UsageError):
        assert check_name(text) == text
