"""Who is on the other end of a Unix socket, as the kernel says it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys

__all__ = ["is_own_user", "peer_uid"]

_UCRED = struct.Struct("iII")
"""Linux `struct ucred`: pid, uid, gid; see unix(7), SO_PEERCRED."""

_XUCRED = struct.Struct("IIh16I")
"""macOS `struct xucred`: version, uid, number of groups, groups; <sys/ucred.h>."""

_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1
"""macOS, <sys/un.h>; Python has no names for them."""


def peer_uid(connection: socket.socket) -> int:
    """The user id of the process that connected. Raises `OSError` where the system cannot tell."""
    if sys.platform == "darwin":
        raw = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size)
        return int(_XUCRED.unpack_from(raw.ljust(_XUCRED.size, b"\0"))[1])
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(raw)[1])


def is_own_user(transport: asyncio.BaseTransport, *, own_uid: int | None = None) -> bool:
    """True if the connection comes from the user this process runs as; anything unclear is False."""
    connection = transport.get_extra_info("socket")
    try:
        return peer_uid(connection) == (os.getuid() if own_uid is None else own_uid)
    except (OSError, AttributeError):
        return False
