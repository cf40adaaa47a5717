"""Following one of the daemon's streams of server-sent events, through restarts of the daemon.

The daemon says after each event where in the stream it is; a connection that breaks, or a daemon that stops, is tried
again from there, so that nothing is missed and nothing comes twice (`docs/reference-api.md`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from covey.base.errors import CoveyError
from covey.cli import render
from covey.cli.client import Client
from covey.cli.command import Call

__all__ = ["Frame", "follow", "frames"]

SILENCE_SECONDS = 45.0
"""Three of the daemon's keep-alive comments: a stream that is silent for longer is dead."""

PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between attempts to reach a daemon that went away; the last repeats."""

_AWAY = frozenset({"not-running", "daemon-gone", "timeout"})


class Frame(NamedTuple):
    """One event: its place in the stream, its kind and its JSON."""

    id: str
    kind: str
    data: bytes

    def decoded(self) -> Any:
        return msgspec.json.decode(self.data)


def follow(call: Call, path: str, last: str | None, on_connected: Callable[[], None] | None = None) -> Iterator[Frame]:
    """Every event of the stream at `path`, for ever. `last` is the id to begin after.

    A daemon that does not run at the beginning is an error; one that goes away later is waited for, with `--timeout`
    that long at most. `on_connected` runs at each connection, before its first event.
    """
    reached = False
    away_since: float | None = None
    tries = 0
    pause = threading.Event()
    while True:
        try:
            with Client(call.home, timeout=SILENCE_SECONDS) as client:
                for frame in frames(client.stream(path, last)):
                    if away_since is not None and not call.json:
                        render.note("the daemon is back")
                    if (not reached or away_since is not None) and on_connected is not None:
                        on_connected()
                    reached, away_since, tries = True, None, 0
                    last = frame.id or last
                    if frame.kind:
                        yield frame
        except CoveyError as error:
            if not reached or error.code not in _AWAY:
                raise
            if away_since is not None and call.timeout is not None and time.monotonic() - away_since > call.timeout:
                raise
        if away_since is None:
            away_since = time.monotonic()
            if not call.json:
                render.note("the daemon is away; going on when it is back")
        pause.wait(PAUSES[min(tries, len(PAUSES) - 1)])
        tries += 1


def frames(lines: Iterator[bytes]) -> Iterator[Frame]:
    """The frames of a stream's lines, after the HTML standard, 9.2.6, for what the daemon sends."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.rstrip(b"\r\n").partition(b": ")
        if name:
            fields[name] = value
        elif fields:
            if b"id" in fields:
                yield Frame(fields[b"id"].decode(), fields.get(b"event", b"").decode(), fields.get(b"data", b""))
            fields = {}
