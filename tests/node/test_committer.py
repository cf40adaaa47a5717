from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from covey.base.errors import StorageError
from covey.node.committer import Committer
from covey.node.storage.database import Database
from covey.testing import SimHost, SimNetwork, run
from tests.node.stage import steps


class Counted:
    """A database that counts its transactions."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path, [["CREATE TABLE t (x)"]], synchronous="OFF")
        self.batches: list[int] = []

    def batch(self, jobs: list[Callable[[], Any]]) -> list[Any]:
        self.batches.append(len(jobs))
        return self.database.batch(jobs)

    def put(self, x: int) -> Callable[[], int]:
        return lambda: self.database.insert("INSERT INTO t VALUES (?)", (x,))

    def all(self) -> list[int]:
        return [x for (x,) in self.database.rows("SELECT x FROM t ORDER BY rowid")]


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    made = Counted(tmp_path / "db")
    yield made
    made.database.close()


def committer(counted: Counted, disk_s: float = 0.01) -> Committer:
    network = SimNetwork(asyncio.get_running_loop(), 1)
    return Committer(SimHost(network, "10.0.0.1", disk_s=disk_s), counted)  # type: ignore[arg-type]


def test_jobs_that_wait_together_are_one_transaction_in_order(counted: Counted) -> None:
    async def scenario() -> None:
        committing = committer(counted)
        results = await asyncio.gather(*(committing.run(counted.put(x)) for x in range(100)))
        assert results == list(range(1, 101))
        assert counted.all() == list(range(100))
        assert len(counted.batches) <= 2
        await committing.run(counted.put(100))
        assert counted.batches[-1] == 1

    run(scenario())


def test_job_that_raises_is_undone_alone(counted: Counted) -> None:
    async def scenario() -> None:
        committing = committer(counted)

        def bad() -> None:
            counted.put(77)()
            raise KeyError("bad")

        jobs: list[Callable[[], Any]] = [counted.put(1), bad, counted.put(2)]
        results = await asyncio.gather(*map(committing.run, jobs), return_exceptions=True)
        assert [type(result) for result in results] == [int, KeyError, int]
        assert counted.all() == [1, 2]

    run(scenario())


def test_commit_that_fails_is_told_to_all_of_it_and_the_next_succeeds(counted: Counted) -> None:
    async def scenario() -> None:
        committing = committer(counted)
        whole = counted.batch

        def failing(jobs: list[Callable[[], Any]]) -> list[Any]:
            counted.batch = whole  # type: ignore[method-assign]
            raise StorageError("the disk is full", code="disk-full")

        counted.batch = failing  # type: ignore[method-assign]
        first = [asyncio.ensure_future(committing.run(counted.put(x))) for x in range(3)]
        await asyncio.wait(first)
        assert {type(each.exception()) for each in first} == {StorageError}
        await committing.run(counted.put(9))
        assert counted.all() == [9]

    run(scenario())


@pytest.mark.parametrize("count", range(5))
def test_caller_that_gives_up_takes_nobody_with_it(count: int, counted: Counted) -> None:
    async def scenario() -> None:
        committing = committer(counted)
        giving_up = asyncio.ensure_future(committing.run(counted.put(1)))
        other = asyncio.ensure_future(committing.run(counted.put(2)))
        await steps(count)
        giving_up.cancel()
        await other
        await asyncio.wait((giving_up,))
        assert giving_up.cancelled()
        assert 2 in counted.all()

    run(scenario())


def test_drain_waits_for_everything_handed_over(counted: Counted) -> None:
    async def scenario() -> None:
        committing = committer(counted)
        await committing.drain()
        for x in range(3):
            asyncio.ensure_future(committing.run(counted.put(x)))  # noqa: RUF006
        await steps(1)
        await committing.drain()
        assert counted.all() == [0, 1, 2]

    run(scenario())
