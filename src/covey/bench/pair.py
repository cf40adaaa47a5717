"""The harness's side of two workers: starts them where a site says, tells them what to do, ends them.

A `Subject` is one contender. Its speaker is loaded in the two worker processes only, so that whatever it imports costs
nobody else. What must run beside the workers (a daemon, a relay, a tunnel) its `prepare` starts, in this process.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal, Protocol

__all__ = [
    "BASELINES",
    "COVEY",
    "NODE",
    "TCP",
    "TLS",
    "UDP",
    "End",
    "Failed",
    "Loopback",
    "Pair",
    "Prepared",
    "Site",
    "Subject",
]

End = Literal["server", "client"]

_START_SECONDS: Final = 30.0
_END_SECONDS: Final = 5.0
_TAIL: Final = 2000
"""Characters of a worker's standard error that explain its death."""


class Failed(Exception):
    """A contender did not do its job. The text says why, for the reader of the results."""


class Site(Protocol):
    """Two or more places with a link between them."""

    name: str
    """What the results say of it: "loopback", "two network namespaces, veth, MTU 1500"."""

    def address(self, end: str) -> str: ...

    def command(self, end: str, argv: Sequence[str]) -> list[str]:
        """`argv`, so that it runs at that place."""
        ...


class Loopback:
    """Both ends at 127.0.0.1."""

    name = "loopback"

    def address(self, _: str) -> str:
        return "127.0.0.1"

    def command(self, _: str, argv: Sequence[str]) -> list[str]:
        return list(argv)


@dataclass
class Prepared:
    """What `prepare` has to tell the workers: options of their places, and addresses other than the site's."""

    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)


Prepare = Callable[[Site, Path], AbstractContextManager[Prepared]]


@dataclass(frozen=True)
class Subject:
    """One contender. `speaker` is `module:name` of something that gives a `jobs.Speaker` when called."""

    name: str
    speaker: str
    can: frozenset[str] = frozenset({"stream"})
    """What measures may need: stream, datagrams, sessions (many cheap clients in one process), connect,
    handshakes, durable."""
    prepare: Prepare | None = None
    missing: Callable[[], str] | None = None
    """What has to be installed first, in words; "" if nothing."""
    uvloop: bool = False
    python: str = sys.executable
    """The interpreter of the workers."""


_ALL: Final = frozenset({"stream", "sessions", "connect"})
TCP: Final = Subject("raw_tcp", "covey.bench.speakers:tcp", _ALL)
TLS: Final = Subject("asyncio_tls", "covey.bench.speakers:tls", _ALL)
UDP: Final = Subject("raw_udp", "covey.bench.speakers:Udp", frozenset({"datagrams"}))
COVEY: Final = Subject("covey", "covey.bench.speakers:Covey", _ALL | {"datagrams", "handshakes"})
NODE: Final = Subject("covey", "covey.bench.speakers:CoveyNode", frozenset({"durable"}))
"""Whole nodes, with their files."""
BASELINES: Final = (TCP, TLS)


class _Process:
    """One worker."""

    def __init__(self, argv: list[str], errors: IO[bytes]) -> None:
        self._errors = errors
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)  # noqa: S603 - our own program

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, timeout: float, do: str, **arguments: Any) -> Any:
        """Raises Failed with what the worker says, or when it says nothing for `timeout` seconds."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"the process died: {self._last_words()}") from None
        answer = json.loads(self._line(time.monotonic() + timeout, timeout, arguments.get("name", do)))
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["ok"]

    def _line(self, until: float, timeout: float, what: str) -> bytes:
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self._process.kill()  # it is busy, and would not hear that its input has ended
                raise Failed(f"{what} did not end within {timeout:.0f} s")
            data = os.read(self._process.stdout.fileno(), 65_536)
            if not data:
                raise Failed(f"the process died: {self._last_words()}")
            line += data
        return line

    def _last_words(self) -> str:
        self._process.wait(_END_SECONDS)
        self._errors.flush()
        text = Path(self._errors.name).read_text(errors="replace").strip()
        return text[-_TAIL:] or f"exit code {self._process.returncode}"

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Pair:
    """A server and a client of one subject at a site, started and placed on cores."""

    def __init__(self, server: _Process, client: _Process) -> None:
        self._server = server
        self._client = client
        self._cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]

    @classmethod
    @contextmanager
    def started(cls, subject: Subject, site: Site) -> Iterator[Pair]:
        """Both processes, connected. Raises Failed."""
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="covey-bench-")))
            prepared = Prepared()
            if subject.prepare is not None:
                prepared = stack.enter_context(subject.prepare(site, directory))
            processes: list[_Process] = []
            ends: tuple[End, ...] = ("server", "client")
            for end in ends:
                errors = stack.enter_context((directory / f"{end}.err").open("wb"))
                argv = [subject.python, "-m", "covey.bench.worker", subject.speaker, *["--uvloop"] * subject.uvloop]
                process = _Process(site.command(end, argv), errors)
                stack.callback(process.end)
                processes.append(process)
            for end, process in zip(ends, processes, strict=True):
                own = directory / end
                own.mkdir()
                address = prepared.addresses.get(end) or site.address(end)
                options = prepared.options.get(end, {})
                process.tell(_START_SECONDS, "place", address=address, directory=str(own), options=options)
            server, client = processes
            client.tell(_START_SECONDS, "dial", facts=server.tell(_START_SECONDS, "serve"))
            yield cls(server, client)

    @property
    def pids(self) -> tuple[int, int]:
        """Of server and client."""
        return self._server.pid, self._client.pid

    def on_one_core(self) -> None:
        self._pin(self._cores[:1], self._cores[:1])

    def on_two_cores(self) -> None:
        self._pin(self._cores[:1], self._cores[-1:])

    def _pin(self, server: list[int], client: list[int]) -> None:
        self._server.tell(_START_SECONDS, "pin", cores=server)
        self._client.tell(_START_SECONDS, "pin", cores=client)

    def job(self, name: str, *, timeout: float, **arguments: Any) -> dict[str, float]:
        """What the job of that name gives (`covey.bench.jobs`). Raises Failed."""
        found: dict[str, float] = self._client.tell(timeout, "job", name=name, **arguments)
        return found

    def call(self, function: str, *, timeout: float, **arguments: Any) -> dict[str, float]:
        """What `module:name` gives in the client's process. Raises Failed."""
        found: dict[str, float] = self._client.tell(timeout, "call", function=function, arguments=arguments)
        return found

    def profile(self, on: bool) -> dict[End, str]:
        """Begins to look where time goes, or stops and says it. Everything is slower meanwhile."""
        return {
            "server": self._server.tell(_START_SECONDS, "profile", on=on),
            "client": self._client.tell(_START_SECONDS, "profile", on=on),
        }

    def usage(self, end: End, *, collect: bool = False) -> dict[str, float]:
        """CPU seconds and memory of one end by now."""
        process = self._server if end == "server" else self._client
        found: dict[str, float] = process.tell(_START_SECONDS, "usage", collect=collect)
        return found
