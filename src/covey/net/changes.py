"""Hearing from Linux that this machine's addresses or routes may have changed (rtnetlink, rtnetlink(7)).

What the kernel says is not read, only that it says something: whoever listens looks for himself at what he depends on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

__all__ = ["NetworkWatch", "watch_network"]

_LINK: Final = 0x1
_IPV4_ADDRESS: Final = 0x10
_IPV4_ROUTE: Final = 0x40
_IPV6_ADDRESS: Final = 0x100
_IPV6_ROUTE: Final = 0x400
_GROUPS: Final = _LINK | _IPV4_ADDRESS | _IPV4_ROUTE | _IPV6_ADDRESS | _IPV6_ROUTE
"""RTMGRP_* of linux/rtnetlink.h."""
_PIECE: Final = 65_536
_READS: Final = 64
"""Messages taken at a time. A machine that changes faster than that may be heard of again at once."""


class NetworkWatch:
    """A netlink socket in the running loop: `callback` is called after each burst of news. Close it in the end."""

    def __init__(self, socket_: socket.socket, callback: Callable[[], None]) -> None:
        self._socket = socket_
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(socket_, self._read)

    def _read(self) -> None:
        for _ in range(_READS):
            try:
                self._socket.recv(_PIECE)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                break  # ENOBUFS: there was more than the kernel kept for us, so something changed
        self._callback()

    def close(self) -> None:
        """No callback after this. Closing twice is fine."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()


def watch_network(callback: Callable[[], None]) -> NetworkWatch | None:
    """Calls `callback` in the running loop whenever something may have changed. None where no one tells."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None
    try:
        link = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    except OSError:
        return None  # a sandbox without netlink
    try:
        link.bind((0, _GROUPS))
        return NetworkWatch(link, callback)
    except (OSError, NotImplementedError):
        with contextlib.suppress(OSError):
            link.close()
        return None
