"""Plain UDP sockets on both sides of a box: what RFC 4787 says of it, asked packet by packet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from covey.lab import Machine

SECONDS = 5.0
"""For what must arrive; a busy machine needs some."""
SILENCE = 0.05
"""For what must not. A packet that crosses namespaces is there before `sendto` returns, unless the kernel is busy."""

Address = tuple[str, int]


@contextmanager
def udp(machine: Machine, *ports: int, host: str = "") -> Iterator[list[socket.socket]]:
    """Sockets bound to those ports of the machine's first address, or of `host`."""
    host = host or machine.ip or machine.ip6
    sockets = machine.sockets(len(ports), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
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
    while True:
        data, source = outside.recvfrom(2048)
        if data == b"who":
            return source[0], source[1]


def passes(sender: socket.socket, to: Address, receiver: socket.socket, data: bytes = b"knock") -> bool:
    """Sends; True once it arrives. TimeoutError if it does not."""
    sender.sendto(data, to[:2])
    while receiver.recv(65535) != data:
        pass
    return True


def is_lost(sender: socket.socket, to: Address, receiver: socket.socket, data: bytes = b"lost") -> bool:
    """Sends; whether nothing of it arrives."""
    receiver.settimeout(SILENCE)
    sender.sendto(data, to[:2])
    try:
        while receiver.recv(65535) != data:
            pass
    except TimeoutError:
        return True
    else:
        return False
    finally:
        receiver.settimeout(SECONDS)
