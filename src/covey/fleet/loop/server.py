"""What the controller serves on `controller.listen`: agents' reports, and the state of things for programs.

::

    POST /report    an agent's own report (bearer token)          -> {"drain": true} when it is to finish
    GET  /healthz   200 while turns happen, 503 otherwise
    GET  /status    what `covey fleet status --json` prints of the loop
    GET  /seen      what the next turn would know: agents, readings; `covey fleet plan` asks it
    GET  /routes    where requests go, as Envoy EDS (v3) JSON
    GET  /metrics   for Prometheus

Everything but `/report` is read-only and open to whoever reaches the port: `controller.listen` is a loopback address
unless the user says otherwise. None of it holds secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Protocol

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from covey.base.errors import CoveyError, ParseError, RefusedError, StorageError, UsageError
from covey.base.failures import error_status, error_view
from covey.base.types import parse_endpoint
from covey.fleet.loop.tokens import Speaker, Tokens
from covey.fleet.reporting import Report, ReportAnswer

__all__ = ["FleetServer", "Served", "bind", "fleet_server"]

REPORT_LIMIT: Final = 16 << 10
"""Bytes of one report."""
REQUEST_SECONDS: Final = 10.0
"""From a connection's first moment, or from the answer before, to the end of its next request."""
CONNECTIONS: Final = 512
"""At once. Each is a descriptor, and the controller needs some for its store and its calls."""
NAME_LIMIT: Final = 256
"""Characters of an agent's name."""
STOP_SECONDS: Final = 2
"""Running requests get this long when the controller stops."""


class Served(Protocol):
    """What the controller lets be asked."""

    def report(self, report: Report, speaker: Speaker) -> ReportAnswer: ...
    def alive(self) -> bool: ...
    def status(self) -> Any: ...
    def seen(self) -> Any: ...
    def routes(self) -> Any: ...
    def metrics(self) -> bytes: ...


class PatientHttp(H11Protocol):
    """HTTP/1.1 for those who come to the point: who says nothing or drips is cut off, and so is one too many."""

    _waits: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        else:
            self._waits = self.loop.call_later(REQUEST_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waits is not None:
            self._waits.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        if self._waits is not None:
            self._waits.cancel()
        self._waits = self.loop.call_later(REQUEST_SECONDS, self._give_up)
        super().on_response_complete()

    def _give_up(self) -> None:
        self.transport.abort()


class FleetServer(uvicorn.Server):
    """A uvicorn server whose lifetime the controller decides: no signal handlers, no ticking while idle."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()
        self.serving = asyncio.Event()

    def begin_stop(self) -> None:
        self.should_exit = True
        self._stopping.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        self.serving.set()
        await self._stopping.wait()


def fleet_server(served: Served, tokens: Tokens) -> FleetServer:
    """The server over a running controller. `tokens`: one of these is what reports must carry."""
    return FleetServer(
        uvicorn.Config(
            _application(served, tokens),
            http=PatientHttp,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(REQUEST_SECONDS),
            timeout_graceful_shutdown=STOP_SECONDS,
            backlog=1024,
        )
    )


def bind(listen: str) -> socket.socket:
    """A listening socket at `HOST:PORT`. Raises `UsageError` or `StorageError`."""
    try:
        host, port = parse_endpoint(listen)
    except ParseError as error:
        raise UsageError(
            f"controller.listen is {listen!r}: {error.message}", next_step='listen = "127.0.0.1:0"'
        ) from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StorageError(
            f"nothing can listen on {listen}: {error.strerror}",
            code="listen-failed",
            next_step='choose another address: controller.listen = "127.0.0.1:0"',
        ) from error
    listener.setblocking(False)
    return listener


def _application(served: Served, tokens: Tokens) -> Starlette:
    async def report(request: Request) -> Response:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        speaker = tokens.speaker(token)
        if kind != "Bearer" or speaker is None:
            raise RefusedError("a report must carry its workload's token", next_step="read COVEY_FLEET_TOKEN_FILE")
        return _json(served.report(_report_untrusted(await _body(request)), speaker))

    async def healthz(request: Request) -> Response:
        alive = served.alive()
        return Response("ok\n" if alive else "no turn lately\n", 200 if alive else 503, media_type="text/plain")

    async def status(request: Request) -> Response:
        return _json(served.status())

    async def seen(request: Request) -> Response:
        return _json(served.seen())

    async def routes(request: Request) -> Response:
        return _json(served.routes())

    async def metrics(request: Request) -> Response:
        return Response(served.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Starlette(
        routes=[
            Route("/report", _guarded(report), methods=["POST"]),
            Route("/healthz", _guarded(healthz), methods=["GET"]),
            Route("/status", _guarded(status), methods=["GET"]),
            Route("/seen", _guarded(seen), methods=["GET"]),
            Route("/routes", _guarded(routes), methods=["GET"]),
            Route("/metrics", _guarded(metrics), methods=["GET"]),
        ]
    )


def _guarded(handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        try:
            _refuse_strange_host(request)
            return await handle(request)
        except CoveyError as error:
            return _json(error_view(error), error_status(error))
        except ClientDisconnect:
            return Response(status_code=499)

    return guarded


def _refuse_strange_host(request: Request) -> None:
    """A web page that names a host of its own, which its DNS then says is this machine, must not read the fleet: who
    asks a loopback address calls it by an address or `localhost`."""
    server, host = request.scope.get("server"), request.url.hostname or ""
    if server is None or not _is_loopback(str(server[0])) or host == "localhost":
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise RefusedError(f"{host!r} is no name of this listener", next_step="ask 127.0.0.1 or localhost") from None


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > REPORT_LIMIT:
            raise ParseError(f"a report is at most {REPORT_LIMIT} bytes")
    return body


def _report_untrusted(body: bytes) -> Report:
    """Raises `ParseError` alone."""
    try:
        report = msgspec.json.decode(body, type=Report)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ParseError(f"not a report: {error}") from error
    if not 0 < len(report.agent) <= NAME_LIMIT:
        raise ParseError(f"an agent's name has 1 to {NAME_LIMIT} characters")
    return report


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
