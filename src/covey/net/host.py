"""The seam between Covey and the world: what a node may ask for, and nothing else.

`net.real.RealHost` answers with sockets, clocks and one writer thread; `covey.testing.SimHost` answers from
a virtual clock and a seeded network. Code above this line cannot tell which one it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

__all__ = ["PAYLOAD_LIMIT", "TRAIN_LIMIT", "Host", "UdpPort", "Watch", "WebSocket", "train_limit"]

T = TypeVar("T")

TRAIN_LIMIT: Final = 64
"""Most datagrams in one train. Linux' UDP_MAX_SEGMENTS before 6.9 (PROTOCOL 27)."""

PAYLOAD_LIMIT: Final = 65_507
"""Most bytes in one train: 65,535 minus the IPv4 and UDP headers (PROTOCOL 27)."""


def train_limit(segment: int) -> int:
    """How many datagrams of `segment` bytes (1 to 65,507) one train may hold: 45 at 1452, 7 at 8900."""
    return min(TRAIN_LIMIT, PAYLOAD_LIMIT // segment)


class UdpPort(Protocol):
    """One bound, non-blocking UDP socket that speaks in trains.

    A train is equal datagrams for (or from) one address in one buffer; only the last may be shorter. A port
    never waits and, after it was bound, never raises for what the network does: what cannot be sent is
    lost, as on a wire. A closed port receives nothing and loses what it is given.
    """

    local: tuple[str, int]
    """The bound address, with the real port where 0 was asked for."""

    dropped: int
    """Trains and datagrams this port lost itself: errors of a destination, empty datagrams. Only grows."""

    def receive(self) -> tuple[memoryview, int, tuple[str, int]] | None:
        """One received train: (bytes, segment size in bytes, sender), or None when nothing waits.

        The bytes are writable and valid until the next `receive()` on this port. The segment is
        `len(bytes)` for a single datagram, and never 0. Call until None: `on_readable` need not repeat
        itself for what is left.
        """
        ...

    def send(self, train: memoryview, segment: int, remote: tuple[str, int]) -> bool:
        """Send one train of datagrams of `segment` bytes, at most `train_limit(segment)` of them.

        `remote` holds an IP literal of this port's family (a host name would be looked up, blocking).
        False: the socket is full, nothing was sent, `on_writable` will be called once; the caller keeps the
        train. Errors that only concern this destination (ECONNREFUSED, ENETUNREACH, EPERM, EMSGSIZE ...)
        are loss, counted in `dropped`.
        """
        ...

    def on_readable(self, callback: Callable[[], None]) -> None:
        """Call `callback` from the event loop when trains wait. One callback; a second call replaces it."""
        ...

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Call `callback` once after each `send` that returned False, when it is worth trying again."""
        ...

    def close(self) -> None:
        """Close now; no callback after this. Closing twice is fine."""
        ...


class WebSocket(UdpPort, Protocol):
    """A port that is one connection: it has one remote, loses nothing, and ends. See `net.websocket`."""

    remote: tuple[str, int]
    """Who is at the other end."""
    congested: bool
    """What is sent now waits; what is sent in spite of that may be lost."""
    send_limit: int
    """Bytes that may wait in it, whoever sends; more is lost."""
    problem: str
    """Why it ended."""

    def hold(self) -> None:
        """Receives nothing until `release`: its other end has to wait."""
        ...

    def release(self) -> None: ...

    def on_congestion(self, callback: Callable[[bool], None]) -> None:
        """Call `callback(full)` when `congested` changes."""
        ...

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Call `callback` from the event loop, once, when the connection ended and not by `close`."""
        ...


class Watch(Protocol):
    """Somebody is told of something, until it is closed."""

    def close(self) -> None:
        """No callback after this. Closing twice is fine."""
        ...


class Host(Protocol):
    """What a node gets of the world."""

    def now(self) -> float:
        """Seconds on a clock that only goes forward and includes suspend. Its zero means nothing."""
        ...

    def wall_us(self) -> int:
        """Microseconds since the epoch, as far as this machine knows: it may be wrong and it may jump."""
        ...

    def random(self, size: int) -> bytes:
        """`size` bytes fit for keys."""
        ...

    def udp(self, address: tuple[str, int]) -> UdpPort:
        """Bind a port to an IP literal of this machine (port 0: any free one).

        Raises `StateError` (`address-in-use`), `UsageError` (`address-not-local`) or `UnreachableError`
        (`bind-failed`).
        """
        ...

    def shared_udp(self, address: tuple[str, int]) -> UdpPort | None:
        """Bind a port that other programs of this machine listen at too, for what is told to everybody on the local
        network. None where that cannot be."""
        ...

    def gateways(self) -> list[str]:
        """IP literals of the routers of the default routes, IPv4's best and IPv6's best, as far as the system tells.

        A link-local one carries its interface, as a sender's address does (`fe80::1%2`).
        """
        ...

    async def websocket(self, remote: tuple[str, int]) -> WebSocket:
        """An open connection to a rendezvous' WebSocket at `remote`, a host name or IP literal and a port.

        Through the proxy that the environment names, if any. Raises `UnreachableError` and `UsageError` (`bad-proxy`).
        """
        ...

    def spare_ports(self) -> int:
        """How many more ports may be bound without leaving too little for everything else."""
        ...

    async def blocking(self, function: Callable[[], T]) -> T:
        """Run storage work that would stall the event loop; its result or its exception.

        Really one writer thread, first come first served, so that whoever waits behind a commit can share
        the next one; simulated, inline. A call cancelled before its turn never runs; one cancelled later
        runs to its end.
        """
        ...

    def source_address(self, remote: tuple[str, int]) -> str | None:
        """The local IP that packets to `remote` (IP literal) would leave from, or None. Sends nothing."""
        ...

    def watch_network(self, callback: Callable[[], None]) -> Watch | None:
        """Call `callback` from the running loop whenever addresses or routes of this machine may have changed.

        It may be called in vain, and often. None where the system does not tell.
        """
        ...

    def local_addresses(self) -> list[str]:
        """IP literals at which other machines may reach this one, of every interface; [] if the system does not tell.

        No loopback and no link-local ones.
        """
        ...

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        """UDP endpoints of a host name, in the system's order of preference, without duplicates.

        An IP literal passes through, normalised, without any look-up. Raises `UnreachableError`
        (`host-not-found`).
        """
        ...
