"""This machine's addresses: from the kernel, and from bytes that only look like its answer."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import ParseError
from covey.net.interfaces import local_addresses, parse_addresses, parse_links


def message(kind: int, body: bytes) -> bytes:
    padded = body + bytes(-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + padded


def address(text: str, *, index: int = 2, flags: int = 0x80, kind: int = 2) -> bytes:
    """`kind` 2 is IFA_LOCAL, 1 IFA_ADDRESS."""
    raw = ipaddress.ip_address(text).packed
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    body = struct.pack("=BBBBi", family, 24, 0, 0, index) + struct.pack("=HH", 4 + len(raw), kind) + raw
    return message(20, body + struct.pack("=HHI", 8, 8, flags))


def link(index: int, flags: int) -> bytes:
    return message(16, struct.pack("=BxHiII", 0, 1, index, flags, 0))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", []),
        (address("192.0.2.1"), [(2, "192.0.2.1")]),
        (address("2001:db8::1", index=3, kind=1), [(3, "2001:db8::1")]),
        (address("127.0.0.1", index=1) + address("fe80::1") + address("10.0.0.1"), [(2, "10.0.0.1")]),
        (address("2001:db8::2", flags=0x40), []),  # tentative
        (address("2001:db8::2", flags=0x20), []),  # deprecated
        (message(3, bytes(4)) + address("192.0.2.1", kind=1), [(2, "192.0.2.1")]),
    ],
)
def test_addresses_that_others_may_send_to(answer: bytes, expected: list[tuple[int, str]]) -> None:
    assert parse_addresses(answer) == expected


def test_links_that_run_and_are_no_loopback() -> None:
    assert parse_links(link(1, 0x49) + link(2, 0x1043) + link(3, 0x1003)) == {2}


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda body: message(20, body)))
def test_strange_answers_are_parse_errors_and_nothing_else(answer: bytes) -> None:
    for parse in (parse_links, parse_addresses):
        try:
            parse(answer)
        except ParseError:
            continue


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the kernel")
def test_the_kernel_tells_addresses_that_can_be_bound() -> None:
    for each in local_addresses():
        family = socket.AF_INET6 if ":" in each else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as bound:
            bound.bind((each, 0))
