"""What is true of the demo's fleet, seen from outside: processes that live, jobs that wait."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from covey.fleet.toy.queue import JobQueue

__all__ = ["Facts", "Moment", "alive"]


@dataclass(frozen=True)
class Moment:
    """One look."""

    at: float
    """Seconds since the demo began."""
    arrived: int
    finished: int
    waiting: int
    workers: dict[str, int] = field(default_factory=dict)
    """Workers whose process lives, by pool."""

    @property
    def total(self) -> int:
        return sum(self.workers.values())


class Facts:
    """Looks at the fleet in `home`."""

    def __init__(self, home: Path, pools: tuple[str, ...]) -> None:
        self._pools = {pool: home / "pools" / pool for pool in pools}
        self._queue = JobQueue(home / "work" / "queue")
        self._began = time.monotonic()
        self.moments: list[Moment] = []

    def look(self) -> Moment:
        moment = Moment(
            at=time.monotonic() - self._began,
            arrived=self._queue.arrived,
            finished=self._queue.finished,
            waiting=self._queue.waiting,
            workers={pool: len(self.workers(pool)) for pool in self._pools},
        )
        self.moments.append(moment)
        return moment

    def workers(self, pool: str) -> dict[str, int]:
        """By agent, the pid."""
        found = {}
        for path in sorted((self._pools[pool] / "pids").glob("worker-*")):
            with contextlib.suppress(OSError, ValueError, KeyError):
                process = json.loads(path.read_text())
                if not process["waiting"] and alive(process["pid"], process["start"]):
                    found[path.name] = process["pid"]
        return found

    def supervisord(self, pool: str) -> int | None:
        try:
            pid = int((self._pools[pool] / "supervisord.pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if alive(pid) else None

    def everything(self, pool: str) -> list[int]:
        """All processes of a pool, its supervisord first, so that nothing is started again."""
        supervisord = self.supervisord(pool)
        found = [] if supervisord is None else [supervisord]
        for path in (self._pools[pool] / "pids").glob("*-*"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                process = json.loads(path.read_text())
                if alive(process["pid"], process["start"]):
                    found.append(process["pid"])
        return found


def alive(pid: int, start: int | None = None) -> bool:
    """A process of that number that is no zombie and, if told, began at that tick."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] != b"Z" and os.getsid(pid) >= 0 and start in {None, int(fields[19])}
