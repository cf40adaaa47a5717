from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import msgspec
import pytest

from covey.base.errors import UsageError
from covey.fleet.errors import Permanent, Temporary
from covey.fleet.model import Reading
from covey.fleet.providers.registry import Surroundings
from covey.fleet.signals.base import Source
from covey.fleet.signals.registry import make_source
from covey.fleet.spec.types import Target, Workload
from covey.fleet.toy.queue import JobQueue


def source(home: Path, where: str, **settings: object) -> Source:
    target = Target(signal="queue", source=where, rate_per_agent=5.0, every=1.0, settings=settings)
    return make_source(Workload(name="w", targets=(target,)), target, Surroundings(home=home))


def read(given: Source, now: float) -> Reading:
    return asyncio.run(given.read((), now))[""]


def test_read_counts_waiting_jobs_and_makes_rates_of_the_counters(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "work" / "queue")
    given = source(tmp_path, "queue")
    assert read(given, 10.0) == Reading(at=10.0, backlog=0, interval=1.0)
    for number in range(8):
        queue.put(str(number))
    job = queue.take(10.5)
    assert job is not None
    assert read(given, 11.0) == Reading(at=11.0, backlog=7, interval=1.0)
    queue.finish(job)
    for number in range(8, 12):
        queue.put(str(number))
    assert read(given, 13.0) == Reading(at=13.0, backlog=11, arrivals=2.0, interval=1.0)
    assert queue.take(13.5) is not None
    assert read(given, 14.0) == Reading(at=14.0, backlog=10, arrivals=0.0, completions=0.0, interval=1.0)


def test_read_takes_a_plain_spool_without_counters(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    for name in ("a", "b", ".c-being-written"):
        (tmp_path / "spool" / name).touch()
    assert read(source(tmp_path, str(tmp_path / "spool")), 1.0) == Reading(at=1.0, backlog=2, interval=1.0)


def test_a_counter_that_fell_began_anew(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    given = source(tmp_path, f"file:{path}")
    rates = []
    for now, arrivals in ((0.0, 100), (1.0, 150), (2.0, 20)):
        path.write_bytes(msgspec.json.encode({"backlog": 1, "arrivals": arrivals}))
        rates.append(read(given, now).arrivals)
    assert rates == [None, 50.0, 20.0]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "longer than"),
        (b"[" * 50_000, "not JSON"),
        (b'{"backlog": "7"}', "not a number"),
        (b'{"backlog": -1}', "not a number"),
        (b'{"backlog": true}', "not a number"),
        (b'{"length": 7}', "has no 'backlog'"),
        (b'"7"', "not a number"),
        (b"1" + b"0" * 400, "not a number"),
        (b'{"backlog": 1e308}', "not a number"),
    ],
    ids=["nothing", "too-long", "too-deep", "text", "negative", "truth", "other-field", "bare-text", "digits", "sum"],
)
def test_foreign_words_end_in_one_error(tmp_path: Path, said: bytes, error: str) -> None:
    (tmp_path / "state").write_bytes(said)
    with pytest.raises(Permanent, match=error):
        read(source(tmp_path, str(tmp_path / "state")), 1.0)


def test_backlog_field_may_lie_deeper(tmp_path: Path) -> None:
    (tmp_path / "state").write_text('{"queue": {"ready": 12}}')
    given = source(tmp_path, str(tmp_path / "state"), backlog_field="queue.ready")
    assert read(given, 1.0).backlog == 12


def test_read_asks_an_http_address(tmp_path: Path) -> None:
    async def story() -> Reading:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"backlog": 3}')
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return (await source(tmp_path, f"http://127.0.0.1:{port}/queue").read((), 5.0))[""]

    assert asyncio.run(story()) == Reading(at=5.0, backlog=3, interval=1.0)


def test_a_queue_that_is_not_there_is_a_temporary_error(tmp_path: Path) -> None:
    with pytest.raises(Temporary, match="cannot be read"):
        read(source(tmp_path, "nowhere"), 1.0)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:99999/x", "http://[::1/x", "http://[x]/"], ids=["port", "open", "host"]
)
def test_an_address_that_is_none_is_a_permanent_error(tmp_path: Path, address: str) -> None:
    with pytest.raises(Permanent, match="not an address"):
        read(source(tmp_path, address), 1.0)


def test_a_queue_without_a_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a source"):
        source(tmp_path, "")


def test_a_pipe_that_nobody_writes_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Permanent, match="neither a file nor a directory"):
        read(source(tmp_path, str(tmp_path / "pipe")), 1.0)


@pytest.mark.parametrize("header", ["", "Connection: close\r\n"], ids=["kept", "closed"])
def test_an_answer_that_never_ends_is_given_up_in_time(tmp_path: Path, header: str) -> None:
    async def story() -> None:
        over = asyncio.Event()

        async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"HTTP/1.1 200 OK\r\n{header}Content-Length: 1000000\r\n\r\n".encode())
            with contextlib.suppress(OSError):
                while not over.is_set():
                    writer.write(b" ")
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(over.wait(), 0.02)
            writer.close()

        async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(Temporary, match="does not answer"):
                await source(tmp_path, f"http://127.0.0.1:{port}/", timeout=0.2).read((), 5.0)
            over.set()

    asyncio.run(asyncio.wait_for(story(), 10))
