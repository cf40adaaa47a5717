"""Plain UDP sockets on both sides of a box: what RFC 4787 says of it, asked packet by packet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from covey.lab import Machine

SECONDS = 5.0
"""For what must arrive; a busy machine needs some."""
SILENCE = 0.3
"""For what must not."""

Address = tuple[str, int]


@contextmanager
def udp(machine: Machine, *ports: int) -> Iterator[list[socket.socket]]:
    """Sockets bound to those ports (0: any) of the machine's first address."""
    host = machine.ip or machine.ip6
    family = socket.AF_INET if machine.ip else socket.AF_INET6
    sockets = machine.sockets(len(ports), family=family)
    try:
        for each, port in zip(sockets, ports, strict=True):
            each.bind((host, port))
            each.settimeout(SECONDS)
        yield sockets
    finally:
        for each in sockets:
            each.close()


def seen(inside: socket.socket, outside: socket.socket) -> Address:
    """Sends from inside; the source that the outside sees."""
    inside.sendto(b"who", outside.getsockname()[:2])
    data, source = outside.recvfrom(2048)
    assert data == b"who"
    return source[0], source[1]


def passes(sender: socket.socket, to: Address, receiver: socket.socket, data: bytes = b"knock") -> bool:
    """Whether a datagram arrives."""
    receiver.settimeout(SILENCE)
    sender.sendto(data, to)
    try:
        while True:
            if receiver.recv(65535) == data:
                return True
    except TimeoutError:
        return False
    finally:
        receiver.settimeout(SECONDS)
