"""The HTTP proxy that the environment names for a connection, and the CONNECT that passes through it (RFC 9110, 9.3.6).

HTTPS_PROXY, else ALL_PROXY, in capitals or small letters; NO_PROXY names what is reached without one: hosts, domains
with all below them, addresses and networks, each with a port if only that is meant, or `*`. As curl and most others
have it, small letters win.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from covey.base.errors import ParseError, UnreachableError, UsageError
from covey.base.types import Endpoint, endpoint_text

__all__ = ["RESPONSE_LIMIT", "Proxy", "connect_request", "parse_connect_response", "parse_proxy", "proxy_for"]

RESPONSE_LIMIT: Final = 16 * 1024
"""Bytes of a proxy's answer to CONNECT."""
_PORTS: Final = {"http": 80, "https": 443}
_VARIABLES: Final = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_OK: Final = range(200, 300)
_NEEDS_CREDENTIALS: Final = 407


class Proxy(NamedTuple):
    """An HTTP proxy; `tls` if it is spoken to by HTTPS."""

    host: str
    port: int
    tls: bool = False
    credentials: str = ""
    """`user:password`, "" for none. Never shown."""

    def __str__(self) -> str:
        return f"http{'s' if self.tls else ''}://{endpoint_text((self.host, self.port))}"

    def __repr__(self) -> str:
        return str(self)


def proxy_for(remote: Endpoint, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for a TLS connection to `remote`; None for none. UsageError (`bad-proxy`) for one we cannot use."""
    bypass = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if any(_matches(entry, remote) for entry in bypass.replace(",", " ").split()):
        return None
    for variable in _VARIABLES:
        text = environment.get(variable, "").strip()
        if text:
            return parse_proxy(text, variable)
    return None


def parse_proxy(text: str, variable: str) -> Proxy:
    """`[http[s]://][user:password@]host[:port][/]`. What is wrong is said without the text: there may be a password in
    it."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        raise _bad(variable, "is not the URL of a proxy") from None
    if parts.scheme not in _PORTS:
        raise _bad(variable, f"names a proxy of kind {parts.scheme!r}; Covey speaks to HTTP proxies")
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment or ":" in user:
        raise _bad(variable, "is not the URL of a proxy")
    credentials = f"{user}:{password}" if user or password else ""
    return Proxy(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "https", credentials)


def connect_request(proxy: Proxy, remote: Endpoint) -> bytes:
    """What is said to the proxy."""
    target = endpoint_text(remote)
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", "User-Agent: covey"]
    if proxy.credentials:
        lines.append("Proxy-Authorization: Basic " + base64.b64encode(proxy.credentials.encode()).decode())
    return "\r\n".join([*lines, "", ""]).encode()


def parse_connect_response(data: bytes | bytearray) -> int | None:
    """The status of a proxy's answer; None while its head is not complete. ParseError for anything else.

    Behind it the proxy says nothing until we do: who speaks first is no TLS server.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > RESPONSE_LIMIT:
            raise ParseError("the proxy's answer is too long")
        if not b"HTTP/1.".startswith(data[:7]):
            raise ParseError("the proxy does not answer with HTTP")
        return None
    words = bytes(data[: data.find(b"\r\n")]).split(b" ", 2)
    if len(words) < 2 or words[0] not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise ParseError("the proxy does not answer with HTTP")
    if len(words[1]) != 3 or not words[1].isdigit():
        raise ParseError("the proxy's answer has no status")
    status = int(words[1])
    if status in _OK and len(data) > end + 4:
        raise ParseError("the proxy says something of its own")
    return status


def refusal(proxy: Proxy, status: int) -> UnreachableError | None:
    """Why a tunnel was not opened, None if it was."""
    if status in _OK:
        return None
    if status == _NEEDS_CREDENTIALS:
        return UnreachableError(
            f"the proxy {proxy} {'refuses our' if proxy.credentials else 'wants'} credentials",
            code="proxy-credentials",
            next_step="put them into HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT",
        )
    return UnreachableError(
        f"the proxy {proxy} refuses with HTTP status {status}",
        code="proxy-refused",
        next_step="allow CONNECT to the rendezvous in the proxy, or name it in NO_PROXY",
    )


def _matches(entry: str, remote: Endpoint) -> bool:
    """Whether an entry of NO_PROXY means `remote`."""
    host, port = remote[0].lower().rstrip("."), remote[1]
    entry = entry.lower()
    if entry == "*":
        return True
    name, _, number = entry.rpartition(":")
    if number.isdigit() and (":" not in name or name.endswith("]")):
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        bare = entry.removeprefix("*").strip(".")
        return bool(bare) and (host == bare or host.endswith("." + bare))
    try:
        network = ip_network(entry, strict=False)
    except ValueError:
        return False
    return address.version == network.version and address in network


def _bad(variable: str, what: str) -> UsageError:
    return UsageError(f"{variable} {what}", code="bad-proxy", next_step=f"{variable}=http://HOST:PORT")
