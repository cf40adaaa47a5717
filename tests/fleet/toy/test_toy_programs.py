from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from covey.fleet.reporting import Reporter
from covey.fleet.toy.load import generate, steps, wave
from covey.fleet.toy.queue import Job, JobQueue
from covey.fleet.toy.worker import work


class Watched(JobQueue):
    """Tells when a worker looks for a job."""

    def __init__(self, path: Path, looked: Callable[[Job | None], None]) -> None:
        super().__init__(path)
        self._looked = looked

    def take(self, now: float) -> Job | None:
        job = super().take(now)
        self._looked(job)
        return job


def test_work_finishes_its_job_before_it_ends(tmp_path: Path) -> None:
    drain = tmp_path / "drain"
    queue = Watched(tmp_path / "queue", lambda job: drain.touch())
    queue.put("1")
    queue.put("2")
    reporter = Reporter({"COVEY_FLEET_DRAIN_FILE": str(drain)})
    asyncio.run(asyncio.wait_for(work(queue, reporter, port=None, seconds=0.02), 10))
    assert (queue.finished, queue.waiting) == (1, 1)
    assert reporter.report().completions == 1


def test_work_answers_its_probe(tmp_path: Path) -> None:
    async def story() -> bytes:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        up, drain = asyncio.Event(), tmp_path / "drain"
        queue = Watched(tmp_path / "queue", lambda job: up.set())
        reporter = Reporter({"COVEY_FLEET_DRAIN_FILE": str(drain)})
        worker = asyncio.create_task(work(queue, reporter, port=port, seconds=0.02))
        async with asyncio.timeout(10):
            await up.wait()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
            answer = await reader.read()
            writer.close()
            drain.touch()
            await worker
        return answer

    assert asyncio.run(story()).startswith(b"HTTP/1.1 200 OK\r\n")


def test_generate_puts_as_many_jobs_as_its_rate_says(tmp_path: Path) -> None:
    queue, drain, asked = JobQueue(tmp_path / "queue"), tmp_path / "drain", []

    def rate(at: float) -> float:
        asked.append(at)
        if len(asked) == 5:
            drain.touch()
        return 400.0

    reporter = Reporter({"COVEY_FLEET_DRAIN_FILE": str(drain)})
    before = time.time()
    asyncio.run(asyncio.wait_for(generate(queue, reporter, rate), 10))
    assert queue.waiting == queue.arrived
    assert 400 * 0.2 <= queue.arrived <= 400 * (time.time() - before)


@pytest.mark.parametrize(
    ("shape", "rates"),
    [(wave, [2.0, 13.0, 24.0, 13.0, 2.0]), (steps, [2.0, 2.0, 24.0, 24.0, 2.0])],
    ids=["wave", "steps"],
)
def test_shapes_go_from_low_to_high_and_back(shape: object, rates: list[float]) -> None:
    assert callable(shape)
    assert [round(shape(at, 2.0, 24.0, 480.0), 6) for at in (0, 120, 240, 360, 480)] == rates
