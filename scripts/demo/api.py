"""A daemon's local API as any program can use it: HTTP and JSON on one Unix socket, raw bytes on another."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scripts import processes
from scripts.demo.checks import PATIENCE_SECONDS, Failed
from scripts.processes import connect

__all__ = ["Api", "ApiError", "Events"]

SECONDS = 60.0
"""Longest wait for an answer; the demo is to end, not to hang."""


class ApiError(Exception):
    """The daemon said no, and why."""


class Api:
    """The daemon whose sockets are in `run`."""

    def __init__(self, run: Path) -> None:
        self._socket = run / "api.sock"

    def get(self, path: str) -> Any:
        return self._request("GET", path)

    def post(self, path: str, **fields: Any) -> Any:
        return self._request("POST", path, **fields)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.get("/v1/status")
        return status

    def peer(self, name: str) -> dict[str, Any]:
        peer: dict[str, Any] = self.get(f"/v1/peers/{quote(name)}")
        return peer

    def inbox(self) -> list[dict[str, Any]]:
        """Every message that arrived, in its order."""
        messages: list[dict[str, Any]] = []
        while True:
            after = messages[-1]["number"] if messages else 0
            page = self.get(f"/v1/inbox?all=true&limit=1000&after={after}")["items"]
            messages += page
            if not page:
                return messages

    def pour(self, peer: str, blocks: Iterator[bytes]) -> tuple[int, bytes, float]:
        """Write all blocks into a peer's `sink`: the bytes and the SHA-256 that it got, and the seconds."""
        offer = self.post("/v1/streams", peer=peer, service="sink")
        with connect(Path(offer["socket"]), SECONDS) as stream:
            stream.sendall(offer["token"].encode() + b"\n")
            answers = stream.makefile("rb")
            if answers.readline() != b"ok\n":
                raise ApiError("the daemon did not take the token")
            began = time.perf_counter()
            for block in blocks:
                stream.sendall(block)
            stream.shutdown(socket.SHUT_WR)
            receipt = answers.read()
            seconds = time.perf_counter() - began
        return int.from_bytes(receipt[:8], "big"), receipt[8:], seconds

    def connect(self) -> socket.socket:
        try:
            return connect(self._socket, SECONDS)
        except OSError as error:
            raise ApiError(f"{self._daemon} does not run: {error.strerror or error}") from error

    @property
    def _daemon(self) -> str:
        return f"the daemon of {self._socket.parent.parent.name}"

    def _request(self, method: str, path: str, **fields: Any) -> Any:
        with contextlib.closing(processes.Api(self._socket, SECONDS)) as api:
            try:
                answer = api.get(path) if method == "GET" else api.post(path, **fields)
            except processes.Gone as error:
                raise ApiError(f"{self._daemon} does not answer: {error}") from error
        if not answer.ok:
            raise ApiError(f"{answer.data.get('message')} ({answer.code})")
        return answer.data


class Events:
    """What a daemon tells (`GET /v1/events`), collected by a thread until the end of the `with` block."""

    def __init__(self, api: Api) -> None:
        self._seen: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._connection = api.connect()
        self._lines = self._subscribe()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()

    def expect(self, what: str, event: str, *, since: float = 0.0, **fields: Any) -> float:
        """The time of the first such event, also if it came before now. `Failed` if there is none in time."""

        def matches(each: dict[str, Any]) -> bool:
            return each["event"] == event and each["time"] > since and fields.items() <= each.items()

        with self._changed:
            self._changed.wait_for(lambda: any(map(matches, self._seen)), PATIENCE_SECONDS)
            found = next(filter(matches, self._seen), None)
        if found is None:
            raise Failed(what, f"nothing within {PATIENCE_SECONDS:g} s")
        return float(found["time"])

    def wait_count(self, event: str, count: int) -> None:
        """Until there were so many of these events, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.count(event) >= count, PATIENCE_SECONDS)

    def count(self, event: str) -> int:
        return sum(each["event"] == event for each in self._seen)

    def _subscribe(self) -> Any:
        self._connection.sendall(b"GET /v1/events HTTP/1.0\r\nHost: covey\r\n\r\n")
        lines = self._connection.makefile("rb")
        while lines.readline().strip():
            pass  # the header of the answer
        lines.readline()  # ": subscribed": from here on nothing is missed
        self._connection.settimeout(None)
        return lines

    def _read(self) -> None:
        try:
            for line in self._lines:
                if line.startswith(b"data: "):
                    with self._changed:
                        self._seen.append(json.loads(line[6:]))
                        self._changed.notify_all()
        except (OSError, ValueError):
            pass  # the daemon is gone, or nobody listens any more
