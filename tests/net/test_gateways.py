from __future__ import annotations

import socket
import sys

import pytest

from covey.base.errors import ParseError
from covey.net.gateways import default_gateways, parse_ipv4_routes, parse_ipv6_routes

HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"
NOWHERE = "0" * 32
GLOBAL = "20010db8000900000000000000000001"
LINK_LOCAL = "fe80000000000000c46a12fffe000001"


def ipv4(gateway: str, *, destination: str = "00000000", flags: str = "0003", metric: int = 0) -> str:
    raw = socket.inet_aton(gateway)
    number = int.from_bytes(raw, sys.byteorder)
    return f"eth0 {destination} {number:08X} {flags} 0 0 {metric} 00000000 0 0 0"


def ipv6(gateway: str, *, destination: str = NOWHERE, length: str = "00", flags: str = "3", metric: str = "400") -> str:
    return f"{destination} {length} {NOWHERE} 00 {gateway} {metric:>08} 00000001 00000000 {flags} lo"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], None),
        ([ipv4("192.168.9.1")], "192.168.9.1"),
        ([ipv4("10.0.0.1", metric=100), ipv4("192.168.9.1", metric=20)], "192.168.9.1"),
        ([ipv4("192.168.9.1", flags="0002")], None),
        ([ipv4("192.168.9.1", flags="0203")], None),
        ([ipv4("0.0.0.0", flags="0001")], None),
        ([ipv4("192.168.9.1", destination="0009A8C0")], None),
        (["short"], None),
    ],
    ids=["none", "one", "lower metric", "down", "rejected", "a line without a router", "a network", "short"],
)
def test_ipv4_router_is_that_of_the_best_default_route(rows: list[str], expected: str | None) -> None:
    assert parse_ipv4_routes([HEAD, *rows]) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], None),
        ([ipv6(GLOBAL)], "2001:db8:9::1"),
        ([ipv6(GLOBAL, metric="500"), ipv6(LINK_LOCAL)], "fe80::c46a:12ff:fe00:1%1"),
        ([ipv6(GLOBAL, flags="200203")], None),
        ([ipv6(NOWHERE, flags="1")], None),
        ([ipv6(GLOBAL, length="40")], None),
    ],
    ids=["none", "one", "link-local, with its interface", "rejected", "a line without a router", "a network"],
)
def test_ipv6_router_is_that_of_the_best_default_route(rows: list[str], expected: str | None) -> None:
    assert parse_ipv6_routes(rows) == expected


@pytest.mark.parametrize(
    ("parse", "row"),
    [
        (parse_ipv4_routes, "eth0 zz 0109A8C0 0003 0 0 0 00000000 0 0 0"),
        (parse_ipv4_routes, "eth0 00000000 0109A8C0 0003 0 0 x 00000000 0 0 0"),
        (parse_ipv6_routes, ipv6("fe80")),
        (parse_ipv6_routes, ipv6(LINK_LOCAL).replace(" lo", " gone9")),
    ],
)
def test_odd_tables_are_refused(parse: object, row: str) -> None:
    with pytest.raises(ParseError):
        parse([row])  # type: ignore[operator]


def test_this_machine_has_at_most_one_router_of_each_family() -> None:
    families = [":" in gateway for gateway in default_gateways()]
    assert len(families) == len(set(families))
