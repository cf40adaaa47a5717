from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from covey.fleet.reporting import Report, ReportAnswer, Reporter


class Controller:
    """Takes reports as the real one does."""

    def __init__(self) -> None:
        self.url = ""
        self.heard: list[tuple[str, Report]] = []
        self.answer = msgspec.json.encode(ReportAnswer())
        self.status = b"200 OK"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(fields["Content-Length"]))
        self.heard.append((fields.get("Authorization", ""), msgspec.json.decode(body, type=Report)))
        answer = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (self.status, len(self.answer), self.answer)
        writer.write(answer)
        writer.close()


@asynccontextmanager
async def controller() -> AsyncIterator[Controller]:
    made = Controller()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/report"
        yield made


def reporter(url: str, **more: str) -> Reporter:
    return Reporter(
        {"COVEY_FLEET_AGENT": "web-000001", "COVEY_FLEET_REPORT": url, **more}, clock=iter(range(99)).__next__
    )


def test_send_says_what_is_done_and_carries_the_token(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "token").write_text("secret\n")
        async with controller() as given:
            agent = reporter(given.url, COVEY_FLEET_TOKEN_FILE=str(tmp_path / "token"))
            with agent.working(waited=0.5):
                assert await agent.send()
            with pytest.raises(ValueError, match="it fails"), agent.working():
                raise ValueError("it fails")
            assert await agent.send()
            assert given.heard == [
                ("Bearer secret", Report(agent="web-000001", busy=True, in_flight=1)),
                ("Bearer secret", Report(agent="web-000001", busy=False, completions=2, errors=1, latency_ms=1250)),
            ]

    asyncio.run(story())


def test_send_goes_where_the_controller_is_now(tmp_path: Path) -> None:
    async def story() -> None:
        async with controller() as given:
            (tmp_path / "url").write_text(given.url)
            agent = reporter("http://127.0.0.1:1/report", COVEY_FLEET_REPORT_FILE=str(tmp_path / "url"))
            assert await agent.send()
            assert len(given.heard) == 1

    asyncio.run(story())


def test_a_controller_that_is_away_is_no_trouble() -> None:
    async def story() -> None:
        assert not await reporter("http://127.0.0.1:1/report").send()
        assert not await reporter("").send()
        async with controller() as given:
            given.status = b"503 Busy"
            assert not await reporter(given.url).send()
            given.status, given.answer = b"200 OK", b"not JSON"
            assert not await reporter(given.url).send()

    asyncio.run(story())


def test_draining_is_learned_from_the_answer() -> None:
    async def story() -> None:
        async with controller() as given:
            given.answer = msgspec.json.encode(ReportAnswer(drain=True))
            agent = reporter(given.url)
            assert not agent.draining
            await agent.send()
            await asyncio.wait_for(agent.drained(), 5)
            assert agent.draining

    asyncio.run(story())


def test_draining_is_learned_from_the_drain_file(tmp_path: Path) -> None:
    agent = reporter("", COVEY_FLEET_DRAIN_FILE=str(tmp_path / "drain"))
    assert not agent.draining
    (tmp_path / "drain").touch()
    assert agent.draining


def test_draining_is_learned_from_sigterm() -> None:
    async def story() -> None:
        async with reporter("") as agent:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(agent.drained(), 5)

    asyncio.run(story())
