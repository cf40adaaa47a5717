"""The demo's processes: the real `covey`, in one temporary directory, and nothing left of it afterwards.

Every process runs in a session of its own, so that Ctrl-C in the terminal reaches the demo alone, which then
ends what it started: the rendezvous and the command under way are its children, and a daemon is whoever holds
the lock of a profile inside the temporary directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from scripts.demo.api import Api
from scripts.demo.checks import Failed
from scripts.demo.display import Display
from scripts.processes import Handle

__all__ = ["Stage", "resident_megabytes"]

COMMAND_SECONDS = 60.0
START_SECONDS = 12.0
"""`covey daemon start` gives up after ten."""
TERM_SECONDS = 8.0
"""How long a process may take to end by itself before it is killed."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOGS = Path(__file__).resolve().parents[2] / "build/demo-logs"
"""Where the logs go when a step failed."""


class Stage:
    """The temporary directory and everything that runs in it: `open`, use, and `close` whatever happened."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.home = Path()
        self._children: list[subprocess.Popen[str]] = []
        self._environment: dict[str, str] = {}
        self._covey = str(Path(sys.executable).with_name("covey"))
        self._busy = False
        self._interrupted = False

    def open(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        roomy = len(tempfile.gettempdir()) < 40  # the path of a Unix socket has at most 100 bytes
        with self._uninterrupted():
            self.home = Path(tempfile.mkdtemp(prefix="covey-demo-", dir=None if roomy else "/tmp"))  # noqa: S108
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVEY_")}
        self._environment = {**inherited, "COVEY_HOME": str(self.home)}

    def close(self) -> None:
        """End every process, remove every file. A signal meanwhile changes nothing."""
        self._busy = True
        self._end_everything()
        if self.home != Path():
            shutil.rmtree(self.home, ignore_errors=True)

    def api(self, profile: str) -> Api:
        return Api(self.home / profile / "run")

    def covey(self, profile: str, *words: str, **environment: str) -> str:
        """Show and run one command of `profile`'s user; its output. `Failed` unless it exits with 0."""
        self.display.command(profile, ["covey", *words])
        output = self.quietly(profile, *words, **environment)
        self.display.output(output)
        return output

    def quietly(self, profile: str, *words: str, **environment: str) -> str:
        """The same, not shown."""
        child = self._start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, COVEY_PROFILE=profile, **environment)
        try:
            output, errors = child.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"`covey {words[0]}` to end within {COMMAND_SECONDS:g} s", "it did not") from None
        self._children.remove(child)
        if child.returncode:
            raise Failed(f"`covey {' '.join(words)}` to exit with 0", f"{child.returncode}: {errors.strip()}")
        return output

    def rendezvous(self, *words: str) -> str:
        """Show and start `covey rendezvous`, which stays; the ticket, its first line."""
        self.display.command("rendezvous", ["covey", "rendezvous", *words])
        log_file = self.home / "rendezvous.log"
        with log_file.open("a") as log:
            child = self._start(("rendezvous", *words), stdout=subprocess.PIPE, stderr=log)
        assert child.stdout is not None
        ready, _, _ = select.select([child.stdout], [], [], COMMAND_SECONDS)
        ticket = child.stdout.readline().strip() if ready else ""
        if not ticket:
            raise Failed("a ticket from the rendezvous", log_file.read_text().strip() or "nothing")
        self.display.output(ticket)
        return ticket

    def kill(self, profile: str) -> None:
        """Show and carry out `kill -9` on a profile's process; returns when it is gone."""
        pid = self.holder(profile)
        if pid is None:
            raise Failed(f"a process of {profile} to kill", "none runs")
        self.display.command(profile, ["kill", "-9", str(pid)])
        _signal(pid, signal.SIGKILL)
        if not self._gone(pid, TERM_SECONDS):
            raise Failed("a killed process to be gone", f"process {pid} lives")

    def holder(self, profile: str) -> int | None:
        """The living process that holds a profile's lock: what the file says counts while it is locked."""
        with contextlib.suppress(OSError, ValueError), (self.home / profile / "state/lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read())
        return None

    def running(self) -> list[int]:
        """Every process of ours that lives: those who hold a profile, and our own children."""
        holders = [self.holder(profile.name) for profile in self.home.iterdir()] if self.home != Path() else []
        children = [child.pid for child in self._children if child.poll() is None]
        return list(dict.fromkeys([*(pid for pid in holders if pid is not None), *children]))

    def keep_logs(self) -> Path:
        """Copy all logs to a place that survives the demo."""
        shutil.rmtree(LOGS, ignore_errors=True)
        LOGS.mkdir(parents=True)
        for log in (*self.home.glob("*/state/daemon.log"), *self.home.glob("*.log")):
            name = log.name if log.parent == self.home else f"{log.parts[-3]}.log"
            shutil.copyfile(log, LOGS / name)
        return LOGS

    def _start(self, words: Sequence[str], *, stdout: Any, stderr: Any, **environment: str) -> subprocess.Popen[str]:
        with self._uninterrupted():
            child = subprocess.Popen(
                [self._covey, *words],
                env={**self._environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
            self._children.append(child)
        return child

    @contextlib.contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """An interrupt comes after the block: whatever was made is also known."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._interrupted:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again, self._interrupted = self._interrupted, True
        if not again and not self._busy:
            raise KeyboardInterrupt

    def _end_everything(self) -> None:
        for child in self._children:
            if "start" in child.args:  # type: ignore[operator]
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(START_SECONDS)  # only then does its daemon hold the lock, by which we find it
        pids = self.running()
        for pid in pids:
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + TERM_SECONDS
        for pid in pids:
            if not self._gone(pid, deadline - time.monotonic()):
                _signal(pid, signal.SIGKILL)
                self._gone(pid, TERM_SECONDS)
        for child in self._children:
            for pipe in (child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()

    def _gone(self, pid: int, seconds: float) -> bool:
        """Whether the process ends within this time."""
        for child in self._children:
            if child.pid == pid:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(max(0.0, seconds))
                return child.returncode is not None
        try:
            handle = Handle(pid)
        except ProcessLookupError:
            return True
        with contextlib.closing(handle):
            return handle.wait(seconds)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError), contextlib.closing(Handle(pid)) as handle:
        handle.signal(number)


def resident_megabytes(pid: int) -> float | None:
    """Memory that a process really uses; None where the system does not say."""
    with contextlib.suppress(OSError):
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        if match:
            return int(match[1]) * 1024 / 1e6
    return None
