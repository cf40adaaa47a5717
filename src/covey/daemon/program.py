"""The daemon's life: start the node, open the two sockets, say so, wait for the end, drain.

Order matters. The node starts first, because it takes the profile's lock and only its holder may replace
socket files. At the end the sockets stop accepting, running requests get `server.DRAIN_SECONDS`, attached
streams are dropped, the node closes, the socket files go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from covey.base.errors import CoveyError, StateError
from covey.base.exit_codes import exit_code
from covey.base.paths import Home
from covey.base.schema import StreamView
from covey.daemon import logs, sockets
from covey.daemon.http import application
from covey.daemon.logs import get_logger
from covey.daemon.options import Options, Settings, parse_options, read_config, settings
from covey.daemon.ready import Starter
from covey.daemon.server import ApiServer, api_server, serve
from covey.daemon.streams import StreamOffers, StreamServer
from covey.node import Node, Stream
from covey.node.storage.paths import prepare

__all__ = ["Daemon", "MakeNode", "main", "run"]

CLOSE_SECONDS = 8.0
"""The node has this long to close. Ours; with `server.DRAIN_SECONDS` less than `covey daemon stop` waits."""

T = TypeVar("T")
MakeNode = Callable[[Home, Settings], Node]

_log = get_logger("covey.daemon")


def main(arguments: list[str]) -> int:
    """The process' exit code: 0 after a clean stop, else that of the error (`base.exit_codes`)."""
    logs.configure(None)
    starter = Starter(None, foreground=True)
    try:
        options = parse_options(arguments)
        os.umask(0o077)
        if not options.foreground:
            os.chdir("/")  # a daemon keeps no directory busy
        starter = Starter(options.status_fd, foreground=options.foreground, json=options.json)
        return asyncio.run(run(options, os.environ, starter))
    except KeyboardInterrupt:
        return 130
    except CoveyError as error:
        _log.error("the daemon ends", code=error.code, reason=error.message)
        starter.failed(error)
        return exit_code(error)
    except Exception as error:
        _log.exception("the daemon failed")
        starter.failed(error)
    return 1


async def run(options: Options, environment: Any, starter: Starter, make_node: MakeNode | None = None) -> int:
    """Start, serve until a signal or `POST /v1/stop`, and drain. Raises what prevented the start."""
    home = Home.locate(options.profile, environment, uid=os.getuid())
    chosen = settings(options, read_config(home.config_file), environment, os.fspath(home.config_file))
    prepare(home)
    logs.configure(None if options.foreground else home.log_file, chosen.log_level)
    node = (make_node or _real_node)(home, chosen)
    daemon = Daemon(home, node, chosen)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    await daemon.serve(starter)
    return 0


def _real_node(home: Home, chosen: Settings) -> Node:
    return Node(
        chosen.hostname,
        network=chosen.network,
        listen=chosen.listen,
        home=home,
        trust_clock=chosen.trust_clock,
        retention=chosen.retention,
        congestion=chosen.congestion,
        relaying=chosen.relaying,
        port_mapping=chosen.port_mapping,
        birthday=chosen.birthday,
        declared=chosen.declared,
        path_rules=chosen.path_rules,
    )


class Daemon:
    """One node and its two sockets. `serve` may be called once; `stop` at any time, from the loop's
    thread."""

    def __init__(self, home: Home, node: Node, chosen: Settings) -> None:
        self.node = node
        self.chosen = chosen
        self._home = home
        self._stopping = asyncio.Event()
        self._offers = StreamOffers(os.fspath(home.stream_socket))
        self._streams = StreamServer(self._offers)
        self._api: ApiServer = api_server(application(self))

    def stop(self) -> None:
        """Begin to drain."""
        self._stopping.set()
        self._streams.stop_accepting()
        self._api.begin_stop()

    def offer_stream(self, stream: Stream) -> StreamView:
        return self._offers.offer(stream)

    async def until_stopped(self, source: AsyncIterator[T]) -> AsyncIterator[T]:
        """What `source` gives until the daemon stops."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        item: asyncio.Future[T | None] | None = None
        try:
            while True:
                item = asyncio.ensure_future(_next(source))
                await asyncio.wait((item, stopping), return_when=asyncio.FIRST_COMPLETED)
                value = item.result() if item.done() else None
                if value is None:
                    return
                yield value
        finally:
            stopping.cancel()
            if item is not None:
                item.cancel()

    async def serve(self, starter: Starter) -> None:
        """Run until `stop`. `starter` hears of it when both sockets accept; an error before that is
        raised."""
        await self._start_node()
        try:
            await self._serve_sockets(starter)
        finally:
            await self._close_node()
            _log.info("daemon stopped")

    async def _start_node(self) -> None:
        """Start the node, unless we are told to stop meanwhile.

        A node that did not start, or was cancelled while it did, has cleaned up by itself.
        """
        starting = asyncio.ensure_future(self.node.start())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            raise StateError("the daemon was stopped while it started", code="stopped")
        starting.result()

    async def _close_node(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.node.close()
        except TimeoutError:
            # what was promised is on the disk: an end without a goodbye to the peers loses nothing
            _log.error("the node did not close in time", seconds=CLOSE_SECONDS)

    async def _serve_sockets(self, starter: Starter) -> None:
        paths = (self._home.api_socket, self._home.stream_socket)
        try:
            with contextlib.ExitStack() as unused:
                api, stream = (unused.enter_context(sockets.listen(path)) for path in paths)
                await self._streams.start(stream)
                serving = asyncio.ensure_future(serve(self._api, api))
                unused.pop_all()  # both servers close their own
            await _first(serving, self._api.serving.wait())
            view = self.node.view()
            _log.info("daemon started", name=view.name, address=view.address, pid=os.getpid())
            starter.ready(view)
            await serving
            await self._streams.close()
        finally:
            for path in paths:
                sockets.remove(path)


async def _first(task: asyncio.Task[None] | asyncio.Future[None], other: Awaitable[Any]) -> None:
    """Wait until `other` is done; if `task` ends first, raise its error."""
    waiting = asyncio.ensure_future(other)
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        await task


async def _next(source: AsyncIterator[T]) -> T | None:
    return await anext(source, None)
