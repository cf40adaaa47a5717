from __future__ import annotations

import os
from pathlib import Path

from covey.fleet.toy.queue import LEASE, Job, JobQueue


def test_take_gives_the_oldest_job_to_one_worker(tmp_path: Path) -> None:
    one, other = JobQueue(tmp_path), JobQueue(tmp_path)
    for name in ("2", "1"):
        one.put(name)
    first, second = one.take(100.0), other.take(100.0)
    assert first is not None
    assert second is not None
    assert [first.name, second.name, one.take(100.0)] == ["1", "2", None]


def test_counters_are_shared_by_all_processes(tmp_path: Path) -> None:
    one, other = JobQueue(tmp_path), JobQueue(tmp_path)
    for number in range(5):
        one.put(str(number))
    taken = [other.take(100.0) for _ in range(3)]
    assert [other.finish(job) for job in taken if job is not None] == [True] * 3
    assert (one.arrived, one.finished, one.waiting) == (5, 3, 2)


def test_put_back_returns_the_job_of_a_dead_worker_and_it_is_finished_once(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    queue.put("1")
    slow = queue.take(100.0)
    assert slow is not None
    assert queue.put_back(100.0 + LEASE) == 0
    assert queue.put_back(100.1 + LEASE) == 1
    quick = queue.take(120.0)
    assert quick == Job("1", quick.came_at) if quick else False
    assert [queue.finish(job) for job in (quick, slow) if job] == [True, False]
    assert queue.finished == 1


def test_made_at_is_when_the_queue_was_first_used(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    made = queue.made_at()
    os.utime(tmp_path / "made", (made - 50, made - 50))
    assert abs(JobQueue(tmp_path).made_at() - (made - 50)) < 1e-3
