"""Two daemons, and programs that use them through their Unix sockets.

`between_daemons` starts them at the two ends of a site and introduces them. The speaker is a program at the client's
end: API and `stream.sock` of its daemon, across the link to the other daemon, whose own services `echo` and `sink`
answer. Nothing listens behind the other daemon, because a daemon hands no stream to a local program; its worker idles.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.beside import holding, running
from covey.base.paths import Home
from covey.bench.jobs import END, Channel, OnDatagram, Peer, Place, Service
from covey.bench.pair import Failed, Prepared, Site, Subject
from scripts.processes import Api, Gone

__all__ = ["DAEMONS", "Daemons"]

_PIECE = 256 * 1024
_BATCH = 64
"""Messages handed over in one request."""
_REQUESTS = 4
"""Requests that wait for their deliveries at the same time."""
_SECONDS = 10.0


@contextmanager
def between_daemons(site: Site, directory: Path) -> Iterator[Prepared]:
    """A daemon at each end, listening on the site's address; they trust each other, without any rendezvous."""
    ends = ("server", "client")
    homes = {end: Home.locate(end, {"COVEY_HOME": str(directory / "homes")}, uid=os.getuid()) for end in ends}
    daemons = {end: _daemon(site, end, directory) for end in ends}
    with daemons["server"] as server, daemons["client"] as client:
        pids = {"server": _view(server)["pid"], "client": _view(client)["pid"]}
        offer = _asked(homes["server"], "/v1/introduction")
        peer = _asked(homes["client"], "/v1/introduce", invitation=offer["invitation"])["identity"]
        if hasattr(os, "sched_setaffinity"):
            _pin(pids["server"], {min(os.sched_getaffinity(0))})
        yield Prepared(
            options={"client": {"api": str(homes["client"].api_socket), "peer": peer, "pid": pids["client"]}}
        )


def _daemon(site: Site, end: str, directory: Path) -> Any:
    options = {
        "hostname": f"bench-{end}",
        "listen": f"{site.address(end)}:0",
        "foreground": True,
        "json": True,
    }
    environment = {"COVEY_HOME": str(directory / "homes"), "COVEY_PROFILE": end}
    return running(site, end, holding([sys.executable, "-m", "covey.daemon", json.dumps(options)]), environment)


def _view(line: str) -> dict[str, Any]:
    answer = json.loads(line)
    if not answer["ok"]:
        raise Failed(answer["error"]["message"])
    view: dict[str, Any] = answer["data"]
    return view


def _asked(home: Home, path: str, **body: Any) -> dict[str, Any]:
    api = Api(home.api_socket)
    try:
        answer = api.post(path, **body)
    except Gone as gone:
        raise Failed(str(gone)) from gone
    finally:
        api.close()
    if not answer.ok:
        raise Failed(f"{path}: {answer.data.get('message', answer.data)}")
    found: dict[str, Any] = answer.data
    return found


def _pin(pid: int, cores: set[int]) -> None:
    """All threads of a process."""
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), cores)


class Daemons:
    """The program at the client's end. `place.options`: `api` of its daemon, its daemon's `pid`, who the `peer` is."""

    session_is_channel = False

    async def serve(self, place: Place, services: Mapping[str, Service], on_datagram: OnDatagram) -> dict[str, Any]:
        return {}

    async def peer(self, place: Place, facts: dict[str, Any]) -> Peer:
        return _Program(place.options)


class _Program:
    def __init__(self, options: dict[str, Any]) -> None:
        self._api = options["api"]
        self._pid = options["pid"]
        self._name = options["peer"]
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._senders: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """The daemon does."""

    async def open(self, service: str) -> Channel:
        if hasattr(os, "sched_getaffinity"):  # program and daemon share the core that the job gives to this end
            _pin(self._pid, os.sched_getaffinity(0))
        return _Sink(self._attached) if service == "sink" else await self._attached(service)

    async def _attached(self, service: str) -> _Channel:
        offer = await _post(self._api, "/v1/streams", peer=self._name, service=service)
        reader, writer = await asyncio.open_unix_connection(offer["socket"], limit=_PIECE)
        writer.write(offer["token"].encode() + b"\n")
        status = await reader.readline()
        if status != b"ok\n":
            raise ConnectionError(status.decode(errors="replace").strip() or "the daemon closed the stream")
        return _Channel(reader, writer)

    async def deliver(self, message: bytes) -> None:
        """Returns when it is on the disks of both daemons. Many at once share requests."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((message.hex()[: len(message)], done))
        if len(self._senders) < _REQUESTS:
            sender = asyncio.ensure_future(self._send())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        await done

    async def _send(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # whoever else is about to send comes along
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            messages = [{"body": body} for body, _ in batch]
            try:
                answer = await _post(self._api, "/v1/messages/batch", peer=self._name, messages=messages, wait=_SECONDS)
                late = [item["result"] for item in answer["items"] if item["result"] != "delivered"]
                problem: Exception | None = ConnectionError(f"a message is {late[0]}") if late else None
            except (OSError, ValueError) as error:
                problem = error
            for _, done in batch:
                if problem is None:
                    done.set_result(None)
                else:
                    done.set_exception(problem)

    async def close(self) -> None:
        """Nothing of it outlives a job."""


class _Channel:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.read_exactly = reader.readexactly

    async def read(self) -> bytes:
        return await self._reader.read(_PIECE)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def finish(self) -> None:
        self._writer.write_eof()


class _Sink:
    """The daemon's `sink` as the job knows one: a stream for each transfer, the count as the answer; no CPU time."""

    def __init__(self, attached: Any) -> None:
        self._attached = attached
        self._stream: _Channel | None = None

    async def write(self, data: bytes) -> None:
        if self._stream is None:
            self._stream = await self._attached("sink")
        await self._stream.write(data)
        if data.endswith(END):
            await self._stream.finish()

    async def read_exactly(self, size: int) -> bytes:
        assert self._stream is not None
        answer, self._stream = await self._stream.read_exactly(40), None
        return answer[:8] + bytes(size - 8)

    async def read(self) -> bytes:
        raise NotImplementedError

    async def finish(self) -> None:
        """The last transfer did."""


async def _post(api: str, path: str, **body: Any) -> dict[str, Any]:
    """One request of the daemon's API. ConnectionError with what it says if it refuses."""
    reader, writer = await asyncio.open_unix_connection(api)
    try:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: covey\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(data) + data)
        answer = await reader.read()
    finally:
        writer.close()
    head_bytes, _, text = answer.partition(b"\r\n\r\n")
    found: dict[str, Any] = json.loads(text)
    if b" 200 " not in head_bytes.split(b"\r\n", 1)[0]:
        raise ConnectionError(found.get("message", text.decode(errors="replace")))
    return found


DAEMONS = Subject("covey", "benchmarks.daemons:Daemons", frozenset({"stream", "durable"}), prepare=between_daemons)
