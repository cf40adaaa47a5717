"""Unix listening sockets: made privately, a dead process' leftovers replaced, taken away at the end.

The caller holds the profile's lock (the node took it when it started), so a socket file that is already there
belongs to a process that was killed: nobody alive may answer on it.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from covey.base.errors import StorageError

__all__ = ["listen", "remove"]

BACKLOG = 128


def listen(path: Path) -> socket.socket:
    """A non-blocking listener at `path`, mode 0600. Raises `StorageError` if something else than a socket is
    there."""
    remove(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(os.fspath(path))
        os.chmod(path, 0o600)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StorageError(f"cannot listen on {path}: {error.strerror or error}", code="socket") from error
    return listener


def remove(path: Path) -> None:
    """Remove the socket at `path`, if there is one. Never removes anything but a socket."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"cannot look at {path}: {error.strerror or error}", code="socket") from error
    if not stat.S_ISSOCK(mode):
        raise StorageError(
            f"{path} is in the way: it is not a socket",
            code="socket",
            next_step=f"move it away: mv {path} {path}.old",
        )
    path.unlink(missing_ok=True)
