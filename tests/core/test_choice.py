"""Which path is better: rules, then the local network, then direct, then the round trip with hysteresis."""

from __future__ import annotations

import pytest

from covey.core.choice import best, better, matches
from covey.core.congestion import controller
from covey.core.path import WEBSOCKET_PORTS, Path, Route

WAN, WAN6, LAN, RELAY = "198.51.100.1", "2001:db8::1", "192.168.1.7", "203.0.113.9"


def path(
    host: str, ms: float, *, relayed: bool = False, websocket: bool = False, label: str | None = None, cost: int = 0
) -> Path:
    route = Route(WEBSOCKET_PORTS if websocket else 0, (host, 4000), 7 if relayed else 0)
    made = Path(1, route, 0.0, controller("cubic", 1200, bytes))
    made.recovery.rtt.sample(ms / 1000, 0.0)
    made.interconnect, made.cost = label, cost
    return made


def named(value: object) -> str:
    """For the test's id, the same in every worker."""
    if not isinstance(value, Path):
        return " ".join(sorted(value)) if isinstance(value, set | frozenset) else str(value)
    route = value.route
    words = ["relay" if route.relayed else "", value.interconnect or "", str(value.cost or ""), str(route.local)]
    return " ".join([route.remote[0], f"{value.recovery.rtt.smoothed * 1000:g} ms", *filter(None, words)])


@pytest.mark.parametrize(
    ("one", "two", "order"),
    [
        (path(WAN, 90), path(RELAY, 10, relayed=True), ()),
        (path(WAN, 20), path(WAN, 26), ()),
        (path(RELAY, 90), path("rendezvous.example.com", 10, websocket=True), ()),
        (path(RELAY, 90), path(LAN, 10, websocket=True), ()),
        (path(RELAY, 90, relayed=True), path(RELAY, 10, relayed=True, websocket=True), ()),
        (path(WAN, 100), path(WAN, 112), ()),
        (path(WAN6, 20), path(WAN, 23), ()),
        (path(LAN, 9), path(WAN, 1), ()),
        (path(WAN, 5), path(LAN, 30), ()),
        (path(WAN, 20), path(WAN, 5, label="dx", cost=30), ()),
        (path(WAN, 5, label="dx"), path(WAN, 20), ()),
        (path(RELAY, 90, relayed=True), path(WAN, 10), ("relay",)),
        (path(WAN, 90, label="dx"), path(WAN, 10), ("interconnect:dx", "direct")),
        (path(WAN, 90), path(WAN, 10, label="other"), ("interconnect:dx", "direct")),
        (path(WAN6, 90), path(WAN, 10), ("ipv6",)),
    ],
    ids=named,
)
def test_first_is_better_and_the_second_is_not(one: Path, two: Path, order: tuple[str, ...]) -> None:
    assert better(one, two, order)
    assert not better(two, one, order)
    assert best([two, one], order) is one


@pytest.mark.parametrize(
    ("one", "two"),
    [(path(WAN, 20), path(WAN, 24)), (path(WAN, 100), path(WAN, 109)), (path(WAN6, 20), path(WAN, 16))],
    ids=named,
)
def test_what_is_little_better_is_not_worth_a_change(one: Path, two: Path) -> None:
    assert not better(one, two)
    assert not better(two, one)


def test_suspect_path_is_worse_than_any_other() -> None:
    one, two = path(LAN, 1), path(RELAY, 100, relayed=True)
    one.suspect = True
    assert better(two, one, ("lan",))


@pytest.mark.parametrize(
    ("given", "ways"),
    [
        (path(RELAY, 5, relayed=True), {"relay", f"relay:{RELAY}"}),
        (path(WAN, 5), {"direct", "ipv4"}),
        (path(WAN6, 5), {"direct", "ipv6"}),
        (path(LAN, 5), {"direct", "ipv4", "lan"}),
        (path(LAN, 50), {"direct", "ipv4"}),
        (path(LAN, 5, label="dx"), {"ipv4", "interconnect", "interconnect:dx"}),
    ],
    ids=named,
)
def test_words_of_rules_mean_these_paths(given: Path, ways: set[str]) -> None:
    words = {"lan", "direct", "ipv4", "ipv6", "relay", f"relay:{RELAY}", "relay:192.0.2.1"}
    words |= {"interconnect", "interconnect:dx", "interconnect:other"}
    assert {word for word in words if matches(given, word)} == ways
