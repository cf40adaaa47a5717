"""Opens a WebSocket to a rendezvous: TCP, through a proxy if the environment has one, TLS, opening handshake."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_address
from typing import Any, Final

from websockets.client import ClientProtocol
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from covey.base.errors import ParseError, UnreachableError
from covey.base.types import Endpoint, endpoint_text
from covey.net.proxy import Proxy, connect_request, parse_connect_response, proxy_for, refusal
from covey.net.tls import Tls
from covey.net.websocket import QUIET, WebSocketPort
from covey.wire.websocket import MESSAGE_LIMIT, PATH, SUBPROTOCOL

__all__ = ["OPEN_SECONDS", "open_websocket"]

OPEN_SECONDS: Final = 10.0
"""For everything until the WebSocket is open."""
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_STAGGER: Final = 0.25
"""Seconds until the next address of a name is tried, too (RFC 8305)."""


async def open_websocket(remote: Endpoint, environment: Mapping[str, str]) -> WebSocketPort:
    """A port that is open. `remote` is host name or IP literal, and port: the certificate must be for that host.

    It is verified against the system's certificates, or those of SSL_CERT_FILE and SSL_CERT_DIR. Raises UsageError
    (`bad-proxy`) and UnreachableError: `host-not-found`, `websocket-unreachable`, `proxy-unreachable`,
    `proxy-refused`, `proxy-credentials`, `certificate-refused`, `websocket-refused`.
    """
    remote = _checked(remote)
    proxy = proxy_for(remote, environment)
    where = endpoint_text(remote) + (f" through the proxy {proxy}" if proxy else "")
    port: WebSocketPort | None = None
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            with _explained(where):
                port = await _connect(remote, proxy)
            problem = await port.opened
        if problem:
            raise UnreachableError(f"{where}: {problem}", code="websocket-refused")
    except TimeoutError:
        _give_up(port)
        raise UnreachableError(f"{where} does not answer", code="websocket-unreachable") from None
    except BaseException:
        _give_up(port)
        raise
    return port


def _checked(remote: Endpoint) -> Endpoint:
    """With a host that means nothing else in a request (a ticket may have been made by anybody), and in ASCII."""
    host, number = remote
    try:
        if _HOST.fullmatch(host) is None and not _is_address(host):
            host = host.encode("idna").decode()
            if _HOST.fullmatch(host) is None:
                raise ValueError(host)
    except (UnicodeError, ValueError):
        raise UnreachableError(f"{remote[0]!r} is not the name of a host", code="host-not-found") from None
    return host, number


def _is_address(host: str) -> bool:
    address, scope, zone = host.partition("%")
    try:
        ip_address(address)
    except ValueError:
        return False
    # What ip_address takes for a zone is anything at all.
    return not scope or _HOST.fullmatch(zone) is not None


async def _connect(remote: Endpoint, proxy: Proxy | None) -> WebSocketPort:
    """TLS to `remote`, and the opening handshake under way on it."""
    loop = asyncio.get_running_loop()
    host, number = remote

    port = WebSocketPort(_protocol(remote))
    port.remote = remote
    port.lower = tls = Tls(port, _context(), host=host)
    if proxy is None:
        await loop.create_connection(lambda: tls, host, number, happy_eyeballs_delay=_STAGGER)
        await _stands(tls)
        return port
    async with _tunnel(proxy, remote) as transport:
        transport.set_protocol(tls)
        tls.connection_made(transport)
        await _stands(tls)
    return port


async def _stands(tls: Tls) -> None:
    try:
        await tls.established
    except BaseException:
        tls.abort()
        raise


@contextlib.asynccontextmanager
async def _tunnel(proxy: Proxy, remote: Endpoint) -> AsyncIterator[asyncio.Transport]:
    """A connection to `remote` through the proxy; closed if what is done with it fails."""
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {"ssl": _context()} if proxy.tls else {}
    try:
        transport, protocol = await loop.create_connection(_Connect, proxy.host, proxy.port, **options)
    except ssl.SSLCertVerificationError:
        raise
    except OSError as error:
        raise UnreachableError(
            f"the proxy {proxy} cannot be reached: {error.strerror or error}",
            code="proxy-unreachable",
            next_step="check HTTPS_PROXY and ALL_PROXY",
        ) from error
    try:
        transport.write(connect_request(proxy, remote))
        problem = refusal(proxy, await protocol.status)
        if problem is not None:
            raise problem
        yield transport
    except BaseException:
        transport.abort()
        raise


class _Connect(asyncio.Protocol):
    """Waits for a proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._data = bytearray()

    def data_received(self, data: bytes) -> None:
        if self.status.done():
            return
        self._data += data
        try:
            status = parse_connect_response(self._data)
        except ParseError as error:
            self.status.set_exception(UnreachableError(error.message, code="proxy-refused"))
            return
        if status is not None:
            self.status.set_result(status)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.status.done():
            self.status.set_exception(UnreachableError("the proxy ended the connection", code="proxy-refused"))


@contextlib.contextmanager
def _explained(where: str) -> Any:
    """What the system raises, in our words."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise UnreachableError(
            f"the certificate of {where} is not accepted: {error.verify_message}",
            code="certificate-refused",
            next_step="if it is signed by an authority of your own: SSL_CERT_FILE=AUTHORITY.pem",
        ) from error
    except ssl.SSLError as error:
        raise UnreachableError(f"{where} does not speak TLS ({error.reason})", code="websocket-refused") from error
    except OSError as error:
        if isinstance(error, UnreachableError | TimeoutError):
            raise
        code = "host-not-found" if error.__class__.__name__ == "gaierror" else "websocket-unreachable"
        raise UnreachableError(f"{where} cannot be reached: {error.strerror or error}", code=code) from error


def _protocol(remote: Endpoint) -> ClientProtocol:
    uri = WebSocketURI(secure=True, host=remote[0], port=remote[1], path=PATH, query="")
    return ClientProtocol(uri, subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=MESSAGE_LIMIT, logger=QUIET)


def _context() -> ssl.SSLContext:
    """Made anew for each connection: the files it reads may have changed, and connections are rare."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _give_up(port: WebSocketPort | None) -> None:
    if port is not None:
        port.abort()
