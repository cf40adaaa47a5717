"""Group commit: storage work that arrives while the disk is busy shares the next transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

from covey.net.host import Host
from covey.node.storage.database import Database

__all__ = ["Committer"]

T = TypeVar("T")


class Committer:
    """Runs functions over one database on the host's writer thread, in the order they came.

    `await run(job)` returns the job's result once its transaction is committed, which is when it may be told to
    anybody. Jobs that wait together are one transaction: one fsync for all of them. A job that raises is undone alone
    and its exception is raised to its caller.
    """

    def __init__(self, host: Host, database: Database) -> None:
        self._host = host
        self._database = database
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._context = copy_context()

    async def run(self, job: Callable[[], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().create_task(
                self._flush(), name="committer", context=self._context
            )
        # Shielded: a caller that gives up must not leave others of the same transaction without their results.
        return await asyncio.shield(future)

    async def drain(self) -> None:
        """Waits until everything that was handed over is committed."""
        while self._flusher is not None:
            await asyncio.wait((self._flusher,))

    async def _flush(self) -> None:
        batch: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                jobs = [job for job, _ in batch]
                try:
                    results = await self._host.blocking(lambda jobs=jobs: self._database.batch(jobs))  # type: ignore[misc]
                except Exception as error:
                    results = [error] * len(batch)
                for (_, future), result in zip(batch, results, strict=True):
                    if future.done():
                        continue
                    if isinstance(result, Exception):
                        future.set_exception(result)
                        future.exception()  # a caller that was cancelled does not look at it
                    else:
                        future.set_result(result)
        finally:
            self._flusher = None
            for _, future in (*batch, *self._waiting):
                future.cancel()
