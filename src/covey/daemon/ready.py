"""How a starting daemon tells its parent that it is ready, or why it is not.

One JSON line on the inherited pipe: `{"schema":1,"ok":true,"data":NodeView}` or
`{"schema":1,"ok":false,"status":N,"error":ErrorView}` with the HTTP status that the API would give this
error, then end of file. End of file alone means that the process died before it could say anything.
"""

from __future__ import annotations

import contextlib
import os
import sys

import msgspec

from covey.base.failures import error_status, error_view
from covey.base.schema import SCHEMA_VERSION, NodeView

__all__ = ["Starter"]


class Starter:
    """The party that waits for this daemon: a pipe, or in the foreground the reader of our standard
    output."""

    def __init__(self, status_fd: int | None, *, foreground: bool = False, json: bool = False) -> None:
        self._status_fd = status_fd
        self._foreground = foreground
        self._json = json

    def ready(self, view: NodeView) -> None:
        self._pipe({"schema": SCHEMA_VERSION, "ok": True, "data": view})
        if self._foreground:
            data = msgspec.json.encode({"schema": SCHEMA_VERSION, "ok": True, "data": view}).decode()
            self._print(data if self._json else f"{view.name} is up  address {view.address}  identity {view.identity}")

    def failed(self, error: BaseException) -> None:
        view = error_view(error)
        self._pipe({"schema": SCHEMA_VERSION, "ok": False, "status": error_status(error), "error": view})
        if self._foreground and self._json:
            self._print(msgspec.json.encode({"schema": SCHEMA_VERSION, "ok": False, "error": view}).decode())
        elif self._status_fd is None or self._foreground:
            print(f"error: {view.message} ({view.code})", file=sys.stderr)
            if view.next_step:
                print(f"next: {view.next_step}", file=sys.stderr)

    def _pipe(self, message: object) -> None:
        if self._status_fd is None:
            return
        fd, self._status_fd = self._status_fd, None
        try:
            os.write(fd, msgspec.json.encode(message) + b"\n")
        except OSError:
            pass  # the starter gave up waiting; the daemon does not depend on it
        finally:
            os.close(fd)

    @staticmethod
    def _print(line: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads our output
            print(line, flush=True)
