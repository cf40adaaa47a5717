"""Real daemons and rendezvous as processes, for the kill test, `tests/e2e` and the demo.

Everything is started through the command line, as a user would, and ended through a pidfd: a process number
that was given to somebody else meanwhile is never signalled. Whoever uses an `Agent` or a `RendezvousProcess`
calls `end()` when done, whatever happened; both may be called from any thread.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from covey.base.paths import Home

__all__ = ["Agent", "Answer", "Api", "Gone", "Handle", "RendezvousProcess", "connect", "eventually", "run_cli"]

START_SECONDS = 30.0
"""A loaded machine may take longer than the 10 s that `covey daemon start` waits by itself."""
POLL_SECONDS = 0.02

T = TypeVar("T")


class Gone(Exception):
    """The daemon did not answer: it does not run, or died under the call. What was asked may still happen."""


class Answer:
    """One answer of the API."""

    def __init__(self, status: int, data: Any) -> None:
        self.status = status
        self.data = data

    @property
    def ok(self) -> bool:
        return self.status == http.client.OK

    @property
    def code(self) -> str:
        return str(self.data.get("code", "")) if isinstance(self.data, dict) and not self.ok else ""


class Api:
    """The daemon's API over its Unix socket, as `cli/client.py` speaks it. One per thread."""

    def __init__(self, path: Path, timeout: float = 20.0) -> None:
        self._path = path
        self._timeout = timeout
        self._connection: _Connection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str) -> Answer:
        return self._request("GET", path, None)

    def post(self, path: str, **body: Any) -> Answer:
        return self._request("POST", path, json.dumps(body).encode())

    def _request(self, method: str, path: str, body: bytes | None) -> Answer:
        try:
            if self._connection is None:
                self._connection = _Connection(self._path, self._timeout)
            headers = {"Content-Type": "application/json"} if body is not None else {}
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            return Answer(response.status, json.loads(response.read()))
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise Gone(f"{method} {path}: {str(error) or type(error).__name__}") from error


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("covey", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = connect(self._path, self.timeout or 0.0)


def connect(path: Path, timeout: float) -> socket.socket:
    """A Unix socket's other end. OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(os.fspath(path))
    except BaseException:
        connection.close()
        raise
    return connection


class Handle:
    """One process that we may end. Not a number, which may belong to another by now, where the system has pidfds."""

    def __init__(self, pid: int) -> None:
        """ProcessLookupError if there is none."""
        self.pid = pid
        self._fd: int | None = None
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise
        except (AttributeError, OSError):  # not Linux, or an old kernel
            os.kill(pid, 0)

    def signal(self, number: int) -> bool:
        """False if it is gone."""
        try:
            if self._fd is not None:
                signal.pidfd_send_signal(self._fd, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def wait(self, seconds: float) -> bool:
        """Whether it is gone within so many seconds."""
        if self._fd is not None:
            return bool(select.select([self._fd], [], [], max(0.0, seconds))[0])
        deadline, pause = time.monotonic() + seconds, threading.Event()
        while self.signal(0) and time.monotonic() < deadline:
            pause.wait(POLL_SECONDS)
        return not self.signal(0)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class RendezvousProcess:
    """`covey rendezvous` in a directory of its own; a restart keeps identity and port, and so the ticket."""

    def __init__(
        self, home: Path, environment: Mapping[str, str] | None = None, *, joins: RendezvousProcess | None = None
    ) -> None:
        """`joins`: another of the same network, running when this one starts first; the ticket then names both."""
        self.home = home
        self.ticket = ""
        self._joins = joins
        self._environment = {**_clean_environment(), **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.RLock()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> str:
        """Returns the ticket once it serves."""
        with self._lock:
            if self.running:
                return self.ticket
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            arguments = ["rendezvous", "--listen", "127.0.0.1:0", "--home", os.fspath(self.home)]
            if self._joins is not None:
                arguments += ["--join", self._joins.ticket]
            with (self.home / "rendezvous.log").open("a") as log:
                process = self._process = subprocess.Popen(
                    _cli(*arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=self._environment,
                    start_new_session=True,
                )
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            if not line.startswith("covey1"):
                raise RuntimeError(f"the rendezvous did not start: {line!r}, see {self.home}/rendezvous.log")
            self.ticket = line
            return line

    def freeze(self) -> bool:
        """SIGSTOP: it hangs until `thaw`. False if it does not run."""
        return self._signal(signal.SIGSTOP)

    def thaw(self) -> bool:
        return self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> bool:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                return False
            self._process.send_signal(number)
            return True

    def kill(self, number: int = signal.SIGKILL) -> bool:
        """Signal it and wait for its end; False if it did not run."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                return False
            process.send_signal(number)
            process.wait(START_SECONDS)
            if process.stdout is not None:
                process.stdout.close()
            self._process = None
            return True

    def end(self) -> None:
        self.kill()


class Agent:
    """One profile under one COVEY_HOME, and its daemon when it runs."""

    def __init__(self, covey_home: Path, profile: str, name: str, ticket: str = "", **environment: str) -> None:
        self.name = name
        self.profile = profile
        self.ticket = ticket
        self.environment = {
            **_clean_environment(),
            "COVEY_HOME": os.fspath(covey_home),
            "COVEY_PROFILE": profile,
            **environment,
        }
        self.home = Home.locate(profile, self.environment, uid=os.getuid())
        self._handle: Handle | None = None
        self._lock = threading.RLock()
        self._api: Api | None = None

    @property
    def running(self) -> bool:
        with self._lock:
            return self._handle is not None and not self._handle.wait(0)

    @property
    def pid(self) -> int:
        assert self._handle is not None
        return self._handle.pid

    @property
    def api(self) -> Api:
        """For the thread that owns the test; others make their own with `new_api`."""
        if self._api is None:
            self._api = self.new_api()
        return self._api

    def new_api(self, timeout: float = 20.0) -> Api:
        return Api(self.home.api_socket, timeout)

    def cli(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """One command of this agent's user."""
        return run_cli(*arguments, environment=self.environment, **options)

    def start(self, *arguments: str) -> None:
        """`covey daemon start`, with the agent's name and network. Does nothing if it runs."""
        with self._lock:
            if self.running:
                return
            self._forget()
            starting = self._begin_start(*arguments)
            try:
                output, problem = starting.communicate(timeout=2 * START_SECONDS)
            except BaseException:
                # Ctrl-C, most likely. The daemon may exist by now and is ours to end: wait for its number.
                self._learn(starting, starting.communicate()[0])
                raise
            if not self._learn(starting, output):
                raise RuntimeError(f"{self.name} did not start: {output}{problem}")

    def start_and_kill(self, after: float) -> bool:
        """Begin to start the daemon and SIGKILL it after so many seconds, ready or not. False if it runs."""
        with self._lock:
            if self.running:
                return False
            self._forget()
            starting = self._begin_start()
            with starting:
                daemon = _first_child(starting)
                if daemon is not None:
                    daemon.wait(after)
                    daemon.signal(signal.SIGKILL)
                    daemon.wait(START_SECONDS)
                    daemon.close()
                starting.communicate(timeout=START_SECONDS)
            return daemon is not None

    def kill(self, number: int = signal.SIGKILL) -> bool:
        """Signal the daemon and wait for its end; False if it did not run."""
        with self._lock:
            if self._handle is None:
                return False
            killed = not self._handle.wait(0)
            self._handle.signal(number)
            if not self._handle.wait(START_SECONDS):
                raise RuntimeError(f"process {self._handle.pid} ({self.name}) does not end")
            self._forget()
            return killed

    def stop(self) -> None:
        """`covey daemon stop`."""
        with self._lock:
            done = self.cli("daemon", "stop")
            if done.returncode:
                raise RuntimeError(f"{self.name} did not stop: {done.stderr}")
            self._forget()

    def adopt(self) -> None:
        """Takes over the daemon that a test started with the command line itself."""
        with self._lock:
            self._forget()
            with contextlib.closing(self.new_api()) as api:
                self._handle = Handle(api.get("/v1/status").data["pid"])

    def end(self) -> None:
        """Kills what runs, also what a failed test started and did not `adopt`; closes what is open."""
        if self._handle is None:
            with contextlib.suppress(Gone, ProcessLookupError):
                self.adopt()
        self.kill()
        if self._api is not None:
            self._api.close()

    def _begin_start(self, *arguments: str) -> subprocess.Popen[str]:
        words = ["daemon", "start", "--hostname", self.name, "--json", "--timeout", str(START_SECONDS)]
        if self.ticket:
            words += ["--network", self.ticket]
        return subprocess.Popen(
            _cli(*words, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            start_new_session=True,
        )

    def _learn(self, started: subprocess.Popen[str], output: str) -> bool:
        """Notes which process the daemon is, if the command that started it says so."""
        if started.returncode:
            return False
        self._handle = Handle(json.loads(output)["data"]["pid"])
        return True

    def _forget(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None
        if self._api is not None:
            self._api.close()


def run_cli(
    *arguments: str, environment: Mapping[str, str], stdin: str | None = None, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """`covey ARGUMENTS`, to its end; in a session of its own, out of reach of our Ctrl-C."""
    return subprocess.run(
        _cli(*arguments),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        env=dict(environment),
        timeout=timeout,
        check=False,
        start_new_session=True,
    )


def eventually(look: Callable[[], T], what: str, seconds: float = 20.0, pause: float = POLL_SECONDS) -> T:
    """The first truthy result of `look`; AssertionError with the last one when the time is over."""
    deadline = time.monotonic() + seconds
    waiting = threading.Event()
    while True:
        result = look()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last seen: {result!r}")
        waiting.wait(pause)


def _cli(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "covey.cli", *arguments]


def _clean_environment() -> dict[str, str]:
    """Ours, without what would reach another agent of this user, or change how the output looks."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("COVEY_", "XDG_"))}


def _first_child(process: subprocess.Popen[str]) -> Handle | None:
    """The first child of a process, once it has one; None if it ends without."""
    while process.poll() is None:
        for pid in _children(process.pid):
            try:
                return Handle(pid)
            except ProcessLookupError:
                continue
        threading.Event().wait(0.002)
    return None


def _children(pid: int) -> Iterator[int]:
    try:
        yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except OSError:
        return
