"""Asking agents whether they are ready: HTTP, TCP or a command, each agent in a task of its own.

`Prober.verdict` answers at once from what is known; nothing waits for a probe. An agent without a probe is ready as
soon as it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from covey.fleet.spec.types import Probe

__all__ = ["Prober", "Subject", "Verdict", "ask", "is_probed"]

LONGEST_STATUS_LINE: Final = 1024
"""Bytes read of an agent's answer: whether it is a 2xx or 3xx is in the first line."""


class Subject(msgspec.Struct, frozen=True):
    """What is probed: another process or another probe is another subject."""

    id: str
    pid: int
    port: int
    probe: Probe
    directory: str = "/"
    env: dict[str, str] = {}


class Verdict(msgspec.Struct, frozen=True):
    """What is known of one agent's readiness."""

    ready: bool = False
    answered_at: float | None = None
    failures: int = 0
    """In a row. Below the probe's limit a ready agent stays ready."""


class Prober:
    """Probes of one pool. `watch` says whom, `changed` is called when an agent becomes ready or stops being so."""

    def __init__(self, clock: Callable[[], float], changed: Callable[[str, bool], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._tasks: dict[str, tuple[Subject, asyncio.Task[None]]] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._asked: dict[str, asyncio.Event] = {}

    def watch(self, subjects: Mapping[str, Subject]) -> None:
        """Probe these and no others."""
        for agent, (subject, task) in list(self._tasks.items()):
            if subjects.get(agent) != subject:
                task.cancel()
                del self._tasks[agent]
                self._verdicts.pop(agent, None)
                self._asked.pop(agent).set()
        for agent, subject in subjects.items():
            if agent not in self._tasks:
                self._asked[agent] = asyncio.Event()
                self._tasks[agent] = (subject, asyncio.create_task(self._probe(subject), name=f"probe {agent}"))

    async def first_words(self, agents: Iterable[str]) -> None:
        """Until each of these was asked once, which takes no longer than one probe's time-out: a controller that just
        started knows nothing of agents that have long been ready."""
        waiting = [self._asked[agent].wait() for agent in agents if agent in self._tasks]
        await asyncio.gather(*waiting)

    def verdict(self, agent: str) -> Verdict:
        return self._verdicts.get(agent, Verdict())

    async def close(self) -> None:
        tasks = [task for _, task in self._tasks.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, subject: Subject) -> None:
        while True:
            answered = await ask(subject)
            self._note(subject, answered)
            await asyncio.sleep(subject.probe.every)

    def _note(self, subject: Subject, answered: bool) -> None:
        before = self._verdicts.get(subject.id, Verdict())
        if answered:
            after = Verdict(ready=True, answered_at=self._clock())
        else:
            failures = before.failures + 1
            ready = before.ready and failures < subject.probe.failures
            after = Verdict(ready=ready, answered_at=before.answered_at, failures=failures)
        self._verdicts[subject.id] = after
        self._asked[subject.id].set()
        if after.ready != before.ready:
            self._changed(subject.id, after.ready)


async def ask(subject: Subject) -> bool:
    """One probe. Whatever goes wrong is a no."""
    probe = subject.probe
    try:
        async with asyncio.timeout(probe.timeout):
            if probe.http:
                return await _http(subject.port, probe.http)
            if probe.tcp:
                return await _tcp(subject.port)
            return await _command(subject)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return False


def is_probed(probe: Probe) -> bool:
    """Whether there is anything to ask."""
    return bool(probe.http or probe.tcp or probe.command)


async def _tcp(port: int) -> bool:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    await _close(writer)
    return True


async def _http(port: int, path: str) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LONGEST_STATUS_LINE)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        words = (await reader.readline()).split(None, 2)
    finally:
        await _close(writer)
    return len(words) > 1 and words[0].startswith(b"HTTP/") and words[1][:1] in {b"2", b"3"}


async def _command(subject: Subject) -> bool:
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    process = await asyncio.create_subprocess_exec(
        *subject.probe.command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=subject.directory,
        env={"PATH": path, **subject.env},
        start_new_session=True,
    )
    try:
        return await process.wait() == 0
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
