"""The datagram socket in the fleet's home by which a command wakes the controller at once. What it says is nothing:
whoever is woken reads the store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from covey.base.errors import StorageError

__all__ = ["Nudged", "nudge"]


class Nudged:
    """Listens at `path` until `close`; `wake` is called for each burst of datagrams. For the controller that leads:
    whatever was bound there before is dead."""

    def __init__(self, path: Path, wake: Callable[[], None]) -> None:
        self._path = path
        self._wake = wake
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            path.unlink(missing_ok=True)
            with _short(path) as name:
                self._socket.bind(name)
            path.chmod(0o600)
        except OSError as error:
            self._socket.close()
            raise StorageError(f"{path}: {error.strerror}", code="fleet-home") from error
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._on_readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _on_readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(1)
        self._wake()


def nudge(path: Path) -> bool:
    """Wake whoever listens at `path`. False: nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sender:
        try:
            with _short(path) as name:
                sender.connect(name)
            sender.send(b"!")
        except BlockingIOError:
            return True  # it has enough of them
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of `path` that fits into a socket's address, however deep the folder is: by the folder's descriptor."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
