"""Which decisions are worth a record, and the file that has one a line.

A turn every 5 s decides mostly what the last one did. A decision is recorded when anything in it differs from the last
recorded one of its workload other than the time and the noise of its inputs, and at least once a minute.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from covey.fleet.model import Decision

__all__ = ["DecisionLog", "News"]

EVERY: Final = 60.0
"""s between records of a workload about which nothing changes."""
LOG_BYTES: Final = 64 << 20
"""Of the decision log, after which it begins anew; the one before is kept beside it."""


class News:
    """Tells what is new in decisions."""

    def __init__(self) -> None:
        self._last: dict[str, Decision] = {}

    def worth(self, decisions: Iterable[Decision]) -> list[Decision]:
        """Those to be recorded. They count as recorded only when `recorded` says so: the write may fail."""
        return [decision for decision in decisions if self._new(decision)]

    def recorded(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            self._last[decision.workload] = decision

    def _new(self, decision: Decision) -> bool:
        last = self._last.get(decision.workload)
        return (
            last is None
            or decision.at - last.at >= EVERY
            or bool(decision.steps)
            or decision.held != last.held
            or decision.mode != last.mode
            or decision.agents != last.agents
            or decision.shortfalls != last.shortfalls
            or (decision.wanted.agents, decision.wanted.burst) != (last.wanted.agents, last.wanted.burst)
            or (decision.route.localities if decision.route else {}) != (last.route.localities if last.route else {})
        )


class DecisionLog:
    """JSON lines, appended; what cannot be written there is in the store all the same, so a full disk stops nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem = ""
        """Why the last line was not written; "" when it was."""

    def write(self, decisions: Iterable[Decision]) -> None:
        lines = b"".join(msgspec.json.encode(decision) + b"\n" for decision in decisions)
        if not lines:
            return
        try:
            self._turn_over()
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with contextlib.closing(os.fdopen(file, "ab", buffering=0)) as stream:
                stream.write(lines)
            self.problem = ""
        except OSError as error:
            self.problem = f"{self._path}: {error.strerror}"

    def _turn_over(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size >= LOG_BYTES:
                self._path.replace(self._path.with_suffix(".1.jsonl"))
