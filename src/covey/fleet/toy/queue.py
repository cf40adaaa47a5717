"""A queue that is a directory, for any number of processes on one machine.

::

    QUEUE/new/NAME      a job that waits; the file's time is when it came
    QUEUE/taken/NAME    somebody works on it; the file's time is when it was taken
    QUEUE/arrived       as many bytes as jobs ever came
    QUEUE/finished      as many bytes as jobs were ever finished

Whoever can rename a job from `new` to `taken` has it. A worker that dies leaves its job in `taken`, from where anybody
puts it back after `LEASE` seconds. A counter is the length of a file that everybody appends one byte to: no lock, and
nothing lost when a process is killed. A shell can put jobs, too: `touch queue/new/1 && printf x >> queue/arrived`.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["LEASE", "Job", "JobQueue"]

LEASE: Final = 10.0
"""Seconds after which a job that was taken and not finished is given to another."""

ARRIVED: Final = "arrived"
FINISHED: Final = "finished"


class Job(NamedTuple):
    """A job that was taken."""

    name: str
    came_at: float
    """Seconds since 1970."""


class JobQueue:
    """The directory at `path`; it is made when it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("new", "taken"):
            (path / name).mkdir(parents=True, exist_ok=True)

    def put(self, name: str) -> None:
        """One more job. The count first: a reader must not see a job that did not arrive."""
        self._count(ARRIVED)
        (self.path / "new" / name).touch(exist_ok=False)

    def take(self, now: float) -> Job | None:
        """The oldest job by name, or None. Two workers never get the same."""
        for name in sorted(os.listdir(self.path / "new")):
            waiting, taken = self.path / "new" / name, self.path / "taken" / name
            with contextlib.suppress(FileNotFoundError):
                came_at = waiting.stat().st_mtime
                waiting.rename(taken)
                os.utime(taken, (now, now))
                return Job(name, came_at)
        return None

    def finish(self, job: Job) -> bool:
        """False when another one has it by now: it took longer than `LEASE`."""
        try:
            (self.path / "taken" / job.name).unlink()
        except FileNotFoundError:
            return False
        self._count(FINISHED)
        return True

    def put_back(self, now: float) -> int:
        """Jobs whose worker died wait again. Returns how many."""
        back = 0
        for name in os.listdir(self.path / "taken"):
            taken = self.path / "taken" / name
            with contextlib.suppress(FileNotFoundError):
                if now - taken.stat().st_mtime > LEASE:
                    taken.rename(self.path / "new" / name)
                    back += 1
        return back

    def made_at(self) -> float:
        """When this queue was first used, seconds since 1970."""
        mark = self.path / "made"
        with contextlib.suppress(FileExistsError):
            mark.touch(exist_ok=False)
        return mark.stat().st_mtime

    @property
    def waiting(self) -> int:
        return len(os.listdir(self.path / "new"))

    @property
    def arrived(self) -> int:
        return self._counted(ARRIVED)

    @property
    def finished(self) -> int:
        return self._counted(FINISHED)

    def _count(self, which: str) -> None:
        descriptor = os.open(self.path / which, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b".")
        finally:
            os.close(descriptor)

    def _counted(self, which: str) -> int:
        try:
            return (self.path / which).stat().st_size
        except FileNotFoundError:
            return 0
