"""Who gets work done under load: proof first, then a rate per source, and who waits beside whom."""

from __future__ import annotations

import pytest

from covey.base.constants import LOG_LIMIT
from covey.base.types import Endpoint, Identity
from covey.core import limits
from covey.core.admission import Admission, Verdict
from covey.core.path import Route
from covey.crypto.cookie import COOKIE_SECONDS, mac2

NOW = 1000 * COOKIE_SECONDS + 0.5
MESSAGE = b"an initiation up to and with its mac1"
HOME, OTHER_HOME = ("198.51.100.1", 4000), ("198.51.100.2", 4000)
RELAYS: dict[Endpoint, Identity] = {HOME: Identity(b"h" * 32), OTHER_HOME: Identity(b"o" * 32)}


def admission() -> Admission:
    return Admission(bytes(32), RELAYS)


def direct(number: int, port: int = 4000) -> Route:
    return Route(0, (f"203.0.113.{number}", port))


def proven(gate: Admission, route: Route, now: float = NOW) -> memoryview:
    """A datagram of somebody who got the cookie for `route`."""
    return memoryview(MESSAGE + mac2(gate.cookie(now, route), MESSAGE))


def taken(gate: Admission, route: Route, times: int, now: float = NOW) -> int:
    datagram = proven(gate, route, now)
    return sum(gate.judge(now, route, datagram) is Verdict.TAKE for _ in range(times))


def test_who_proves_where_it_is_is_taken() -> None:
    gate = admission()
    assert gate.judge(NOW, direct(1), proven(gate, direct(1))) is Verdict.TAKE


@pytest.mark.parametrize("tag", [bytes(16), b"\1" * 16], ids=["none", "forged"])
def test_who_proves_nothing_is_asked_to(tag: bytes) -> None:
    assert admission().judge(NOW, direct(1), memoryview(MESSAGE + tag)) is Verdict.PROVE


@pytest.mark.parametrize(
    "elsewhere",
    [direct(2), direct(1, 4001), Route(0, ("203.0.113.1", 4000), 7), Route(0, ("2001:db8::1", 4000))],
    ids=["another address", "another port", "a circuit", "ipv6"],
)
def test_proof_for_one_source_is_none_for_another(elsewhere: Route) -> None:
    gate = admission()
    assert gate.judge(NOW, elsewhere, proven(gate, direct(1))) is Verdict.PROVE


def test_proof_for_a_circuit_holds_at_every_address_of_that_relay_and_no_other() -> None:
    second_address = ("198.51.100.9", 4000)
    gate = Admission(bytes(32), {**RELAYS, second_address: RELAYS[HOME]})
    datagram = proven(gate, Route(0, HOME, 7))
    assert gate.judge(NOW, Route(0, second_address, 7), datagram) is Verdict.TAKE
    assert gate.judge(NOW, Route(0, OTHER_HOME, 7), datagram) is Verdict.PROVE
    assert gate.judge(NOW, Route(0, HOME, 8), datagram) is Verdict.PROVE


def test_expired_proof_is_asked_for_again() -> None:
    gate = admission()
    datagram = proven(gate, direct(1))
    assert gate.judge(NOW + COOKIE_SECONDS, direct(1), datagram) is Verdict.TAKE
    assert gate.judge(NOW + 2 * COOKIE_SECONDS, direct(1), datagram) is Verdict.PROVE


def test_source_has_a_burst_and_a_rate() -> None:
    gate = admission()
    assert taken(gate, direct(1), 20) == limits.SOURCE_BURST
    assert sum(taken(gate, direct(1), 5, NOW + step / 10) for step in range(1, 11)) == limits.SOURCE_RATE
    assert taken(gate, direct(2), 20) == limits.SOURCE_BURST


def test_ports_and_addresses_of_one_network_share_a_rate() -> None:
    gate = admission()
    assert sum(taken(gate, direct(1, port), 1) for port in range(1, 100)) == limits.SOURCE_BURST
    hosts = [Route(0, (f"2001:db8::{number:x}", 4000)) for number in range(1, 100)]
    assert sum(taken(gate, host, 1) for host in hosts) == limits.SOURCE_BURST


def test_rate_of_a_source_is_not_used_up_in_its_name() -> None:
    """A thousand datagrams with its address and no proof: the source itself is taken all the same."""
    gate = admission()
    verdicts = [gate.judge(NOW, direct(1), memoryview(MESSAGE + bytes(16))) for _ in range(1000)]
    assert Verdict.TAKE not in verdicts
    assert gate.judge(NOW, direct(1), proven(gate, direct(1))) is Verdict.TAKE


def test_cookies_to_one_source_have_the_same_rate() -> None:
    """Nobody makes us send a flood of cookies to an address that is not its own."""
    gate = admission()
    verdicts = [gate.judge(NOW, direct(1, port), memoryview(MESSAGE + bytes(16))) for port in range(1000)]
    assert verdicts.count(Verdict.PROVE) == limits.SOURCE_BURST


def test_lane_is_that_of_a_trusted_peer_where_one_was_seen() -> None:
    gate = admission()
    gate.know(direct(1))
    gate.know(Route(0, HOME, 7))
    known = gate.place(NOW, direct(1, 9))[0]
    others = {gate.place(NOW, route)[0] for route in (direct(2), Route(0, HOME, 8), Route(0, OTHER_HOME, 8))}
    assert gate.place(NOW, Route(0, HOME, 7))[0] == known
    assert len(others | {known}) == 4


def test_sources_in_a_lane_are_circuits_and_networks() -> None:
    gate = admission()
    routes = [direct(1), direct(2), Route(0, HOME, 1), Route(0, HOME, 2), Route(0, OTHER_HOME, 1)]
    assert len({gate.place(NOW, route)[1] for route in routes}) == len(routes)
    assert gate.place(NOW, direct(1, 1)) == gate.place(NOW, direct(1, 2))


def test_credit_is_what_a_source_did_not_ask_for_lately() -> None:
    gate = admission()
    assert gate.place(NOW, direct(1))[2] == 1.0
    taken(gate, direct(1), 3)
    assert gate.place(NOW, direct(1))[2] == pytest.approx(1 - 3 / limits.SOURCE_BURST)


def test_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SOURCES_LIMIT", 50)
    gate = admission()
    for number in range(1000):
        route = Route(0, (f"10.0.{number // 250}.{number % 250}", 4000))
        gate.judge(NOW, route, memoryview(MESSAGE + bytes(16)))
        gate.judge(NOW, route, proven(gate, route))
        gate.judge(NOW, Route(0, HOME, number + 1), proven(gate, Route(0, HOME, number + 1)))
        gate.know(route)
        gate.verifies(NOW, route, 300)
    assert len(gate) == 4 * 50


def test_logs_are_verified_by_the_byte_for_each_source() -> None:
    gate = admission()
    assert gate.verifies(NOW, direct(1), LOG_LIMIT)
    assert not gate.verifies(NOW, direct(1, 7), 300)
    assert gate.verifies(NOW + 300 / limits.LOG_RATE, direct(1), 300)
    assert gate.verifies(NOW, direct(2), LOG_LIMIT)
