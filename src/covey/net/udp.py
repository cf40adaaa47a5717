"""UDP in trains: one system call per train where the kernel can, one per datagram where it cannot.

Linux cuts a train into datagrams on the way out (UDP_SEGMENT, "GSO", 4.18) and hands datagrams that came
together to one `recvmsg` (UDP_GRO, 5.0). Both are probed once per process. Where they lack, the same class
sends one datagram at a time and receives one at a time; callers see no difference except speed
(`benchmarks/udp_micro.py`).

Datagrams are never fragmented: path MTU discovery is Covey's own (RFC 8899), so DF is set and the kernel's
guess of the path MTU is ignored.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import select
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from covey.base.errors import CoveyError, StateError, UnreachableError, UsageError

__all__ = ["Offload", "UdpSocketPort", "bind_failure", "granted_buffers", "probe_offload", "socket_family"]

SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
"""linux/udp.h; Python's `socket` does not name these."""

IP_MTU_DISCOVER: Final = 10
IPV6_MTU_DISCOVER: Final = 23
PMTUDISC_PROBE: Final = 3
"""linux/in.h, linux/in6.h: set DF, ignore the kernel's path MTU."""

SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
"""asm-generic/socket.h: above the sysctl limits, for those who have CAP_NET_ADMIN."""

DARWIN_IP_DONTFRAG: Final = 28
DARWIN_IPV6_DONTFRAG: Final = 62
"""netinet/in.h and netinet6/in6.h of macOS. Not measured."""

RECEIVE_BUFFER: Final = 8 * 1024 * 1024
SEND_BUFFER: Final = 4 * 1024 * 1024
"""Bytes asked of the kernel, which grants at most net.core.rmem_max / wmem_max without privilege. 8 MiB
hold 16 ms at 4 Gbit/s: the time an event loop may be busy elsewhere."""

TRAIN_BUFFER: Final = 65_536
"""Largest thing one recvmsg can return, bytes."""

EMPTY_LIMIT: Final = 32
"""Empty datagrams skipped in one `receive()`, so that a flood of them cannot hold the loop."""

LONE_STREAK: Final = 16
"""Datagrams that each came alone, one after the other, before a port mostly stops looking behind the next one: question
and answer take one system call less a side."""

SINGLES_LIMIT: Final = 64
"""Destinations remembered as impossible with GSO before the whole port gives it up."""

_GRO_SPACE: Final = socket.CMSG_SPACE(4) if hasattr(socket, "CMSG_SPACE") else 0
_U16 = struct.Struct("=H")
_INT = struct.Struct("=i")


class Offload(NamedTuple):
    """What the kernel does for us: cut trains on the way out (`gso`), join them on the way in (`gro`)."""

    gso: bool
    gro: bool


@functools.cache
def probe_offload() -> Offload:
    """Which offloads work here. Asked once per process; costs a few system calls on a loopback socket.

    `setsockopt` is the question, because an old kernel ignores an unknown control message and would send
    one huge datagram. A real train then refutes sandboxes that accept the option and do nothing. Where
    loopback is down (a new network namespace) the answer of `setsockopt` stands.
    """
    if not sys.platform.startswith("linux"):
        return Offload(gso=False, gro=False)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        gso = _accepts(one, UDP_SEGMENT, 0) and not _refuted(one, two)
        return Offload(gso=gso, gro=_accepts(one, UDP_GRO, 1))


def _accepts(sock: socket.socket, option: int, value: int) -> bool:
    try:
        sock.setsockopt(SOL_UDP, option, value)
    except OSError:
        return False
    return True


def _refuted(sender: socket.socket, receiver: socket.socket) -> bool:
    """Whether a train of two four-byte datagrams over loopback demonstrably did not arrive as two."""
    try:
        receiver.bind(("127.0.0.1", 0))
        sender.sendmsg([b"onetwo.."], [(SOL_UDP, UDP_SEGMENT, _U16.pack(4))], 0, receiver.getsockname())
    except OSError as error:
        return error.errno in (errno.EIO, errno.EINVAL, errno.ENOPROTOOPT)
    ready, _, _ = select.select([receiver], [], [], 0.1)
    return bool(ready) and len(receiver.recv(64)) != 4


def granted_buffers() -> tuple[int, int]:
    """The receive and send buffers, bytes, that this system gives a port of ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        _grow(probe, SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER)
        _grow(probe, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER)
        # Linux counts its own bookkeeping and tells twice of what was asked for; socket(7).
        share = 2 if sys.platform.startswith("linux") else 1
        receive, send = (probe.getsockopt(socket.SOL_SOCKET, which) for which in (socket.SO_RCVBUF, socket.SO_SNDBUF))
        return receive // share, send // share


def socket_family(host: str) -> socket.AddressFamily:
    """AF_INET6 for an IPv6 literal, else AF_INET."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def bind_failure(error: OSError, address: tuple[str, int]) -> CoveyError:
    """The error of `Host.udp` for what `bind` said."""
    text = f"cannot bind UDP {address[0]} port {address[1]}: {error.strerror or error}"
    if error.errno == errno.EADDRINUSE:
        return StateError(text, code="address-in-use", next_step="choose another port, or 0 for any free one")
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return UsageError(text, code="address-not-local", next_step="use an address of this machine, or 0.0.0.0")
    return UnreachableError(text, code="bind-failed")


class UdpSocketPort:
    """`UdpPort` on a real socket. See `net.host.UdpPort` for the contract.

    Needs no event loop until `on_readable`, or a full socket with `on_writable` set. `offload` is for tests
    and comparisons; by default the probe decides. `shared`: others may bind the same port, and all of them get what is
    sent to a group. A train that had to go out one by one and met a full
    socket half-way counts as sent: the port keeps its rest and sends it before anything else.
    """

    def __init__(self, address: tuple[str, int], *, offload: Offload | None = None, shared: bool = False) -> None:
        self._family = socket_family(address[0])
        self._offload = probe_offload() if offload is None else offload
        try:
            self._socket = _open_socket(self._family, address, self._offload.gro, shared)
        except OSError as error:
            raise bind_failure(error, address) from error
        self._gso = self._offload.gso
        self.local: tuple[str, int] = _endpoint(self._socket.getsockname())
        self.dropped = 0
        self._view: memoryview | None = None
        self._into: list[memoryview] = []
        self._taken = 0
        """Datagrams taken since nothing waited; a train counts as two."""
        self._streak = 0
        """How often in a row one datagram was all there was."""
        self._readable: Callable[[], None] | None = None
        self._writable: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waits_to_write = False
        self._segment = 0
        self._control: list[tuple[int, int, bytes]] = []
        self._singles: set[tuple[str, int]] = set()
        self._rest: tuple[memoryview, int, tuple[str, int]] | None = None

    @property
    def offload(self) -> Offload:
        """What this port uses now; `gso` turns false when the kernel refused it too often."""
        return Offload(self._gso, self._offload.gro)

    def fileno(self) -> int:
        """The socket's descriptor, -1 when closed."""
        return self._socket.fileno()

    def receive(self) -> tuple[memoryview, int, tuple[str, int]] | None:
        """See `UdpPort.receive`. Hot path: 0.5 us above the system call, 1.6 us when nothing waits."""
        if self._taken == 1 and self._streak > LONE_STREAK and self._streak % LONE_STREAK:
            # Most likely nothing waits. If something does, the loop, which polls levels, says so at once.
            self._streak += 1
            self._taken = 0
            return None
        view = self._view
        if view is None:
            # Not in __init__: a node may open 256 ports to find one hole, and most of them never hear
            # anything.
            view = self._view = memoryview(bytearray(TRAIN_BUFFER))
            self._into = [view]
        for _ in range(EMPTY_LIMIT):
            try:
                size, control, _, sender = self._socket.recvmsg_into(self._into, _GRO_SPACE)
            except BlockingIOError:
                if self._taken:
                    self._streak = self._streak + 1 if self._taken == 1 else 0
                    self._taken = 0
                return None
            except OSError:
                # Reading it cleared it. Whatever waits behind it makes the socket readable again.
                self.dropped += 1
                return None
            if size:
                segment = size
                self._taken += 1
                if control and control[0][1] == UDP_GRO:
                    segment = _INT.unpack(control[0][2])[0]
                    self._taken += 1
                return view[:size], segment, sender if len(sender) == 2 else _endpoint(sender)
            self.dropped += 1
        return None

    def send(self, train: memoryview, segment: int, remote: tuple[str, int]) -> bool:
        """See `UdpPort.send`. Hot path: 0.3 us above the system call (`benchmarks/udp_micro.py`)."""
        if self._rest is not None and not self._send_rest():
            return False
        size = len(train)
        if size > segment and not (self._gso and remote not in self._singles):
            return self._send_singles(train, segment, remote)
        try:
            if size <= segment:
                self._socket.sendto(train, remote if self._family == socket.AF_INET else self._sockaddr(remote))
            else:
                if segment != self._segment:
                    self._segment = segment
                    self._control = [(SOL_UDP, UDP_SEGMENT, _U16.pack(segment))]
                self._socket.sendmsg((train,), self._control, 0, self._sockaddr(remote))
        except BlockingIOError:
            self._await_writable()
            return False
        except OSError as error:
            if size > segment and error.errno in (errno.EIO, errno.EINVAL):
                return self._send_without_gso(train, segment, remote)
            self.dropped += 1
        return True

    def on_readable(self, callback: Callable[[], None]) -> None:
        self._readable = callback
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), callback)

    def on_writable(self, callback: Callable[[], None]) -> None:
        self._writable = callback
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        descriptor = self._socket.fileno()
        if descriptor < 0:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
        self._rest = None
        self._readable = self._writable = None
        self._socket.close()

    def _sockaddr(self, remote: tuple[str, int]) -> tuple[Any, ...]:
        """`remote` as `socket` wants it: only a scoped IPv6 address (fe80::1%2) is not already that."""
        host, port = remote
        if self._family == socket.AF_INET or "%" not in host:
            return remote
        host, _, scope = host.partition("%")
        return host, port, 0, int(scope) if scope.isdigit() else socket.if_nametoindex(scope)

    def _send_without_gso(self, train: memoryview, segment: int, remote: tuple[str, int]) -> bool:
        """The kernel refused to cut: EIO without checksum offload or with IPsec, EINVAL also for more than
        the MTU.

        Datagrams that go out one by one prove that cutting was the problem, and the destination is
        remembered.
        """
        before = self.dropped
        sent = self._send_singles(train, segment, remote)
        if sent and self.dropped == before:
            self._singles.add(remote)
            if len(self._singles) > SINGLES_LIMIT:
                self._singles.clear()
                self._gso = False
        return sent

    def _send_singles(self, train: memoryview, segment: int, remote: tuple[str, int]) -> bool:
        """The train, one system call per datagram. False only if not one of them went out."""
        sent = self._send_from(train, segment, remote)
        if sent == 0:
            self._await_writable()
            return False
        if sent < len(train):
            self._rest = (memoryview(bytes(train[sent:])), segment, remote)
            self._await_writable()
        return True

    def _send_from(self, train: memoryview, segment: int, remote: tuple[str, int]) -> int:
        """Send datagrams until the end or a full socket; how many bytes are settled (sent or lost)."""
        try:
            sockaddr = self._sockaddr(remote)
        except OSError:
            self.dropped += 1
            return len(train)
        for start in range(0, len(train), segment):
            try:
                self._socket.sendto(train[start : start + segment], sockaddr)
            except BlockingIOError:
                return start
            except OSError:
                self.dropped += 1
        return len(train)

    def _send_rest(self) -> bool:
        """Send what is left of a train that was begun. False: the socket is still full."""
        assert self._rest is not None
        train, segment, remote = self._rest
        sent = self._send_from(train, segment, remote)
        if sent < len(train):
            self._rest = (train[sent:], segment, remote)
            self._await_writable()
            return False
        self._rest = None
        return True

    def _await_writable(self) -> None:
        if not self._waits_to_write and self._loop is not None:
            self._waits_to_write = True
            self._loop.add_writer(self._socket.fileno(), self._became_writable)

    def _became_writable(self) -> None:
        self._waits_to_write = False
        assert self._loop is not None
        self._loop.remove_writer(self._socket.fileno())
        if self._rest is not None and not self._send_rest():
            return
        if self._writable is not None:
            self._writable()


def _open_socket(family: socket.AddressFamily, address: tuple[str, int], gro: bool, shared: bool) -> socket.socket:
    """A bound, non-blocking UDP socket with every option set. Raises `OSError`."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _grow(sock, SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER)
        _grow(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER)
        if family == socket.AF_INET6:
            # Each family has a port of its own, so that an address is never seen in two spellings.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _forbid_fragments(sock, family)
        if gro:
            sock.setsockopt(SOL_UDP, UDP_GRO, 1)
        host, port = address
        scope = 0
        if "%" in host:
            host, _, name = host.partition("%")
            scope = int(name) if name.isdigit() else socket.if_nametoindex(name)
        sock.bind((host, port, 0, scope) if scope else (host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _grow(sock: socket.socket, forced: int, asked: int, size: int) -> None:
    """Give the socket a buffer of `size` bytes, or what the system allows."""
    if sys.platform.startswith("linux"):
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, forced, size)
            return
    while size >= 65_536:
        # Linux caps silently; macOS refuses what is above kern.ipc.maxsockbuf.
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, asked, size)
            return
        size //= 2


def _forbid_fragments(sock: socket.socket, family: socket.AddressFamily) -> None:
    """Set DF and ignore the kernel's path MTU. Where that fails, probes find a smaller MTU."""
    six = family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    with suppress(OSError):
        if sys.platform.startswith("linux"):
            sock.setsockopt(level, IPV6_MTU_DISCOVER if six else IP_MTU_DISCOVER, PMTUDISC_PROBE)
        elif sys.platform == "darwin":
            sock.setsockopt(level, DARWIN_IPV6_DONTFRAG if six else DARWIN_IP_DONTFRAG, 1)


def _endpoint(sockaddr: tuple[Any, ...]) -> tuple[str, int]:
    """A socket address as (host, port); a link-local IPv6 host keeps its interface: `fe80::1%2`."""
    host, port = sockaddr[0], sockaddr[1]
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in host:
        return f"{host}%{sockaddr[3]}", port
    return host, port
