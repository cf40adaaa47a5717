"""`SimHost` and `SimPort`: what a node gets of a simulated world."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from collections.abc import Callable, Container, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar

from covey.base.errors import CoveyError, StateError, UnreachableError, UsageError
from covey.net.host import WebSocket, train_limit
from covey.testing.loop import SimError
from covey.testing.network import Endpoint, SimNetwork

__all__ = ["HostCrashed", "SimHost", "SimPort", "Traffic"]

T = TypeVar("T")

EPOCH_US: Final = 1_767_225_600_000_000
"""Wall clock of a host without offset when the loop starts: 2026-01-01 00:00 UTC, microseconds."""

TRAIN_BUFFER: Final = 65_536
"""Bytes of a port's receive buffer for one train, as on a real socket."""

RECEIVE_BUFFER: Final = 8 * 1024 * 1024
"""Bytes that may wait in a port to be received; more is lost."""

SEND_BUFFER: Final = 512 * 1024
WIRE_BYTES_S: Final = 1.25e9
"""A port's send buffer in bytes, and how fast it drains (10 Gbit/s): more at once meets a full socket."""

FULL_SHARE: Final = 1 / 256
FULL_S: Final = 0.002
"""Share of sends that meet a full socket out of bad luck, and how long it stays full at most, seconds."""

SCRIBBLE: Final = 0xDB
"""What the last train is overwritten with at the next receive(): a view kept too long shows it."""


class HostCrashed(SimError):
    """Code of a crashed host still runs and asks for the world. Its tasks should have been cancelled."""


@dataclass
class Traffic:
    """Datagrams and bytes of UDP payload of one host, since it was made."""

    sent: int = 0
    sent_bytes: int = 0
    received: int = 0
    received_bytes: int = 0

    @property
    def bytes(self) -> int:
        return self.sent_bytes + self.received_bytes


class SimHost:
    """`net.host.Host` on a `SimNetwork`. `ip` is its address; `also` further ones, usually of the other
    family.

    `clock_offset_us` is how wrong its wall clock is and may be changed at any time. `disk_s` is what each
    `blocking` call takes, in virtual seconds; its function runs inline at the end of it, in order of
    submission, and never if the host crashes before. `crash()` ends everything at once; `restart()` returns
    a new host with the same addresses.
    """

    def __init__(
        self,
        network: SimNetwork,
        ip: str,
        clock_offset_us: int = 0,
        *,
        also: Sequence[str] = (),
        disk_s: float = 0.0,
    ) -> None:
        self.network = network
        self.ip = ip
        self.addresses: tuple[str, ...] = (ip, *also)
        self.clock_offset_us = clock_offset_us
        self.clock_drift = 0.0
        """Seconds that its wall clock gains in a second."""
        self.disk_s = disk_s
        self.gro = True
        """Whether datagrams that came together are received together."""
        self.full_share = FULL_SHARE
        """Share of sends on this host that meet a full socket out of bad luck."""
        self.sends = 0
        """Trains that its ports were given and took."""
        self.refused: Container[int] = ()
        """Which of these, counted from 1, the system refuses (ENOBUFS, EPERM, ENETUNREACH, EMSGSIZE): they are lost."""
        self.routers: tuple[str, ...] = ()
        """What `gateways` says: nothing, so that no port is mapped, unless a test puts a router there."""
        self.crashed = False
        self.traffic = Traffic()
        self.asleep = False
        """The machine sleeps: what is sent to it is lost. See `World.suspend`."""
        self._loop = network.loop
        self._boot = network.next_boot(ip)
        self._random = Random(f"host/{network.seed}/{ip}/{self._boot}")
        self._luck = Random(f"socket/{network.seed}/{ip}/{self._boot}")
        # Whole numbers keep the sum with the loop's time exact for longer. Different at every boot: nobody
        # may keep it.
        self._base = float(self._luck.randrange(1_000, 100_000))
        self._disk_free = 0.0
        self._ports: dict[Endpoint, SimPort] = {}
        self._watches: list[SimWatch] = []
        self.tells_changes = True
        """Whether this system says that addresses changed (as Linux does)."""
        for address in self.addresses:
            self.network.attach(address, self)

    def now(self) -> float:
        return self._loop.time() + self._base

    def wall_us(self) -> int:
        return EPOCH_US + round(self._loop.time() * (1.0 + self.clock_drift) * 1e6) + self.clock_offset_us

    def random(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def udp(self, address: tuple[str, int]) -> SimPort:
        self._check_alive()
        host, port = address
        if not self._is_local(host):
            raise UsageError(
                f"cannot bind UDP {host} port {port}: not an address of {self.ip}", code="address-not-local"
            )
        if port == 0:
            port = self._free_port(host)
        elif self._conflict(host, port):
            raise StateError(f"cannot bind UDP {host} port {port}: address in use", code="address-in-use")
        bound = SimPort(self, (host, port), Random(self._luck.getrandbits(64)))
        self._ports[host, port] = bound
        return bound

    def shared_udp(self, address: tuple[str, int]) -> SimPort | None:
        try:
            return self.udp(address)
        except CoveyError:
            return None

    def gateways(self) -> list[str]:
        return list(self.routers)

    async def websocket(self, remote: tuple[str, int]) -> WebSocket:
        raise UnreachableError("there is no TCP in this world", code="websocket-unreachable")

    def spare_ports(self) -> int:
        return 60_000

    async def blocking(self, function: Callable[[], T]) -> T:
        self._check_alive()
        self._disk_free = max(self._disk_free, self._loop.time()) + self.disk_s
        # Ends are strictly later for each call, or all at the same instant and then in order of submission.
        await asyncio.sleep(self._disk_free - self._loop.time() if self.disk_s else 0)
        self._check_alive()
        return function()

    def source_address(self, remote: tuple[str, int]) -> str | None:
        if _is_loopback(remote[0]):
            return "::1" if ":" in remote[0] else "127.0.0.1"
        return next((ip for ip in self.addresses if (":" in ip) == (":" in remote[0])), None)

    def watch_network(self, callback: Callable[[], None]) -> SimWatch | None:
        return SimWatch(self._watches, callback) if self.tells_changes else None

    def local_addresses(self) -> list[str]:
        return list(self.addresses)

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        try:
            return [(str(ipaddress.ip_address(host)), port)]
        except ValueError:
            pass
        await asyncio.sleep(0)
        if host not in self.network.names:
            raise UnreachableError(f"no address found for host {host!r}", code="host-not-found")
        return [(ip, port) for ip in dict.fromkeys(self.network.names[host])]

    def crash(self) -> None:
        """Lose power: every port closes at once, nothing is flushed, the addresses answer no more. Twice is
        fine.

        The caller cancels the tasks of what ran here; those it forgets get `HostCrashed`.
        """
        if self.crashed:
            return
        self.crashed = True
        for port in tuple(self._ports.values()):
            port.close()
        for address in self.addresses:
            self.network.detach(address)

    def restart(self) -> SimHost:
        """Crash, and a new host with the same addresses: other randomness, another clock base."""
        self.crash()
        successor = SimHost(self.network, self.ip, self.clock_offset_us, also=self.addresses[1:], disk_s=self.disk_s)
        successor.clock_drift = self.clock_drift
        return successor

    def move(self, network: SimNetwork, ip: str, *also: str) -> None:
        """From now on the host is plugged in elsewhere, under other addresses, as a laptop that changes networks.

        Ports bound to a wildcard go on there; what is sent from one bound to an old address vanishes.
        """
        for address in self.addresses:
            self.network.detach(address)
        self.network = network
        self.ip = ip
        self.addresses = (ip, *also)
        for address in self.addresses:
            network.attach(address, self)
        for watch in tuple(self._watches):
            watch.tell(self._loop)

    def inbound(self, source: Endpoint, target: Endpoint, payloads: Sequence[bytes]) -> None:
        """From the network: datagrams for one of our ports. See `network.Receiver`."""
        if self.asleep:
            return
        self.traffic.received += len(payloads)
        self.traffic.received_bytes += sum(map(len, payloads))
        host, number = target
        port = self._ports.get(target) or self._ports.get((_wildcard(host), number))
        if port is not None:
            port.arrive(source, payloads)

    def outbound(self, local: Endpoint, remote: Endpoint, payloads: Sequence[bytes]) -> None:
        """From one of our ports, towards `remote`."""
        self.traffic.sent += len(payloads)
        self.traffic.sent_bytes += sum(map(len, payloads))
        host, number = local
        if host == _wildcard(host):
            source = self.source_address(remote)
            if source is None:
                return
            host = source
        if _is_loopback(host) != _is_loopback(remote[0]):
            return
        if _is_loopback(host):
            self._loop.call_soon(self.inbound, (host, number), remote, payloads)
        elif host in self.addresses:
            self.network.outbound((host, number), remote, payloads)

    def forget(self, port: SimPort) -> None:
        """A port of ours was closed."""
        if self._ports.get(port.local) is port:
            del self._ports[port.local]

    def _check_alive(self) -> None:
        if self.crashed:
            raise HostCrashed(f"{self.ip} has crashed")

    def _is_local(self, host: str) -> bool:
        return host in self.addresses or host == _wildcard(host) or _is_loopback(host)

    def _conflict(self, host: str, port: int) -> bool:
        wildcard = _wildcard(host)
        if host == wildcard:
            return any(each[1] == port and (":" in each[0]) == (":" in host) for each in self._ports)
        return (host, port) in self._ports or (wildcard, port) in self._ports

    def _free_port(self, host: str) -> int:
        while self._conflict(host, port := self._luck.randrange(32_768, 61_000)):
            pass
        return port


class SimWatch:
    """`net.host.Watch` on a `SimHost`."""

    def __init__(self, watches: list[SimWatch], callback: Callable[[], None]) -> None:
        self._watches = watches
        self._callback = callback
        self._context = copy_context()
        watches.append(self)

    def tell(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon(self._callback, context=self._context)

    def close(self) -> None:
        if self in self._watches:
            self._watches.remove(self)


class SimPort:
    """`net.host.UdpPort` on a `SimHost`. Stricter than a real one, so that a slip shows here first.

    A train that breaks the contract of `send` is a `ValueError`. `on_readable` is called once for what
    arrived, not again for what was left. The bytes of `receive` are overwritten at the next one. Sends meet
    a full socket when more leaves at one instant than the buffer holds, and now and then for no reason.
    """

    def __init__(self, host: SimHost, local: Endpoint, luck: Random) -> None:
        self.local = local
        self.dropped = 0
        self._host = host
        self._luck = luck
        self._loop = host.network.loop
        self._context = copy_context()
        self._open = True
        self._inbox: deque[tuple[Endpoint, int, bytes]] = deque()
        self._waiting = 0
        self._view = memoryview(bytearray(TRAIN_BUFFER))
        self._lent = 0
        self._readable: Callable[[], None] | None = None
        self._writable: Callable[[], None] | None = None
        self._notified = False
        self._full = False
        self._unsent = 0.0
        self._unsent_at = 0.0

    def receive(self) -> tuple[memoryview, int, tuple[str, int]] | None:
        self._view[: self._lent] = bytes((SCRIBBLE,)) * self._lent
        self._lent = 0
        if not self._inbox:
            return None
        source, segment, train = self._inbox.popleft()
        self._lent = len(train)
        self._waiting -= len(train)
        self._view[: len(train)] = train
        return self._view[: len(train)], segment, source

    def send(self, train: memoryview, segment: int, remote: tuple[str, int]) -> bool:
        size = len(train)
        if segment < 1 or not 1 <= size <= segment * train_limit(segment):
            raise ValueError(f"{size} bytes in datagrams of {segment} are not a train")
        if not 0 < remote[1] < 65_536:
            raise ValueError(f"{remote} is not an endpoint")
        if self._full:
            return False
        if not self._open or (":" in remote[0]) != (":" in self.local[0]):
            self.dropped += 1
            return True
        if self._becomes_full(size):
            return False
        self._host.sends += 1
        if self._host.sends in self._host.refused:
            self.dropped += 1
            return True
        payloads = [bytes(train[start : start + segment]) for start in range(0, size, segment)]
        self._host.outbound(self.local, remote, payloads)
        return True

    def on_readable(self, callback: Callable[[], None]) -> None:
        self._readable = callback
        self._notify()

    def on_writable(self, callback: Callable[[], None]) -> None:
        self._writable = callback

    def close(self) -> None:
        self._open = self._full = False
        self._readable = self._writable = None
        self._inbox.clear()
        self._host.forget(self)

    def arrive(self, source: Endpoint, payloads: Sequence[bytes]) -> None:
        """From the host: datagrams of one sender, at one instant, in order."""
        for segment, train in _trains(payloads, self._host.gro):
            if not segment or self._waiting + len(train) > RECEIVE_BUFFER:
                self.dropped += 1
                continue
            self._waiting += len(train)
            self._inbox.append((source, segment, train))
        self._notify()

    def _notify(self) -> None:
        if self._inbox and self._readable is not None and not self._notified:
            self._notified = True
            # In the context of whoever bound the port: what it starts belongs to this machine, not to the sender.
            self._loop.call_soon(self._call_readable, context=self._context)

    def _call_readable(self) -> None:
        self._notified = False
        if self._readable is not None:
            self._readable()

    def _becomes_full(self, size: int) -> bool:
        """Whether `size` bytes more meet a full socket; if so, when it ends is settled too."""
        now = self._loop.time()
        self._unsent = max(0.0, self._unsent - (now - self._unsent_at) * WIRE_BYTES_S)
        self._unsent_at = now
        if self._unsent + size > SEND_BUFFER:
            pause = self._unsent / 2 / WIRE_BYTES_S
        elif self._luck.random() < self._host.full_share:
            pause = self._luck.random() * FULL_S
        else:
            self._unsent += size
            return False
        self._full = True
        self._loop.call_later(pause, self._becomes_writable, context=self._context)
        return True

    def _becomes_writable(self) -> None:
        self._full = False
        if self._writable is not None:
            self._writable()


def _trains(payloads: Sequence[bytes], gro: bool) -> list[tuple[int, bytes]]:
    """Datagrams as (segment, train): equal ones joined, a shorter one ends its train."""
    trains: list[tuple[int, bytes]] = []
    run: list[bytes] = []
    for payload in payloads:
        joins = run and gro and run[-1] and len(run[-1]) == len(run[0]) >= len(payload) > 0
        if run and not (joins and len(run) < train_limit(len(run[0]))):
            trains.append((len(run[0]), b"".join(run)))
            run = []
        run.append(payload)
    if run:
        trains.append((len(run[0]), b"".join(run)))
    return trains


def _wildcard(host: str) -> str:
    return "::" if ":" in host else "0.0.0.0"  # noqa: S104  # of the simulated host


def _is_loopback(host: str) -> bool:
    return host == "::1" or host.startswith("127.")
