"""`api.sock`: uvicorn inside the daemon's own loop, for one user only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from covey.daemon.logs import get_logger
from covey.daemon.peercred import is_own_user

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["DRAIN_SECONDS", "ApiServer", "api_server"]

DRAIN_SECONDS = 5
"""Running requests get this long to finish when the daemon stops. Ours; container runtimes kill after 10."""

_log = get_logger("covey.daemon.server")


class OwnUserHttp(H11Protocol):
    """HTTP/1.1 that closes a connection from another user before it reads a byte."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # first, because uvicorn's methods expect an announced transport; nothing is read before we return
        super().connection_made(transport)
        if not is_own_user(transport):
            _log.warning("connection from another user refused", socket="api")
            transport.abort()


class ApiServer(uvicorn.Server):
    """A uvicorn server whose lifetime the daemon decides: no signal handlers, no ticking while idle.

    `begin_stop` may be called from anywhere in the loop; `serve` then stops accepting, lets running requests
    finish for `DRAIN_SECONDS` and returns.
    """

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
        # uvicorn's own loop wakes ten times a second, for a Date header that nobody reads on this socket
        self.serving.set()
        await self._stopping.wait()


def api_server(app: Starlette) -> ApiServer:
    return ApiServer(
        uvicorn.Config(
            app,
            http=OwnUserHttp,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            backlog=128,
        )
    )


async def serve(server: ApiServer, listener: socket.socket) -> None:
    await server.serve(sockets=[listener])
