"""What a local pool keeps on disk: which agents there should be, and what each is made of.

::

    POOL/                    0700
      agents/ID.conf         supervisord reads these: an agent is wanted exactly as long as its file is here
      agents/ID.json         what `launch` reads: command, environment, port
      drain/ID               it was told to finish, and when
      ready/ID               when its probe first succeeded
      pids/ID                its process, written by `launch`
      logs/ID.log            what it printed, rotated by supervisord
      epoch                  the highest fencing epoch that gave an order
      lock                   held (flock) while something is changed, by whichever process
      halt                   made by a person: the pool is not brought up (for drills)

Beside the pools, `.counter` has the number of the last agent of any of them: ids are never used again.

Every change is one `rename` or `unlink`, so that whoever dies in between leaves a state that the next look repairs.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from covey.fleet.errors import Permanent

__all__ = ["Directory", "Marks", "Record", "agent_number", "check_name"]

LARGEST_RECORD: Final = 256 << 10
"""Bytes of one agent's file; a command and environment beyond this are a mistake (the kernel's limit is 2 MiB)."""

LOGS_KEPT: Final = 50
"""Log files of agents that ended, newest first; with 1 MiB and one older file each, at most 100 MiB for a pool."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is made of, fixed when it is ordered."""

    id: str
    workload: str
    version: str
    offering: str
    started_at: float
    port: int
    command: tuple[str, ...]
    env: dict[str, str]
    secrets: dict[str, str] = {}
    """By variable: where its value is; resolved by `launch` in the agent's process, never stored."""
    directory: str
    cpu: float
    memory: int
    grace: float
    plan: str = ""
    epoch: int = 0
    cgroups: tuple[str, ...] = ()


class Process(msgspec.Struct, frozen=True):
    """Which process an agent runs as. The start tells it from another that got the same pid later."""

    pid: int
    start: int
    """Field 22 of /proc/PID/stat, clock ticks since boot; 0: unknown."""
    waiting: bool = False
    """It was drained and ended by itself; what runs is only its place holder."""


class Marks(msgspec.Struct, frozen=True):
    """What happened to agents, by id; times of day."""

    draining: dict[str, float]
    """Who was told to finish, and when."""
    ready: dict[str, float]
    """When its probe first succeeded."""
    waiting: frozenset[str]
    """Drained, and ended by itself."""


class Directory:
    """The files of one pool. Opened by the provider, under `lock` for changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[str, Record] = {}
        """Those that were read: a record never changes."""

    def make(self) -> None:
        """Private to this user, however it was."""
        for directory in (self.path, *(self.path / name for name in ("agents", "drain", "ready", "pids", "logs"))):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """False when another process holds it."""
        import fcntl

        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    @property
    def halted(self) -> bool:
        return (self.path / "halt").exists()

    def wanted(self) -> dict[str, Record]:
        """The agents there should be, oldest first. A file that cannot be read is as good as none: its agent is
        ended."""
        found = {}
        for name in sorted(self._names("agents", ".conf"), key=agent_number):
            record = self.record(name)
            if record is not None:
                found[name] = record
        return found

    def record(self, agent: str) -> Record | None:
        """Also of an agent that is not wanted any more, as long as it runs."""
        if agent not in self._records:
            try:
                data = _read(self.path / "agents" / f"{agent}.json")
                self._records[agent] = msgspec.json.decode(data, type=Record)
            except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                return None
        return self._records[agent]

    def write(self, record: Record, section: str) -> None:
        """Want it. The record first: whoever sees the section finds the record."""
        data = msgspec.json.encode(record)
        if len(data) > LARGEST_RECORD:
            raise Permanent(
                f"the command and environment of {record.workload} are {len(data)} bytes, too many to start"
            )
        _replace(self.path / "agents" / f"{record.id}.json", data)
        self.write_section(record.id, section)

    def write_section(self, agent: str, section: str) -> None:
        _replace(self.path / "agents" / f"{agent}.conf", section.encode())

    def unwant_unreadable(self) -> None:
        """Sections without a record: an agent that nobody can start, and supervisord would not start for it."""
        for agent in self._names("agents", ".conf"):
            if self.record(agent) is None:
                self.unwant(agent)

    def unwant(self, agent: str) -> None:
        (self.path / "agents" / f"{agent}.conf").unlink(missing_ok=True)

    def forget(self, agent: str) -> None:
        """It has ended: nothing of it stays but its log."""
        self._records.pop(agent, None)
        for where in (
            f"agents/{agent}.conf",
            f"agents/{agent}.json",
            f"drain/{agent}",
            f"ready/{agent}",
            f"pids/{agent}",
        ):
            (self.path / where).unlink(missing_ok=True)
        self._prune_logs()

    def marks(self) -> Marks:
        waiting = frozenset(agent for agent, process in self.processes().items() if process.waiting)
        return Marks(draining=self._times("drain"), ready=self._times("ready"), waiting=waiting)

    def drain(self, agent: str, now: float) -> None:
        """The first word counts: the grace runs from it."""
        path = self.path / "drain" / agent
        if not path.exists():
            _replace(path, repr(now).encode())

    def set_ready(self, agent: str, now: float) -> None:
        _replace(self.path / "ready" / agent, repr(now).encode())

    def processes(self) -> dict[str, Process]:
        found = {}
        for name in self._names("pids", ""):
            with contextlib.suppress(OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                found[name] = msgspec.json.decode(_read(self.path / "pids" / name), type=Process)
        return found

    def next_ids(self, workload: str, count: int) -> list[str]:
        """Written before anybody uses them, so that no id is ever given twice, whatever happens in between. The pools
        of one home share the numbers, since agents report by their id alone."""
        import fcntl

        path = self.path.parent / ".counter"
        descriptor = os.open(self.path.parent / ".counter.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            last = max(self._given(), default=0)
            with contextlib.suppress(OSError, ValueError):
                last = max(last, int(_read(path)))
            _replace(path, str(last + count).encode(), durable=True)
        finally:
            os.close(descriptor)
        return [f"{workload}-{number:06d}" for number in range(last + 1, last + count + 1)]

    def _given(self) -> Iterator[int]:
        """Numbers that are still seen in any pool: the counter may have been lost."""
        for kind in ("agents", "pids", "logs"):
            for path in self.path.parent.glob(f"*/{kind}/*"):
                yield agent_number(path.name.partition(".")[0])

    def admit(self, epoch: int) -> int | None:
        """None when a leader of `epoch` may give orders here, else the epoch of the one who replaced it."""
        path = self.path / "epoch"
        highest = 0
        with contextlib.suppress(OSError, ValueError):
            highest = int(_read(path))
        if epoch < highest:
            return highest
        if epoch > highest:
            _replace(path, str(epoch).encode(), durable=True)
        return None

    def _names(self, kind: str, suffix: str) -> list[str]:
        names = os.listdir(self.path / kind)
        return [name.removesuffix(suffix) for name in names if name.endswith(suffix) and not name.startswith(".")]

    def _times(self, kind: str) -> dict[str, float]:
        found = {}
        for name in self._names(kind, ""):
            with contextlib.suppress(OSError, ValueError):
                found[name] = float(_read(self.path / kind / name))
        return found

    def _prune_logs(self) -> None:
        kept = set(self._names("agents", ".json"))
        over = [name for name in os.listdir(self.path / "logs") if name.partition(".")[0] not in kept]
        over.sort(key=lambda name: (agent_number(name.partition(".")[0]), name), reverse=True)
        for name in over[2 * LOGS_KEPT :]:
            (self.path / "logs" / name).unlink(missing_ok=True)


def check_name(name: str, what: str) -> str:
    """`name` itself if it may be part of a file's name and of supervisord's configuration."""
    if _NAME.fullmatch(name) is None:
        raise Permanent(
            f"{name!r} cannot be the name of a {what} on a local pool",
            next_step="use letters, digits, - and _, beginning with a letter or digit",
        )
    return name


def agent_number(agent: str) -> int:
    """The number at the end of an id; 0 for what is none."""
    digits = agent.rpartition("-")[2]
    return int(digits) if digits.isdecimal() and len(digits) < 19 else 0


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST_RECORD + 1)


def _replace(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Whole or not at all. `durable`: on disk before anybody acts on it; what is lost with the power otherwise is only
    what dies with it, agents."""
    temporary = path.parent / f".{path.name}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)
