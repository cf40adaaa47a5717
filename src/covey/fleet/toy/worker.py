"""The toy's worker: one job at a time, a probe on PORT, reports to the controller."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from covey.fleet.reporting import Reporter
from covey.fleet.toy.queue import JobQueue

__all__ = ["open_queue", "work"]

LOOK_EVERY: Final = 0.05
"""Seconds between looks into an empty queue."""

PUT_BACK_EVERY: Final = 2.0


async def work(queue: JobQueue, reporter: Reporter, *, port: int | None, seconds: float) -> None:
    """Until it is told to finish; the job it has is finished first."""
    async with reporter, _probed(port):
        looked_after = 0.0
        while not reporter.draining:
            now = time.time()
            if now - looked_after >= PUT_BACK_EVERY:
                queue.put_back(now)
                looked_after = now
            job = queue.take(now)
            if job is None:
                await asyncio.sleep(LOOK_EVERY)
                continue
            with reporter.working(waited=max(0.0, now - job.came_at)):
                await asyncio.sleep(seconds)
                queue.finish(job)
        await reporter.send()


@contextlib.asynccontextmanager
async def _probed(port: int | None) -> AsyncIterator[None]:
    """Whatever is asked on the port is answered with 200: it is up."""
    if port is None:
        yield
        return
    async with await asyncio.start_server(_answer, "127.0.0.1", port):
        yield


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 1.0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
        await writer.drain()
    writer.close()


def open_queue(path: str) -> JobQueue:
    """The queue at `path`, made if need be."""
    return JobQueue(Path(path).absolute())
