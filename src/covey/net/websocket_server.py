"""Accepts WebSockets for a rendezvous, and keeps those out that want nothing of it.

A connection costs memory from its first byte, and whoever makes it has proven nothing but that packets reach it. So
connections without a session are few, altogether and for each network; the oldest goes when another comes; and who has
none after ten seconds goes too. What passes through is judged by the endpoint, as what comes by UDP is.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from covey.base.errors import StateError, StorageError, UsageError
from covey.base.types import Endpoint, endpoint_text
from covey.core.rates import Rates, network
from covey.net.tls import Tls
from covey.net.websocket import QUIET, WebSocketPort
from covey.wire.websocket import MESSAGE_LIMIT, SUBPROTOCOL

__all__ = ["Certificate", "ListenerLimits", "WebSocketListener"]

_log = logging.getLogger(__name__)

_BACKLOG: Final = 128
_NETWORKS_LIMIT: Final = 4096
"""Networks whose rates are remembered."""
_OTHER_FILES: Final = 256
"""Open files that are no connections."""
_LOOK: Final = 6
_PAUSE: Final = 0.1
"""Before accepting goes on after the system refused, as when there are too many open files, seconds."""


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """Numbers of one listener; tests make them small."""

    strangers: int = 512
    """Connections without a session ..."""
    strangers_per_network: int = 64
    """... and of them those of one IPv4 address or IPv6 /64."""
    stranger_seconds: float = 10.0
    """How long one may stay without a session; the others are looked at six times as rarely."""
    turn_seconds: float = 2.0
    """How long one may stay although another wants its place: time for every handshake, so that many who come at once
    do not turn each other away for ever."""
    per_second: float = 50.0
    burst: float = 250.0
    """Connections of one network that we shake hands with: TLS costs us a signature each."""
    connections: int = 12_000
    """Altogether: a little more than clients ..."""
    connections_per_network: int = 3_000
    """... and of one network, whoever they are: identities cost nothing, and each may have several connections."""


class WebSocketListener:
    """Serves at `address`. `on_open(port)` gets every connection after its opening handshake; `is_used(port)` says
    whether a session of ours is there. Call `start`, in the end `close`."""

    def __init__(
        self,
        address: Endpoint,
        context: ssl.SSLContext,
        *,
        on_open: Callable[[WebSocketPort], None],
        is_used: Callable[[WebSocketPort], bool],
        limits: ListenerLimits | None = None,
    ) -> None:
        self.address = address
        """Where it listens; after `start` with the real port."""
        self.turned_away = 0
        """Connections that were closed because there was no room or they wanted nothing. Only grows."""
        self._context = context
        self._on_open = on_open
        self._is_used = is_used
        self._limits = limits if limits is not None else ListenerLimits()
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._shaking: set[asyncio.Task[None]] = set()
        self._strangers: dict[WebSocketPort, tuple[bytes, float]] = {}
        """Without a session, the oldest first: the network of each, and when it came."""
        self._rates = Rates(self._limits.per_second, self._limits.burst, _NETWORKS_LIMIT)
        self._networks: Counter[bytes] = Counter()
        """Strangers of each."""
        self._all_networks: Counter[bytes] = Counter()
        """All connections of each."""
        self._ports: set[WebSocketPort] = set()
        self._looking: dict[WebSocketPort, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._ports)

    def start(self) -> None:
        """Raises StateError (`address-in-use`) and UsageError (`address-not-local`, `address-refused`)."""
        host, number = self.address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind((host, number))
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            raise _not_bound(self.address, error) from error
        self._socket = sock
        self.address = sock.getsockname()[:2]
        _allow_files(self._limits.connections + _OTHER_FILES)
        self._accepting = self._loop.create_task(self._accept(sock), name="accept WebSockets")

    async def close(self) -> None:
        """No further connections; those that are there end. Twice is fine."""
        tasks = [task for task in (self._accepting, *self._shaking) if task is not None]
        self._accepting = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        for port in list(self._ports):
            port.close()
            self.forget(port)

    def forget(self, port: WebSocketPort) -> None:
        """This connection is gone."""
        if port in self._ports:
            self._ports.discard(port)
            _subtract(self._all_networks, network(port.remote))
        self._no_stranger(port)
        timer = self._looking.pop(port, None)
        if timer is not None:
            timer.cancel()

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, remote = await self._loop.sock_accept(listening)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    _log.error("no WebSocket can be accepted: %s", error)
                    await asyncio.sleep(_PAUSE)
                continue
            source = network(remote[:2])
            if not self._may_come(source):
                self.turned_away += 1
                sock.close()
                continue
            port = WebSocketPort(_protocol())
            port.remote = remote[:2]
            self._admit(port, source)
            task = self._loop.create_task(self._shake_hands(sock, port), name="WebSocket handshake")
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

    async def _shake_hands(self, sock: socket.socket, port: WebSocketPort) -> None:
        try:
            async with asyncio.timeout(self._limits.stranger_seconds):
                port.lower = tls = Tls(port, self._context, server_side=True)
                await self._loop.connect_accepted_socket(lambda: tls, sock)
                await tls.established
                problem = await port.opened
        except (OSError, TimeoutError):
            problem = "no WebSocket"
        except asyncio.CancelledError:
            port.abort()
            self.forget(port)
            sock.close()
            raise
        if problem or not port.is_open or port not in self._ports:
            self.turned_away += 1
            port.abort()
            self.forget(port)
            return
        self._on_open(port)

    def _may_come(self, source: bytes) -> bool:
        """Whether there is a place for one more of this network, perhaps that of a stranger who had its time."""
        if len(self._ports) >= self._limits.connections or not self._rates.take(self._loop.time(), source):
            return False
        if self._all_networks[source] >= self._limits.connections_per_network:
            return False
        if self._networks[source] >= self._limits.strangers_per_network:
            return self._turn_away_one(port for port, (theirs, _) in self._strangers.items() if theirs == source)
        return len(self._strangers) < self._limits.strangers or self._turn_away_one(self._strangers)

    def _turn_away_one(self, strangers: Iterable[WebSocketPort]) -> bool:
        oldest = next(iter(strangers))
        if self._loop.time() - self._strangers[oldest][1] < self._limits.turn_seconds:
            return False
        self._turn_away(oldest)
        return True

    def _admit(self, port: WebSocketPort, source: bytes) -> None:
        self._ports.add(port)
        self._all_networks[source] += 1
        self._strangers[port] = source, self._loop.time()
        self._networks[source] += 1
        self._looking[port] = self._loop.call_later(self._limits.stranger_seconds, self._look, port)

    def _turn_away(self, port: WebSocketPort) -> None:
        if self._is_used(port):  # no stranger any more, and nobody looked since
            self._no_stranger(port)
            return
        self.turned_away += 1
        port.abort()
        self.forget(port)

    def _look(self, port: WebSocketPort) -> None:
        """Whether anybody uses it: after ten seconds, and from time to time."""
        if not self._is_used(port):
            self._turn_away(port)
            return
        self._no_stranger(port)
        self._looking[port] = self._loop.call_later(_LOOK * self._limits.stranger_seconds, self._look, port)

    def _no_stranger(self, port: WebSocketPort) -> None:
        source, _ = self._strangers.pop(port, (None, 0.0))
        if source is not None:
            _subtract(self._networks, source)


def _subtract(counter: Counter[bytes], key: bytes) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


class Certificate:
    """A certificate chain and its key, PEM files, and the `context` that serves them.

    Making one raises UsageError (`bad-certificate`) and StorageError (`certificate-file`); so does `refresh`, and then
    what was served is served on.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._files = certificate, key
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._state = self._look()
        self._load(self.context)

    def refresh(self) -> bool:
        """Serves the files as they are now, to connections from now on. Whether they changed."""
        state = self._look()
        if state == self._state:
            return False
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # half of a new pair would break the old one
        self._load(self.context)
        self._state = state
        return True

    def _look(self) -> list[tuple[int, int]]:
        found = []
        for path in self._files:
            try:
                with Path(path).open("rb") as file:
                    status = os.fstat(file.fileno())
            except OSError as error:
                why = error.strerror or error
                raise StorageError(f"{path} cannot be read: {why}", code="certificate-file") from error
            found.append((status.st_mtime_ns, status.st_ino))
        return found

    def _load(self, context: ssl.SSLContext) -> None:
        certificate, key = self._files
        try:
            # A key with a passphrase is refused, not asked for: nobody is there.
            context.load_cert_chain(certificate, key, password=lambda: b"")
        except (ssl.SSLError, ValueError) as error:
            raise UsageError(
                f"{certificate} and {key} are no certificate with its key, in PEM and without a passphrase",
                code="bad-certificate",
                next_step="covey rendezvous --certificate fullchain.pem --key privkey.pem",
            ) from error


def _allow_files(count: int) -> None:
    """As many open files as the system lets us have: 1,024 are common, and strangers alone could hold half of them."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _protocol() -> ServerProtocol:
    # No origin: what a web page makes a browser do is not for us.
    return ServerProtocol(origins=[None], subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=MESSAGE_LIMIT, logger=QUIET)


def _not_bound(address: Endpoint, error: OSError) -> Exception:
    what = f"cannot listen on TCP {endpoint_text(address)}: {error.strerror or error}"
    if error.errno == errno.EADDRINUSE:
        return StateError(what, code="address-in-use", next_step="choose another: --websocket HOST:PORT")
    if error.errno == errno.EACCES:
        return UsageError(what, code="address-refused", next_step="a port above 1023: --websocket 0.0.0.0:8443")
    return UsageError(what, code="address-not-local")
