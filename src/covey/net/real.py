"""`RealHost`: the machine this process runs on."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from covey.base.errors import CoveyError, UnreachableError
from covey.net.changes import NetworkWatch, watch_network
from covey.net.gateways import default_gateways
from covey.net.host import UdpPort, WebSocket
from covey.net.interfaces import local_addresses
from covey.net.udp import UdpSocketPort, socket_family

__all__ = ["RealHost"]

T = TypeVar("T")

_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 0))
"""Linux: monotonic and counting while suspended. macOS: CLOCK_MONOTONIC counts then by itself."""


_DESCRIPTORS_KEPT: Final = 256
"""Descriptors that ports opened by the hundred leave to files, programs and new ports."""
_SPARE_UNKNOWN: Final = 32

_KEPT: Final = 4 * 1024 * 1024


def _keep_memory() -> None:
    """Has glibc keep memory that is freed, up to twice `_KEPT`, for the next to ask.

    By default it gives back what is more than 128 kB, and whatever arrives in 60 kB pieces would be paged in anew all
    the time: 150,000 page faults per GB, half of the receiver's CPU time. It moves both of its thresholds to the size
    of a mapped block that was freed (mallopt(3), M_MMAP_THRESHOLD). Elsewhere this does nothing.
    """
    block = bytearray(_KEPT)
    del block


class RealHost:
    """`Host` with real sockets, clocks and one writer thread. See `net.host.Host` for the contract.

    Ports are for use inside a running asyncio loop. `close()` ends the writer thread after the work it was
    given.
    """

    def __init__(self) -> None:
        self._writer: ThreadPoolExecutor | None = None
        _keep_memory()

    if hasattr(time, "clock_gettime"):

        def now(self) -> float:
            """Seconds of CLOCK_BOOTTIME."""
            return time.clock_gettime(_CLOCK)

    else:  # Windows

        def now(self) -> float:
            """Seconds of `time.monotonic`, which stands still in suspend."""
            return time.monotonic()

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def random(self, size: int) -> bytes:
        return os.urandom(size)

    def udp(self, address: tuple[str, int]) -> UdpPort:
        return UdpSocketPort(address)

    def shared_udp(self, address: tuple[str, int]) -> UdpPort | None:
        try:
            return UdpSocketPort(address, shared=True)
        except CoveyError:
            return None

    def gateways(self) -> list[str]:
        return default_gateways()

    async def websocket(self, remote: tuple[str, int]) -> WebSocket:
        # Not before it is needed: most agents have UDP, and TLS and its certificates take 10 MB.
        from covey.net.websocket_client import open_websocket

        return await open_websocket(remote, os.environ)

    def spare_ports(self) -> int:
        try:
            import resource

            used = len(os.listdir("/dev/fd"))
        except (ImportError, OSError):  # Windows
            return _SPARE_UNKNOWN
        return max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - used - _DESCRIPTORS_KEPT, 0)

    async def blocking(self, function: Callable[[], T]) -> T:
        if self._writer is None:
            # One thread and its queue: SQLite has one writer, and order of submission is order of execution.
            self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="covey-writer")
        return await asyncio.get_running_loop().run_in_executor(self._writer, function)

    def source_address(self, remote: tuple[str, int]) -> str | None:
        host, port = remote
        with socket.socket(socket_family(host), socket.SOCK_DGRAM) as probe:
            try:
                # Connecting a UDP socket only asks the routing table. Port 0 would be refused on some
                # systems.
                probe.connect((host, port or 9))
                address: str = probe.getsockname()[0]
            except OSError:
                return None
        return address

    def watch_network(self, callback: Callable[[], None]) -> NetworkWatch | None:
        return watch_network(callback)

    def local_addresses(self) -> list[str]:
        return local_addresses()

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        literal = _literal(host)
        if literal is not None:
            return [(literal, port)]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (socket.gaierror, UnicodeError) as error:
            raise UnreachableError(
                f"no address found for host {host!r}",
                code="host-not-found",
                next_step="check the spelling and this machine's DNS",
            ) from error
        endpoints = [(str(entry[4][0]), port) for entry in found]
        return list(dict.fromkeys(endpoints))

    def close(self) -> None:
        """Wait for the writer thread's work and end it. Closing twice is fine."""
        if self._writer is not None:
            self._writer.shutdown(wait=True)
            self._writer = None


def _literal(host: str) -> str | None:
    """An IP literal as a socket would report it, None for anything else.

    The scope becomes a number; an IPv4 address in IPv6 clothes (`::ffff:192.0.2.1`) takes them off.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.scope_id:
        bare = str(address).partition("%")[0]
        scope = address.scope_id
        try:
            return f"{bare}%{scope if scope.isdigit() else socket.if_nametoindex(scope)}"
        except OSError:
            return None
    return str(address)
