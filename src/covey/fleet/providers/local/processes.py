"""The processes of agents, found by what is in their environment: also those whose supervisord was killed.

Only Linux has /proc; elsewhere nothing is found, and a killed supervisord leaves its agents to the operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

__all__ = ["MARK", "Ends", "cpu_seconds", "end", "of_pool"]

MARK: Final = "COVEY_FLEET_POOL_KEY"
"""The variable that names the pool's directory: unique on this machine, inherited by whatever an agent starts."""

PROC: Final = Path("/proc")


def of_pool(key: str) -> dict[int, str]:
    """By pid, the agent whose process it is, or belongs to. Processes of other users are not looked at."""
    found = {}
    mark = f"{MARK}={key}".encode()
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if mark in variables:
                    agent = next((value for value in variables if value.startswith(b"COVEY_FLEET_AGENT=")), b"=")
                    found[int(entry.name)] = agent.partition(b"=")[2].decode(errors="replace")
    return found


class Ends:
    """Tells when a process ends, at once and without asking. Without pidfds (not Linux) the next tick sees it."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._descriptors: dict[int, int] = {}

    def watch(self, pids: Iterable[int]) -> None:
        """These and no others."""
        wanted = set(pids)
        for pid in self._descriptors.keys() - wanted:
            self._leave(pid)
        for pid in wanted - self._descriptors.keys():
            with contextlib.suppress(OSError, AttributeError):
                self._descriptors[pid] = descriptor = os.pidfd_open(pid)
                asyncio.get_running_loop().add_reader(descriptor, self._gone, pid)

    def close(self) -> None:
        for pid in list(self._descriptors):
            self._leave(pid)

    def _gone(self, pid: int) -> None:
        self._leave(pid)
        self._ended()

    def _leave(self, pid: int) -> None:
        descriptor = self._descriptors.pop(pid)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def end(pids: Iterable[int], *, grace: float) -> None:
    """SIGTERM, and SIGKILL for what is left after `grace` seconds. Returns when they are gone."""
    waiting = [asyncio.create_task(_end_one(pid, grace)) for pid in pids]
    await asyncio.gather(*waiting)


async def _end_one(pid: int, grace: float) -> None:
    """Through a descriptor of the process: its number may be another's by now."""
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, AttributeError):
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            try:
                await asyncio.wait_for(gone.wait(), grace)
            except TimeoutError:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(gone.wait(), 5.0)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def cpu_seconds() -> dict[int, float]:
    """By process group, what its living processes have used, s. An agent is the leader of its group."""
    used: dict[int, float] = {}
    ticks = os.sysconf("SC_CLK_TCK")
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                group, user, system = int(fields[2]), int(fields[11]), int(fields[12])
                used[group] = used.get(group, 0.0) + (user + system) / ticks
    return used
