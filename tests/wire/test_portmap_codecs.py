"""PCP, NAT-PMP and SSDP, byte by byte as the RFCs draw them."""

from __future__ import annotations

import pytest

from covey.base.errors import ParseError
from covey.wire import nat_pmp, pcp, ssdp
from covey.wire.nat_pmp import PmpAnswer
from covey.wire.pcp import MapRequest, PcpAnswer

NONCE = bytes(range(12))
ROUTER = "192.168.1.1"


def h(text: str) -> bytes:
    return bytes.fromhex(text)


V4 = "00000000 00000000 0000ffff"


def test_pcp_requests_are_as_drawn_in_the_rfc() -> None:
    assert pcp.announce("192.0.2.7") == h(f"02 00 0000 00000000 {V4} c0000207")
    wanted = MapRequest(NONCE, ("192.0.2.7", 4242), 1200, ("203.0.113.5", 9000))
    assert wanted.encode() == (
        h(f"02 01 0000 000004b0 {V4} c0000207") + NONCE + h(f"11 000000 1092 2328 {V4} cb007105")
    )


@pytest.mark.parametrize(
    ("internal", "lifetime", "port", "address"),
    [
        (("192.0.2.7", 4242), 1200, "1092", f"{V4} 00000000"),
        (("192.0.2.7", 4242), 0, "0000", f"{V4} 00000000"),
        (("2001:db8::7", 4242), 1200, "1092", "00" * 16),
    ],
    ids=["the same port, if it is free", "an end names nothing", "ipv6"],
)
def test_pcp_without_a_wish(internal: tuple[str, int], lifetime: int, port: str, address: str) -> None:
    assert MapRequest(NONCE, internal, lifetime).encode()[24:] == NONCE + h(f"11 000000 1092 {port} {address}")


def test_pcp_answer_to_map() -> None:
    raw = h("02 81 00 00 00000258 00000064") + bytes(12) + NONCE + h(f"11 000000 1092 2328 {V4} cb007105")
    expected = PcpAnswer(1, 0, 600, 100, NONCE, 4242, ("203.0.113.5", 9000))
    assert PcpAnswer.parse(raw) == expected
    option = h("02 00 0004 00000000")
    assert PcpAnswer.parse(raw + option) == expected, "options are not for us"


def test_pcp_failure_may_come_without_a_body() -> None:
    assert PcpAnswer.parse(h("02 81 00 02 00000708 00000064") + bytes(12)) == PcpAnswer(1, 2, 1800, 100)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        h("02 81 00 00"),
        h("02 01 0000 00000258 00000064") + bytes(12),
        h("00 81 00 01 00000258 00000064") + bytes(12),
        h("02 81 00 00 00000258 00000064") + bytes(12),
        h("02 81 00 00 00000258 00000064") + bytes(12) + NONCE + h(f"06 000000 1092 2328 {V4} cb007105"),
        h("02 80 00 00 00000000 00000064") + bytes(1200),
    ],
    ids=["empty", "short", "a request", "nat-pmp", "success without a body", "tcp", "long"],
)
def test_what_is_no_pcp_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(ParseError):
        PcpAnswer.parse(raw)


def test_nat_pmp_is_as_drawn_in_the_rfc() -> None:
    assert nat_pmp.ask_address() == h("00 00")
    assert nat_pmp.ask_mapping(4242, 9000, 1200) == h("00 01 0000 1092 2328 000004b0")
    assert PmpAnswer.parse(h("00 80 0000 00000064 cb007105")) == PmpAnswer(0, 0, 100, "203.0.113.5")
    assert PmpAnswer.parse(h("00 81 0000 00000064 1092 2328 00000258")) == PmpAnswer(1, 0, 100, "", 4242, 9000, 600)
    assert PmpAnswer.parse(h("00 80 0003 00000064 00000000")) == PmpAnswer(0, 3, 100)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        h("00 80 0000"),
        h("00 00"),
        h("02 80 0000 00000064 cb007105"),
        h("00 80 0000 00000064 cb007105 00"),
        h("00 82 0000 00000064 1092 2328 00000258"),
    ],
    ids=["empty", "short", "a request", "pcp", "too long", "tcp"],
)
def test_what_is_no_nat_pmp_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(ParseError):
        PmpAnswer.parse(raw)


def answer(location: str, kind: str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1") -> bytes:
    return f"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: {kind}\r\nLocation: {location}\r\n\r\n".encode()


def test_ssdp_finds_the_description() -> None:
    assert ssdp.search().startswith(b"M-SEARCH * HTTP/1.1\r\n")
    assert ssdp.search().endswith(b"InternetGatewayDevice:1\r\n\r\n")
    url = "http://192.168.1.1:5000/root.xml"
    assert ssdp.parse_answer(answer(url), ROUTER) == url


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"NOTIFY * HTTP/1.1\r\n\r\n",
        answer("http://192.168.1.1/x", "upnp:rootdevice"),
        answer(""),
        answer("https://192.168.1.1/x"),
        answer("file:///etc/passwd"),
        answer("http://192.168.1.2/x"),
        answer("http://router.example/x"),
        answer("http://192.168.1.1@192.168.1.2/x"),
        answer("http://192.168.1.1:99999/x"),
        answer("http://192.168.1.1\\@192.168.1.2/x"),
        answer("http://192.168.1.1.evil.example/x"),
        answer("http://192.168.1.1:80#@192.168.1.2/x"),
        answer("http://3232235777/x"),
        answer("http://192.168.1.1/" + "x" * 300),
        answer("http://192.168.1.1/x\x00"),
        answer("http://127.0.0.1:631/"),
        answer("http://192.168.1.1/x") + b" " * 3000,
    ],
)
def test_whoever_answers_a_search_can_name_only_itself(raw: bytes) -> None:
    with pytest.raises(ParseError):
        ssdp.parse_answer(raw, ROUTER)
