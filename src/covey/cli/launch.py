"""Starting and stopping the daemon's process. The protocol of the status pipe is in `covey.daemon.ready`."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn, TypeVar

import msgspec

from covey.base import errors
from covey.base.errors import CoveyError
from covey.base.failures import error_from
from covey.base.paths import Home
from covey.base.schema import ErrorView, NodeView
from covey.cli.command import Call

__all__ = ["ask", "become", "start", "wait_for_exit"]

ASK_SECONDS = 60.0
"""A large database takes a while to be looked at."""

T = TypeVar("T")

READY_LIMIT = 64 * 1024
"""The status line is one NodeView or one error; more is not from our daemon."""

POLL_SECONDS = 0.05
"""Where the system cannot tell us that a process ended, we look this often."""


class _Status(msgspec.Struct):
    ok: bool
    data: NodeView | None = None
    status: int = 500
    error: ErrorView | None = None


class _Answer(msgspec.Struct):
    ok: bool
    data: msgspec.Raw = msgspec.Raw(b"null")
    status: int = 500
    error: ErrorView | None = None


def start(home: Home, options: dict[str, Any], *, timeout: float) -> NodeView:
    """Start a detached daemon and wait until it serves. Raises the error that kept it from starting."""
    reading, writing = os.pipe()
    try:
        log = _open_log(home)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program
                _command({**options, "status_fd": writing}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writing,),
                start_new_session=True,
            )
        finally:
            os.close(log)
            os.close(writing)
        line = _read_line(reading, time.monotonic() + timeout)
        if line is None:
            _let_go(process)
            raise errors.TimeoutError(
                f"the daemon (process {process.pid}) is not ready after {timeout:g} s; it goes on starting",
                next_step="covey daemon logs",
            )
    finally:
        os.close(reading)
    if not line:
        code = process.wait()
        raise CoveyError(
            f"the daemon ended with code {code} before it was ready",
            code="start-failed",
            next_step="covey daemon logs",
        )
    status = msgspec.json.decode(line, type=_Status)
    if status.ok and status.data is not None:
        _let_go(process)
        return status.data
    process.wait()  # it says so just before it ends; afterwards the profile is free again
    raise _error(status.status, status.error)


def ask(call: Call, what: str, answer: type[T]) -> T:
    """What `covey.daemon.examine` finds out about a profile, without its daemon. Raises the error it gives."""
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            _examination(what, call.home.profile),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("COVEY_DEBUG") else subprocess.DEVNULL,
            timeout=call.timeout if call.timeout is not None else ASK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise errors.TimeoutError(
            f"looking took longer than {error.timeout:g} s", next_step="try again with a longer --timeout"
        ) from error
    try:
        status = msgspec.json.decode(done.stdout, type=_Answer)
        if status.ok:
            return msgspec.json.decode(status.data, type=answer)
    except msgspec.DecodeError as error:
        raise CoveyError(
            f"the examination ended with code {done.returncode} and without an answer",
            code="internal",
            next_step="this is a defect of covey; COVEY_DEBUG=1 shows where it happened",
        ) from error
    raise _error(status.status, status.error)


def become(options: dict[str, Any]) -> NoReturn:
    """Replace this process by a daemon in the foreground."""
    sys.stdout.flush()
    os.execv(sys.executable, _command({**options, "foreground": True}))  # noqa: S606 - our own program


def wait_for_exit(home: Home, pid: int, *, timeout: float) -> bool:
    """True once the daemon's process is gone."""
    deadline = time.monotonic() + timeout
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (AttributeError, OSError):  # not Linux, or an old kernel
        return _wait_for_socket(home, deadline)
    try:
        ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
        return bool(ready)
    finally:
        os.close(handle)


def _error(status: int, view: ErrorView | None) -> CoveyError:
    view = view or ErrorView("start-failed", "the daemon did not start", "covey daemon logs")
    return error_from(status, view)


def _examination(what: str, profile: str) -> list[str]:
    return [sys.executable, "-P", "-m", "covey.daemon.examine", what, json.dumps({"profile": profile})]


def _command(options: dict[str, Any]) -> list[str]:
    """-P: a folder called `covey` in the current directory is not our program."""
    given = {name: value for name, value in options.items() if value is not None}
    return [sys.executable, "-P", "-m", "covey.daemon", json.dumps(given)]


def _open_log(home: Home) -> int:
    """The daemon's log, for what it may print before it logs. The daemon itself checks the directory."""
    try:
        home.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(home.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise errors.StorageError(f"cannot write {home.log_file}: {error.strerror or error}") from error


def _read_line(fd: int, deadline: float) -> bytes | None:
    """Everything up to a newline; b"" if the pipe ended without one, None if the time is over."""
    line = b""
    while len(line) < READY_LIMIT:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        piece = os.read(fd, 4096)
        if not piece:
            return b""
        line += piece
        if line.endswith(b"\n"):
            return line
    return b""


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """The daemon is on its own: keep `Popen` from warning that a child still runs."""
    process.returncode = 0


def _wait_for_socket(home: Home, deadline: float) -> bool:
    pause = threading.Event()
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(os.fspath(home.api_socket))
            except OSError:
                return True
        pause.wait(POLL_SECONDS)
    return False
