"""One endpoint on asyncio: awaitable streams, services, and connections that somebody waits for.

Everything here runs in the loop's thread. The core does the protocol; this file turns its events into wake-ups. Used
by a node and by a rendezvous alike.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from typing import Any, Final

from covey.base.errors import CoveyError, LimitError, RefusedError, StateError, StorageError, UnreachableError
from covey.base.types import CongestionControl, Identity, identity_text
from covey.base.types import Endpoint as Address
from covey.core import events
from covey.core.connection import Connection
from covey.core.endpoint import Endpoint
from covey.core.handshake import Target
from covey.core.limits import LIFETIMES, Lifetimes
from covey.core.path import Route
from covey.core.session import CloseCode
from covey.core.stream import Stream as CoreStream
from covey.core.stream import StreamCode
from covey.core.traffic import Traffic
from covey.crypto.credentials import Credentials
from covey.net.host import Host, UdpPort
from covey.net.turn import Driver
from covey.net.waiter import Waiter
from covey.node.websockets import WebSockets

__all__ = ["POST_QUANTUM_SERVICES", "Handler", "Stream", "Transport"]

_log = logging.getLogger(__name__)

POST_QUANTUM_SERVICES: Final = frozenset(("message", "file", "request", "trust"))
"""Services that wait for epoch 1 (PROTOCOL 20)."""

_WRITE_PIECE: Final = 256 * 1024
"""Bytes handed to the core at a time by one `write`."""

_SMALL: Final = 1200
"""Bytes. What arrives in so small pieces, or is written, is a question or an answer that somebody waits for."""

_DATAGRAMS_WAITING: Final = 1024
"""Datagrams of a stream that nobody has received yet."""

_LAST_TURNS: Final = 1000
"""Turns that saying goodbye to every peer may take; a turn sends up to 64 trains."""
_FULL_SECONDS: Final = 0.05
"""How long a full socket is waited for when the last words leave."""

_STREAMS_UNSEEN: Final = 64
"""Streams that may be there before the closed among them are looked for."""

_REASONS: Final = {
    StreamCode.CANCELLED: ("cancelled", "the peer gave the stream up"),
    StreamCode.REFUSED: ("refused", "the peer does not offer this service to us"),
    StreamCode.PROTOCOL: ("protocol", "the peer and we do not understand each other"),
    StreamCode.LOST_STATE: ("lost-state", "the connection was lost and could not be resumed"),
    StreamCode.NEEDS_PQ: ("needs-pq", "the service waits for post-quantum keys"),
    StreamCode.INTERNAL: ("peer-failed", "the peer's service failed"),
    StreamCode.LIMIT: ("limit", "a limit of the peer was reached"),
    StreamCode.NOT_VERIFIED: ("not-verified", "the certificate that one side proved itself by is over"),
}


class Stream:
    """An ordered, reliable byte stream to a peer's service.

    Any number of tasks may use it, but only one may `read` and one `write` at a time. After an error the stream is
    over; `reset` it (or use it as a context manager) to tell the peer.
    """

    def __init__(self, transport: Transport, core: CoreStream) -> None:
        self._transport = transport
        self._core = core
        self._reader: Waiter | None = None
        self._writer: Waiter | None = None
        self._datagrams: deque[bytes] = deque(maxlen=_DATAGRAMS_WAITING)
        self._datagram_reader: Waiter | None = None

    @property
    def peer(self) -> Identity:
        return self._core.connection.peer

    @property
    def service(self) -> str:
        return self._core.service

    @property
    def traffic(self) -> Traffic:
        """How urgent what we write is (`core/traffic.py`). Both sides set their own, a handler for its answers."""
        return self._core.traffic

    @traffic.setter
    def traffic(self, traffic: Traffic | str) -> None:
        self._core.traffic = Traffic(traffic)

    @property
    def unsent(self) -> int:
        """Bytes written that the peer has not acknowledged yet."""
        return self._core.outgoing.held

    async def read(self, limit: int = -1) -> bytes:
        """At least one and at most `limit` bytes (what is at hand if negative); b"" once the peer finished.

        Raises CoveyError after a reset or a loss of the connection.
        """
        core = self._core
        while True:
            data = core.read_piece() if limit < 0 else core.read(limit)
            if data:
                self._transport.settle()
                return data
            if core.at_end:
                return b""
            self._check()
            reader = self._reader
            if reader is None:
                reader = self._reader = self._transport.waiter()
            self._transport.driver.flush()
            await reader

    async def read_exactly(self, size: int) -> bytes:
        """`size` bytes. UnreachableError (`stream-ended`) if the peer finishes before."""
        at_hand = self._core.take(size)
        if at_hand is not None:
            return at_hand
        parts: list[bytes] = []
        missing = size
        while missing:
            data = await self.read(missing)
            if len(data) == size:
                return data
            if not data:
                raise UnreachableError("the stream ended early", code="stream-ended")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hands over all of `data`, waiting while too much is on its way: that is the back-pressure.

        `bytes` are not copied. Returning does not mean that anything arrived.
        """
        core = self._core
        if type(data) is bytes and core.append(data):
            return  # what makes the rest of it leave takes this along
        size = len(data)
        view = memoryview(data) if size > _WRITE_PIECE else data
        start = 0
        while start < size:
            self._check()
            if core.writable == 0:
                if self._writer is None:
                    self._writer = self._transport.waiter()
                await self._writer
                continue
            core.write(view[start : start + _WRITE_PIECE] if size > _WRITE_PIECE else data)
            start += _WRITE_PIECE
            self._transport.driver.wake()

    def write_now(self, data: bytes) -> bool:
        """`write`, and out with it, for code that is no task and does not wait.

        False: there is no room for all of it, or the stream is over. Then nothing was taken, and `write` tells which.
        """
        core = self._core
        if core.finished or core.failed is not None or core.reset_code is not None or core.closed:
            return False
        if core.writable < len(data):
            return False
        core.write(data)
        self._transport.driver.wake()
        self._transport.driver.flush()
        return True

    def send_datagram(self, data: bytes) -> None:
        """Sends at most 1136 bytes once, unordered, perhaps never: for what is worth nothing when it is late.

        They wait for no window, only for room on the path: of more than 256 that wait, the oldest are dropped. What
        overtakes the stream's first bytes, or is on its way when it ends, is lost: let the peer say something first.
        LimitError (`datagram-too-large`) over one packet, StateError (`stream-closed`) and the errors of `write` once
        the stream is over.
        """
        self._check()
        self._core.connection.send_datagram(self._core, data)
        self._transport.wake()

    async def receive_datagrams(self) -> list[bytes]:
        """The datagrams that arrived since the last call, at least one; [] once the peer finished the stream.

        Of more than 1,024 that wait, the oldest are dropped. Raises as `read`. One task at a time.
        """
        while not self._datagrams:
            if self._core.arrived:
                return []
            self._check()
            if self._datagram_reader is None:
                self._datagram_reader = self._transport.waiter()
            self._transport.driver.flush()
            await self._datagram_reader
        datagrams = list(self._datagrams)
        self._datagrams.clear()
        return datagrams

    def take_datagrams(self, datagrams: list[bytes]) -> None:
        """Arrived just now."""
        self._datagrams.extend(datagrams)
        self._resume(self._datagram_reader)

    async def finish(self) -> None:
        """Nothing more will be written; what was is still delivered. Idempotent."""
        self._core.finish()
        self._transport.wake()

    async def reset(self, code: int = StreamCode.CANCELLED) -> None:
        """Gives the stream up in both directions. Idempotent."""
        self.abort(code)

    def abort(self, code: int = StreamCode.CANCELLED) -> None:
        """`reset`, for code that cannot wait."""
        self._core.reset(code)
        self.woken()
        self._transport.wake()

    def ignore(self) -> None:
        """Nothing more will be read; what still comes is dropped, and the peer is told nothing. Idempotent."""
        self._core.ignore()
        self._transport.settle()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            await self.finish()
        else:
            self.abort()

    def woken(self) -> None:
        """Something changed: whoever waits looks again."""
        self._resume(self._reader)
        self._resume(self._writer)
        self._resume(self._datagram_reader)

    def _resume(self, waiter: Waiter | None) -> None:
        if waiter is not None and waiter.pending:
            waiter.pending = False
            self._transport.driver.resume(waiter)

    def _check(self) -> None:
        core = self._core
        if core.failed is not None:
            code, text = _REASONS.get(core.failed, ("reset", "the peer reset the stream"))  # type: ignore[call-overload]
            kind = RefusedError if core.failed in (StreamCode.REFUSED, StreamCode.NEEDS_PQ) else UnreachableError
            raise kind(text, code=code)
        if core.reset_code is not None or core.closed:
            raise StateError("the stream is closed", code="stream-closed")


Handler = Callable[[Stream], Coroutine[Any, Any, None]]


class Transport:
    """Owns the endpoint, its driver and ports, and the tasks that serve offered streams.

    `allow(connection, service)` decides about every offered stream before its first byte is read. `on_event` gets
    the core's events that are not about streams.
    """

    def __init__(
        self,
        host: Host,
        credentials: Credentials,
        *,
        allow: Callable[[Connection, str], bool],
        on_event: Callable[[events.Event], None],
        wall: Callable[[], int] | None = None,
        congestion: CongestionControl = "cubic",
        lifetimes: Lifetimes = LIFETIMES,
    ) -> None:
        self.host = host
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self.endpoint = Endpoint(
            credentials,
            wall=wall or host.wall_us,
            random=host.random,
            clock=host.now,
            congestion=congestion,
            lifetimes=lifetimes,
        )
        self.driver: Driver[events.Event] = Driver(host, self.endpoint, self._on_event)
        self.ports: list[tuple[int, UdpPort]] = []
        self.websockets = WebSockets(host, self.endpoint, self.driver)
        self._allow = allow
        self._pass_on = on_event
        self._handlers: dict[str, Handler] = {}
        self._streams: dict[CoreStream, Stream] = {}
        self._look_at = _STREAMS_UNSEEN
        self._tasks: set[asyncio.Task[None]] = set()
        self._full: dict[Connection, list[asyncio.Future[None]]] = {}
        """Who waits until a peer allows more streams."""
        self._waiting: dict[Identity, list[asyncio.Future[Connection]]] = {}
        self._pings: dict[int, asyncio.Future[float]] = {}
        self._closed = False

    # --- ports ---------------------------------------------------------------------------------------------------

    def bind(self, address: Address) -> UdpPort:
        """Opens one more local port. Raises as `Host.udp`."""
        port = self.host.udp(address)
        self.ports.append((self.driver.add_port(port), port))
        self.endpoint.set_ports([(index, 6 if ":" in each.local[0] else 4) for index, each in self.ports])
        return port

    def _lend_ports(self, connection: Connection, family: int, count: int) -> None:
        """Opens ports for this connection alone, beside our own one of that family."""
        beside = next((port for _, port in self.ports if (":" in port.local[0]) == (family == 6)), None)
        opened: list[int] = []
        spare = self.host.spare_ports()
        try:
            while beside is not None and len(opened) < min(count, spare):
                opened.append(self.driver.add_port(self.host.udp((beside.local[0], 0)), fresh=True))
        except CoveyError as error:
            _log.info("no more ports for a birthday run after %d: %s", len(opened), error.message)
        self.endpoint.lend_ports(self.host.now(), connection, opened)
        self.wake()

    def port_for(self, remote: Address) -> int | None:
        """The index of a port of the remote's address family."""
        for index, port in self.ports:
            if (":" in port.local[0]) == (":" in remote[0]):
                return index
        return None

    def route(self, remote: Address, circuit: int = 0) -> Route | None:
        index = self.port_for(remote)
        return None if index is None else Route(index, remote, circuit)

    # --- services and streams ------------------------------------------------------------------------------------

    def serve(self, service: str, handler: Handler) -> None:
        """`handler(stream)` runs as a task for every stream a permitted peer opens for `service`.

        When it returns, the stream is finished, and what it did not read is dropped; when it raises, it is reset.
        """
        self._handlers[service] = handler

    async def open(
        self, connection: Connection, service: str, *, min_epoch: int = 1, traffic: Traffic = Traffic.DEFAULT
    ) -> Stream:
        """Opens a stream; waits if the peer allows no more of them now."""
        while True:
            try:
                core = connection.open(service, min_epoch=min_epoch, traffic=traffic)
            except LimitError:
                # The peer's limit rises as streams end.
                waiting = self._full.setdefault(connection, [])
                waiter: asyncio.Future[None] = self._loop.create_future()
                waiting.append(waiter)
                try:
                    await waiter
                finally:
                    if waiter in waiting:
                        waiting.remove(waiter)
                continue
            stream = self._streams[core] = Stream(self, core)
            self.wake()
            return stream

    # --- connections ---------------------------------------------------------------------------------------------

    def connect(self, target: Target, routes: Sequence[Route]) -> Connection:
        connection = self.endpoint.connect(self.host.now(), target, routes)
        self.wake()
        return connection

    def live(self, identity: Identity) -> Connection | None:
        """The connection with a peer if it has keys and answers, as far as we know."""
        connection = self.endpoint.connections.get(identity)
        if connection is None or connection.session is None or connection.stalled_at is not None:
            return None
        return connection if connection.session.verified else None

    async def wait_live(self, identity: Identity) -> Connection:
        """Waits for `ConnectionLive`. UnreachableError when the attempt under way fails."""
        connection = self.live(identity)
        if connection is not None:
            return connection
        future: asyncio.Future[Connection] = self._loop.create_future()
        self._waiting.setdefault(identity, []).append(future)
        try:
            return await future
        finally:
            waiting = self._waiting.get(identity, [])
            if future in waiting:
                waiting.remove(future)
            if not waiting:
                self._waiting.pop(identity, None)

    async def ping(self, connection: Connection, timeout: float = 5.0) -> float:
        """One round trip on the active path, seconds. UnreachableError when nothing answers for `timeout`."""
        token = int.from_bytes(self.host.random(8), "big")
        future: asyncio.Future[float] = self._loop.create_future()
        self._pings[token] = future
        try:
            async with asyncio.timeout(timeout):
                while True:
                    connection.ping(token)
                    self.wake()
                    done, _ = await asyncio.wait((future,), timeout=0.5)
                    if done:
                        return future.result()
                    if connection.session is not None:
                        # The path may be dead: only what must be acknowledged makes the session notice and change it.
                        connection.session.keep_alive()
        except TimeoutError:
            raise UnreachableError(
                f"no answer to a ping within {timeout:g} s", code="no-answer", next_step="covey peers"
            ) from None
        finally:
            del self._pings[token]

    def close_connection(self, connection: Connection, code: int = CloseCode.DONE, reason: str = "") -> None:
        self.endpoint.close(self.host.now(), connection, code, reason)
        self.wake()

    def cut(self, connection: Connection, code: int, *, spare: str) -> None:
        """Resets every stream of a connection but those of the service `spare`; whoever waits on one hears of it."""
        for core in list(connection.streams.values()):
            if core.service != spare:
                core.reset(code)
                stream = self._streams.get(core)
                if stream is not None:
                    stream.woken()
        self.wake()

    # --- life ----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        self.driver.wake()

    def settle(self) -> None:
        """Something was taken from the core: a turn, if that gave it something to say."""
        if self.endpoint.has_output:
            self.driver.wake()

    def waiter(self) -> Waiter:
        if self._closed:
            raise StateError("the node is closed", code="closed")
        return Waiter(self._loop)

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task that is cancelled by `close`; its failure is logged, not lost."""
        # In our own context, not that of whoever happened to cause it.
        task = self._loop.create_task(coroutine, name=name, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    async def close(self, reason: str = "shutdown") -> None:
        """Says goodbye to every peer, cancels the tasks, closes the ports."""
        if self._closed:
            return
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        now = self.host.now()
        # A relay forgets our circuits when we leave it: first a goodbye to those whom it relays to.
        for connection in sorted(self.endpoint.connections.values(), key=_is_direct):
            self.endpoint.close(now, connection, CloseCode.SHUTDOWN, reason)
        for _ in range(_LAST_TURNS):
            self.driver.turn()
            if self.driver.blocked:
                if self.host.now() - now >= _FULL_SECONDS:
                    break
                await asyncio.sleep(_FULL_SECONDS / 10)
            elif not self.endpoint.pending:
                break
        self._closed = True
        self.driver.close()
        # Not left to the events: a full socket may have kept the last turns from happening.
        for stream in list(self._streams.values()):
            stream.woken()
        for connection in list(self._full):
            self._look_again(connection)
        for waiting in self._waiting.values():
            for future in waiting:
                future.cancel()

    # --- events --------------------------------------------------------------------------------------------------

    def _on_event(self, event: events.Event) -> None:
        match event:
            case events.StreamReadable(core):
                if core.incoming.available <= _SMALL:
                    self.driver.hasten()
                stream = self._streams.get(core)
                if stream is not None:
                    stream.woken()
            case events.StreamWritable(core) | events.StreamReset(core, _):
                stream = self._streams.get(core)
                if stream is not None:
                    stream.woken()
            case events.StreamOffered(core):
                self._offered(core)
            case events.DatagramsReceived(core, datagrams):
                stream = self._streams.get(core)
                if stream is not None:
                    stream.take_datagrams(datagrams)
            case events.PortsWanted(connection, family, count):
                self._lend_ports(connection, family, count)
            case events.PortsUnused(ports):
                for index in ports:
                    self.driver.remove_port(index)
            case events.StreamsAllowed(connection):
                self._look_again(connection)
            case events.ConnectionClosed(connection):
                self._look_again(connection)
                self._pass_on(event)
            case events.Ponged(_, token, rtt):
                future = self._pings.get(token)
                if future is not None and not future.done():
                    future.set_result(rtt)
            case events.ConnectionLive(connection, _):
                for waiting in self._waiting.pop(connection.peer, []):
                    if not waiting.done():
                        waiting.set_result(connection)
                self._pass_on(event)
            case events.HandshakeFailed(identity, code):
                for waiting in self._waiting.pop(identity, []):
                    if not waiting.done():
                        waiting.set_exception(_unreachable(identity, code))
                self._pass_on(event)
            case _:
                self._pass_on(event)
        if len(self._streams) >= self._look_at:
            self._forget_closed()

    def _look_again(self, connection: Connection) -> None:
        """Whoever waits to open a stream tries again."""
        for waiter in self._full.pop(connection, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _offered(self, core: CoreStream) -> None:
        service = core.service
        handler = self._handlers.get(service)
        if core.early and service in POST_QUANTUM_SERVICES:
            core.reset(StreamCode.NEEDS_PQ)
        elif handler is None or not self._allow(core.connection, service):
            core.reset(StreamCode.REFUSED)
        else:
            stream = self._streams[core] = Stream(self, core)
            self.spawn(self._serve(handler, stream), f"serve {service}")

    async def _serve(self, handler: Handler, stream: Stream) -> None:
        try:
            await handler(stream)
            await stream.finish()
            stream.ignore()
        except asyncio.CancelledError:
            stream.abort()
            raise
        except CoveyError as error:
            who = identity_text(stream.peer)[:8]
            _log.info("service %s for %s ended: %s (%s)", stream.service, who, error.message, error.code)
            stream.abort(_reset_code(error))
        except BaseException:
            stream.abort(StreamCode.INTERNAL)
            raise

    def _forget_closed(self) -> None:
        for core in [core for core in self._streams if core.closed]:
            self._streams.pop(core).woken()
        # A look at all of them is paid for by as many new ones: a rendezvous has one for each of thousands of clients.
        self._look_at = max(_STREAMS_UNSEEN, 2 * len(self._streams))

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._loop.call_exception_handler(
                {"message": f"task {task.get_name()} failed", "exception": task.exception(), "task": task}
            )


def _reset_code(error: CoveyError) -> StreamCode:
    if isinstance(error, StorageError):
        return StreamCode.INTERNAL  # ours, and it passes: the peer keeps what it has and tries again
    return StreamCode.LIMIT if isinstance(error, LimitError) else StreamCode.PROTOCOL


def _unreachable(identity: Identity, code: str) -> UnreachableError:
    if code == "no-answer":
        return UnreachableError(
            "the peer does not answer", code="no-answer", next_step="check that it runs: covey status, on its side"
        )
    return UnreachableError(
        f"{identity_text(identity)[:8]} answered, but not as itself ({code}): not connected",
        code=code,
        next_step="covey find, to see its present record",
    )


def _is_direct(connection: Connection) -> bool:
    return connection.session is None or not connection.session.active.route.relayed
