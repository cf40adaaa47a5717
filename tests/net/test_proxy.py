from __future__ import annotations

import base64

import pytest

from covey.base.errors import ParseError, UsageError
from covey.net.proxy import RESPONSE_LIMIT, Proxy, connect_request, parse_connect_response, proxy_for, refusal

REMOTE = ("rv.example.com", 443)
PROXY = Proxy("proxy.example.com", 3128)

CHOICES = {
    "nothing": ({}, None),
    "HTTPS_PROXY": ({"HTTPS_PROXY": "http://proxy.example.com:3128"}, PROXY),
    "small letters win": ({"https_proxy": "http://proxy.example.com:3128", "HTTPS_PROXY": "http://no:1"}, PROXY),
    "HTTPS_PROXY before ALL_PROXY": (
        {"HTTPS_PROXY": "http://proxy.example.com:3128", "ALL_PROXY": "http://no:1"},
        PROXY,
    ),
    "ALL_PROXY": ({"all_proxy": "http://proxy.example.com:3128"}, PROXY),
    "HTTP_PROXY is for HTTP": ({"http_proxy": "http://proxy.example.com:3128"}, None),
    "without scheme": ({"HTTPS_PROXY": "proxy.example.com:3128"}, PROXY),
    "a slash": ({"HTTPS_PROXY": "http://proxy.example.com:3128/"}, PROXY),
    "usual ports": ({"HTTPS_PROXY": "https://proxy.example.com"}, Proxy("proxy.example.com", 443, tls=True)),
    "IPv6": ({"HTTPS_PROXY": "http://[2001:db8::1]:3128"}, Proxy("2001:db8::1", 3128)),
    "credentials": (
        {"HTTPS_PROXY": "http://me:p%40ss%3A@proxy.example.com:3128"},
        PROXY._replace(credentials="me:p@ss:"),
    ),
    "empty": ({"HTTPS_PROXY": " ", "ALL_PROXY": "http://proxy.example.com:3128"}, PROXY),
}


@pytest.mark.parametrize(("environment", "expected"), CHOICES.values(), ids=CHOICES.keys())
def test_proxy_of_the_environment(environment: dict[str, str], expected: Proxy | None) -> None:
    assert proxy_for(REMOTE, environment) == expected


BYPASS = {
    "other.example.com": False,
    "rv.example.com": True,
    "RV.Example.com": True,
    "example.com": True,
    ".example.com": True,
    "*.example.com": True,
    "ample.com": False,
    "*": True,
    "a.example.com, rv.example.com": True,
    "rv.example.com:443": True,
    "rv.example.com:8443": False,
    "198.51.100.0/24": False,
    "": False,
}


@pytest.mark.parametrize(("no_proxy", "expected"), BYPASS.items())
def test_names_reached_without_a_proxy(no_proxy: str, expected: bool) -> None:
    environment = {"HTTPS_PROXY": "http://proxy.example.com:3128", "NO_PROXY": no_proxy}
    assert (proxy_for(REMOTE, environment) is None) == expected


ADDRESSES = {
    ("198.51.100.7", "198.51.100.7"): True,
    ("198.51.100.7", "198.51.100.0/24"): True,
    ("198.51.100.7", "198.51.100.7:443"): True,
    ("198.51.100.7", "198.51.100.7:444"): False,
    ("198.51.100.7", "198.51.101.0/24"): False,
    ("198.51.100.7", "2001:db8::/32"): False,
    ("2001:db8::7", "2001:db8::/32"): True,
    ("2001:db8::7", "[2001:db8::7]:443"): True,
    ("2001:db8::7", "2001:db8::7"): True,
    ("2001:db8::7", "2001:db9::/32"): False,
}


@pytest.mark.parametrize(("case", "expected"), ADDRESSES.items())
def test_addresses_reached_without_a_proxy(case: tuple[str, str], expected: bool) -> None:
    host, no_proxy = case
    environment = {"https_proxy": "http://proxy.example.com:3128", "no_proxy": no_proxy}
    assert (proxy_for((host, 443), environment) is None) == expected


@pytest.mark.parametrize(
    "text",
    [
        "socks5h://secret:secret@p:1",
        "http://",
        "http://p:x",
        "http://p:99999",
        "http://p/secret",
        "http://p?secret",
        "ftp://p",
    ],
)
def test_proxy_that_is_none_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as info:
        proxy_for(REMOTE, {"HTTPS_PROXY": text})
    assert info.value.code == "bad-proxy"
    assert "HTTPS_PROXY" in info.value.message
    assert "secret" not in info.value.message + info.value.next_step


def test_request_names_the_target_and_says_the_password() -> None:
    request = connect_request(PROXY._replace(credentials="me:secret"), REMOTE)
    assert request.startswith(b"CONNECT rv.example.com:443 HTTP/1.1\r\nHost: rv.example.com:443\r\n")
    assert b"\r\nProxy-Authorization: Basic " + base64.b64encode(b"me:secret") + b"\r\n\r\n" in request
    assert b"Authorization" not in connect_request(PROXY, REMOTE)
    assert b"CONNECT [2001:db8::1]:443 " in connect_request(PROXY, ("2001:db8::1", 443))
    assert "secret" not in f"{PROXY._replace(credentials='me:secret')!r}"


RESPONSES = {
    b"": None,
    b"HTTP/1.1 200 OK\r\n": None,
    b"HTTP/1.1 200 OK\r\n\r\n": 200,
    b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n": 200,
    b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno": 407,
    b"HTTP/1.1 503\r\n\r\n": 503,
}


@pytest.mark.parametrize(("data", "status"), RESPONSES.items())
def test_proxys_answer(data: bytes, status: int | None) -> None:
    assert parse_connect_response(data) == status


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nA: " + bytes(RESPONSE_LIMIT),
    ],
)
def test_malformed_answer_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_connect_response(data)


def test_refusals_say_what_to_do() -> None:
    assert refusal(PROXY, 200) is None
    codes = {status: refusal(PROXY, status) for status in (403, 407)}
    assert {status: error.code for status, error in codes.items() if error} == {
        403: "proxy-refused",
        407: "proxy-credentials",
    }
    assert all(error and error.next_step for error in codes.values())
