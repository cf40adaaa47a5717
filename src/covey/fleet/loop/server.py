"""What the controller serves on `controller.listen`: agents' reports, and the state of things for programs.

::

    POST /report    an agent's own report (bearer token)          -> {"drain": true} when it is to finish
    GET  /healthz   200 while turns happen, 503 otherwise
    GET  /status    what `covey fleet status --json` prints of the loop
    GET  /seen      what the next turn would know: agents, readings; `covey fleet plan` asks it
    GET  /routes    where requests go, as Envoy EDS (v3) JSON
    GET  /metrics   for Prometheus

Only loopback addresses are served without being asked for twice: everything but `/report` is read-only and open to
whoever reaches the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Protocol

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from covey.base.errors import CoveyError, ParseError, RefusedError, StorageError, UsageError
from covey.base.failures import error_status, error_view
from covey.base.types import parse_endpoint
from covey.fleet.reporting import Report, ReportAnswer

__all__ = ["FleetServer", "Served", "bind", "fleet_server"]

REPORT_LIMIT: Final = 16 << 10
"""Bytes of one report."""
NAME_LIMIT: Final = 256
"""Characters of an agent's name."""
STOP_SECONDS: Final = 2
"""Running requests get this long when the controller stops."""


class Served(Protocol):
    """What the controller lets be asked."""

    def report(self, report: Report) -> ReportAnswer: ...
    def alive(self) -> bool: ...
    def status(self) -> Any: ...
    def seen(self) -> Any: ...
    def routes(self) -> Any: ...
    def metrics(self) -> bytes: ...


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


def fleet_server(served: Served, token: str) -> FleetServer:
    """The server over a running controller. `token`: what reports must carry."""
    return FleetServer(
        uvicorn.Config(
            _application(served, token),
            http="h11",
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=STOP_SECONDS,
            backlog=1024,
            limit_concurrency=2000,
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


def _application(served: Served, token: str) -> Starlette:
    async def report(request: Request) -> Response:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise RefusedError("a report must carry the fleet's token", next_step="read COVEY_FLEET_TOKEN_FILE")
        return _json(served.report(_report_untrusted(await _body(request))))

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
            return await handle(request)
        except CoveyError as error:
            return _json(error_view(error), error_status(error))
        except ClientDisconnect:
            return Response(status_code=499)

    return guarded


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
    if not 0 < len(report.agent) <= NAME_LIMIT or len(report.pool) > NAME_LIMIT:
        raise ParseError(f"an agent's name has 1 to {NAME_LIMIT} characters")
    return report


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
