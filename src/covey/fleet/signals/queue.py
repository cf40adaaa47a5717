"""The signal `queue`: how many jobs came, and how many wait.

``source`` is one of

- a directory, as `covey.fleet.toy.queue` describes: files below ``new`` wait, the length of ``arrived`` and
  ``finished`` counts. A directory without ``new`` is a plain spool: its own files wait.
- a file or an ``http://`` or ``https://`` address with JSON: ``{"backlog": 12, "arrivals": 4711,
  "completions": 4699}``, the last two counters that only grow. A bare number is a backlog. `backlog_field` names
  another field than ``backlog``, with dots for fields within fields.
- ``sqs:NAME``: a queue of AWS (`covey.fleet.signals.sqs`).

A relative path begins at the directory that local agents run in. Counters become rates between two readings; a smaller
one than before means that it began anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from covey.base.errors import UsageError
from covey.fleet.errors import Permanent, Temporary
from covey.fleet.model import Agent, Reading
from covey.fleet.providers.registry import Surroundings
from covey.fleet.signals.base import Source
from covey.fleet.signals.fetch import fetch
from covey.fleet.signals.rates import MOST, Rate
from covey.fleet.spec.types import Target, Workload

__all__ = ["QueueSource", "make"]

TIMEOUT: Final = 2.0
LARGEST_FILE: Final = 64 << 10
MOST_FILES: Final = 1_000_000
"""Of a spool that is counted; beyond this it is read as so many."""


class Counted(msgspec.Struct, frozen=True):
    """One look at a queue: what waits, and two counters."""

    backlog: float | None = None
    arrivals: float | None = None
    completions: float | None = None


def make(workload: Workload, target: Target, surroundings: Surroundings) -> Source:
    """Raises `UsageError` for a source that is none."""
    if target.source.startswith("sqs:"):
        from importlib import import_module

        made: Source = import_module("covey.fleet.signals.sqs").make(workload, target, surroundings)
        return made
    if not target.source:
        raise UsageError(
            f"workloads.{workload.name}: the signal `queue` needs a source",
            code="bad-spec",
            next_step='say where the queue is: source = "DIRECTORY", an http:// address, or "sqs:NAME"',
        )
    return QueueSource(target, surroundings)


class QueueSource:
    """One queue, one part: ""."""

    def __init__(self, target: Target, surroundings: Surroundings) -> None:
        self.every = target.every
        self._target = target
        self._timeout = float(target.settings.get("timeout") or TIMEOUT)
        self._work = surroundings.home / "work"
        self._arrivals, self._completions = Rate(), Rate()
        self._looking: asyncio.Task[Counted] | None = None

    async def read(self, agents: Sequence[Agent], now: float) -> dict[str, Reading]:
        source = self._target.source
        if source.startswith(("http://", "https://")):
            counted = self._parse_untrusted(await fetch(source, timeout=self._timeout))
        else:
            counted = await self._look_in_time(self._work / source.removeprefix("file:"))
        return {
            "": Reading(
                at=now,
                backlog=counted.backlog,
                arrivals=self._arrivals.next(counted.arrivals, now),
                completions=self._completions.next(counted.completions, now),
                interval=self.every,
            )
        }

    async def _look_in_time(self, path: Path) -> Counted:
        """One look at a time: a file system that hangs holds one thread, and no more."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(asyncio.to_thread(self._look, path))
        done, _ = await asyncio.wait([self._looking], timeout=self._timeout)
        if not done:
            raise Temporary(f"the queue {path} cannot be read: it takes too long")
        try:
            return self._looking.result()
        except OSError as error:
            raise Temporary(f"the queue {path} cannot be read: {error.strerror or error}") from error

    def _look(self, path: Path) -> Counted:
        if not path.is_dir():
            # Not blocking, since it may be a pipe that nobody writes.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise Permanent(f"the queue {path} is neither a file nor a directory")
                return self._parse_untrusted(file.read(LARGEST_FILE + 1))
        spool = path / "new" if (path / "new").is_dir() else path
        return Counted(
            backlog=_files(spool), arrivals=_length(path / "arrived"), completions=_length(path / "finished")
        )

    def _parse_untrusted(self, data: bytes) -> Counted:
        if len(data) > LARGEST_FILE:
            raise Permanent(f"what {self._target.source} says is longer than {LARGEST_FILE} bytes")
        try:
            said: Any = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Permanent(f"what {self._target.source} says is not JSON: {error}") from error
        if not isinstance(said, dict):
            return Counted(backlog=_number(said, self._target.source, "its answer"))
        field = str(self._target.settings.get("backlog_field") or "backlog")
        backlog: Any = said
        for name in field.split("."):
            backlog = backlog.get(name) if isinstance(backlog, dict) else None
        found = {"backlog": backlog, "arrivals": said.get("arrivals"), "completions": said.get("completions")}
        if found["backlog"] is None and found["arrivals"] is None:
            raise Permanent(
                f"what {self._target.source} says has no {field!r}",
                next_step="name the field that has the number of waiting jobs: backlog_field = ...",
            )
        numbers = {
            name: None if value is None else _number(value, self._target.source, name) for name, value in found.items()
        }
        return Counted(**numbers)

    async def close(self) -> None:
        return None


def _number(value: Any, source: str, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise Permanent(f"what {source} says of {name} is not a number from 0 up")
    return float(value)


def _files(path: Path) -> int:
    """Files that wait; those that begin with a dot are being written."""
    count = 0
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not entry.is_dir(follow_symlinks=False):
                count += 1
                if count >= MOST_FILES:
                    break
    return count


def _length(path: Path) -> float | None:
    with contextlib.suppress(FileNotFoundError):
        return float(path.stat().st_size)
    return None
