"""Reading the daemon's log file: its last lines, and what is added."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from covey.cli import render

__all__ = ["follow", "for_people", "tail"]

POLL_SECONDS = 0.25
"""How often a followed log is looked at."""


def tail(path: Path, count: int) -> list[str]:
    """The last `count` lines; none if there is no log yet."""
    try:
        with path.open("rb") as file:
            return [_text(line) for line in deque(file, maxlen=count)]
    except FileNotFoundError:
        return []


def follow(path: Path) -> Iterator[str]:
    """Lines as they are added, for ever, across rotations."""
    pause = threading.Event()
    file = _open_at_end(path)
    partial = b""
    try:
        while True:
            if file is not None and (piece := file.readline()):
                partial += piece
                if partial.endswith(b"\n"):
                    yield _text(partial)
                    partial = b""
                continue
            pause.wait(POLL_SECONDS)
            if file is None or _rotated(path, file):
                if file is not None:
                    file.close()
                file = _open(path)
                partial = b""
    finally:
        if file is not None:
            file.close()


def for_people(line: str) -> str:
    """One JSON line as `time level event key=value`; anything else as it is."""
    try:
        event = json.loads(line)
    except ValueError:
        return render.safe(line)
    if not isinstance(event, dict):
        return render.safe(line)
    head = [str(event.pop(key, "")) for key in ("time", "level", "event")]
    event.pop("logger", None)
    trace = event.pop("exception", "")
    rest = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in event.items()]
    text = render.safe("  ".join([*head, *rest]))
    return f"{text}\n{render.safe(str(trace), newlines=True)}" if trace else text


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\n")


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _open_at_end(path: Path) -> BinaryIO | None:
    file = _open(path)
    if file is not None:
        file.seek(0, os.SEEK_END)
    return file


def _rotated(path: Path, file: BinaryIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False
