"""The controller's listener, and those who mean it ill."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from covey.fleet.loop import server as module
from covey.fleet.loop.server import bind, fleet_server
from covey.fleet.loop.tokens import Speaker, Tokens
from covey.fleet.reporting import Report, ReportAnswer


class Served:
    def __init__(self) -> None:
        self.heard: list[tuple[Report, Speaker]] = []

    def report(self, report: Report, speaker: Speaker) -> ReportAnswer:
        self.heard.append((report, speaker))
        return ReportAnswer(drain=True)

    def alive(self) -> bool:
        return True

    def status(self) -> Any:
        return {}

    seen = routes = status

    def metrics(self) -> bytes:
        return b""


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Served, Tokens, int]]:
    served, tokens = Served(), Tokens(folder / "token", folder / "tokens")
    listener = bind("127.0.0.1:0")
    server = fleet_server(served, tokens)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await server.serving.wait()
    try:
        yield served, tokens, listener.getsockname()[1]
    finally:
        server.begin_stop()
        await task
        listener.close()


async def ask(port: int, token: str, body: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /report HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


def test_server_hears_a_report_as_its_workload(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path) as (served, tokens, port):
            speaker = Speaker("here", "web")
            status, body = await ask(port, tokens.of(speaker), b'{"agent": "web-000001", "busy": true}')
            assert (status, msgspec.json.decode(body)) == (200, {"drain": True})
            assert served.heard == [(Report(agent="web-000001", busy=True), speaker)]

    asyncio.run(story())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"agent": ""}',
        b'{"agent": "\xff"}',
        b'{"agent": "a", "arrivals": 1e999}',
        b"[" * 9000,
        b'"' + b"a" * 20_000,
    ],
    ids=["nothing", "nobody", "empty", "bytes", "huge", "deep", "long"],
)
def test_server_refuses_what_is_no_report(tmp_path: Path, body: bytes) -> None:
    async def story() -> None:
        async with serving(tmp_path) as (served, tokens, port):
            status, answer = await ask(port, tokens.of(Speaker("here", "web")), body)
            assert status == 400
            assert msgspec.json.decode(answer)["code"] == "malformed"
            assert (await ask(port, (tmp_path / "token").read_text(), b'{"agent": "a"}'))[0] == 403
            assert served.heard == []

    asyncio.run(story())


def test_server_cuts_off_who_says_nothing_and_who_drips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.3)

    async def story() -> None:
        async with serving(tmp_path) as (_, tokens, port):
            silent, idle = await asyncio.open_connection("127.0.0.1", port)
            dripping, writer = await asyncio.open_connection("127.0.0.1", port)
            head = (
                f"POST /report HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {tokens.of(Speaker('a', 'b'))}\r\n"
            )
            writer.write(head.encode())
            writer.write(b"Content-Length: 1000\r\n\r\n{")
            async with asyncio.timeout(10):
                for reader in (silent, dripping):
                    with contextlib.suppress(ConnectionResetError):
                        assert await reader.read() == b""
            writer.close()
            idle.close()

    asyncio.run(story())


def test_server_keeps_descriptors_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS", 3)

    async def story() -> None:
        async with serving(tmp_path) as (_, _, port):
            streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionResetError):
                    assert await streams[3][0].read() == b""
            for _, writer in streams:
                writer.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9464", 200),
        ("localhost", 200),
        ("[::1]:9464", 200),
        ("evil.example", 403),
        ("", 200),
        ("127.0.0.1.evil.example:80", 403),
    ],
    ids=["address", "localhost", "v6", "name", "none", "lookalike"],
)
def test_server_is_not_read_by_pages_of_other_hosts(tmp_path: Path, host: str, status: int) -> None:
    async def story() -> None:
        async with serving(tmp_path) as (_, _, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET /status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            assert int((await reader.read()).split()[1]) == status
            writer.close()

    asyncio.run(story())
