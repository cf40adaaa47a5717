"""For agents written in Python: say what you do, and learn when to stop.

::

    reporter = Reporter.from_environment()
    async with reporter:                      # reports once a second, SIGTERM becomes `draining`
        while not reporter.draining:
            job = await next_job()
            with reporter.working():          # busy meanwhile; counted when it ends
                await do(job)

Nothing here is needed to be an agent: one that does not report is taken as busy until its grace is over. What is
reported, and where, is in docs/fleet/local.md, so that any language can do it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

__all__ = ["Report", "ReportAnswer", "Reporter"]

REPORT_EVERY: Final = 1.0
"""Seconds. Only signals sampled every 2 s or faster may start a burst (FLEET 2)."""

TIMEOUT: Final = 2.0
LARGEST_ANSWER: Final = 4096
LATENCIES: Final = 100
"""The reported latency is the mean of so many last jobs."""


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent says of itself. Counters only grow while it lives; a smaller one means that it began anew."""

    agent: str
    ready: bool = True
    busy: bool | None = None
    in_flight: int = 0
    completions: float = 0.0
    """Counter: jobs finished, well or badly."""
    errors: float = 0.0
    """Counter: those of them that failed."""
    latency_ms: float | None = None
    arrivals: float | None = None
    """Counter: jobs that came to it, where it has a queue of its own."""
    backlog: float | None = None
    """Jobs that wait in its own queue."""


class ReportAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the controller says to it."""

    drain: bool = False
    """Finish what you have and take nothing new."""


class Reporter:
    """Reports of one agent. Outside a fleet (no COVEY_FLEET_AGENT) it does nothing but count."""

    def __init__(self, environment: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.agent = environment.get("COVEY_FLEET_AGENT", "")
        self.ready = True
        self._url = environment.get("COVEY_FLEET_REPORT", "")
        self._url_file = environment.get("COVEY_FLEET_REPORT_FILE", "")
        self._token_file = environment.get("COVEY_FLEET_TOKEN_FILE", "")
        self._drain_file = environment.get("COVEY_FLEET_DRAIN_FILE", "")
        self._clock = clock
        self._told = asyncio.Event()
        self._in_flight = 0
        self._completions = 0
        self._errors = 0
        self._latencies: list[float] = []
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def from_environment(cls) -> Reporter:
        return cls(os.environ)

    @property
    def draining(self) -> bool:
        """Told to finish: by SIGTERM, by the drain file, or in the answer to a report."""
        if not self._told.is_set() and self._drain_file and os.path.exists(self._drain_file):
            self._told.set()
        return self._told.is_set()

    async def drained(self) -> None:
        """Returns when it is time to stop."""
        while not self.draining:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), 0.2)

    @contextlib.contextmanager
    def working(self, *, waited: float = 0.0) -> Iterator[None]:
        """One job, from here to the end of the block; an exception makes it an error. `waited`: seconds it waited
        before."""
        began = self._clock()
        self._in_flight += 1
        try:
            yield
        except BaseException:
            self._errors += 1
            raise
        finally:
            self._in_flight -= 1
            self._completions += 1
            self._latencies = [*self._latencies[1 - LATENCIES :], waited + self._clock() - began]

    def report(self) -> Report:
        latencies = self._latencies
        return Report(
            agent=self.agent,
            ready=self.ready,
            busy=self._in_flight > 0,
            in_flight=self._in_flight,
            completions=self._completions,
            errors=self._errors,
            latency_ms=round(1000 * sum(latencies) / len(latencies), 3) if latencies else None,
        )

    async def send(self) -> bool:
        """One report. False when nobody took it: the controller is away, and the agent goes on."""
        url = self._address()
        if not url or not self.agent:
            return False
        body = msgspec.json.encode(self.report())
        try:
            answer = msgspec.json.decode(await asyncio.to_thread(_post, url, self._token(), body), type=ReportAnswer)
        except (OSError, ValueError, http.client.HTTPException):
            return False
        if answer.drain:
            self._told.set()
        return True

    async def __aenter__(self) -> Reporter:
        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._told.set)
        self._task = asyncio.create_task(self._run(), name="reports")
        return self

    async def __aexit__(self, *_: Any) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if sys.platform != "win32":
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    async def _run(self) -> None:
        while True:
            await self.send()
            await asyncio.sleep(REPORT_EVERY)

    def _address(self) -> str:
        """The file wins: the controller may listen elsewhere since this agent was started."""
        with contextlib.suppress(OSError):
            return Path(self._url_file).read_text(encoding="utf-8").strip() or self._url
        return self._url

    def _token(self) -> str:
        with contextlib.suppress(OSError):
            return Path(self._token_file).read_text(encoding="utf-8").strip()
        return ""


def _post(url: str, token: str, body: bytes) -> bytes:
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT)
    try:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        connection.request("POST", parts.path or "/", body, headers)
        response = connection.getresponse()
        answer = response.read(LARGEST_ANSWER)
        if response.status // 100 != 2:
            raise ValueError(f"status {response.status}")
        return answer or b"{}"
    finally:
        connection.close()
