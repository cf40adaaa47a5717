"""A port for each agent, kept for its life.

Below the kernel's own range for outgoing connections (32768 and up on Linux), so that none of those takes it while an
agent restarts. A counter in the fleet's home goes round, so that two pools do not choose the same before either has
bound it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
from pathlib import Path
from typing import Final

from covey.base.errors import UsageError
from covey.fleet.errors import Capacity

__all__ = ["PORTS", "free_ports", "port_range"]

PORTS: Final = (20000, 29999)


def port_range(given: str) -> tuple[int, int]:
    """First and last of "20000-20999"; `PORTS` for "". Raises `UsageError`."""
    if not given:
        return PORTS
    first, _, last = given.partition("-")
    with contextlib.suppress(ValueError):
        if 0 < int(first) <= int(last) < 1 << 16:
            return int(first), int(last)
    raise UsageError(f"{given!r} is no range of ports", code="bad-spec", next_step='ports = "20000-20999"')


def free_ports(home: Path, given: tuple[int, int], count: int) -> list[int]:
    """So many ports from the first to the last given that nothing is bound to now."""
    first, last = given
    found: list[int] = []
    descriptor = os.open(home / "ports", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        port = _number(os.read(descriptor, 16), first, last)
        for _ in range(last - first + 1):
            if len(found) == count:
                break
            port = port + 1 if port < last else first
            if _is_free(port):
                found.append(port)
        os.pwrite(descriptor, f"{port:<15}".encode(), 0)
    finally:
        os.close(descriptor)
    if len(found) < count:
        raise Capacity(
            f"no free port between {first} and {last}",
            scope="ports",
            shape="process",
            next_step='give the pool others: ports = "20000-20999"',
        )
    return found


def _number(text: bytes, first: int, last: int) -> int:
    """Another fleet on this machine begins elsewhere."""
    with contextlib.suppress(ValueError):
        if first <= int(text) <= last:
            return int(text)
    return first + secrets.randbelow(last - first + 1)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
