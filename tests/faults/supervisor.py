"""Real faults of real system calls: a forked child whose calls that change the disk ask us first.

The child installs a seccomp filter (Linux 5.5, no privileges needed) that stops it at every such call of any of its
threads, in Python or in SQLite, and tells us. We look at the call, then let it happen, make it fail with an errno,
delay it, or kill the process in front of it. Nothing in the child knows: no hook, no mock, no other code path.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

__all__ = ["CREATE", "KILL", "Call", "Report", "Say", "run_supervised"]

KILL: Final = -1
"""Instead of an errno: SIGKILL, before the call happened."""

_NUMBERS: Final = {
    "x86_64": {
        "write": 1, "pwrite": 18, "fsync": 74, "fdatasync": 75, "ftruncate": 77, "fallocate": 285, "open": 2,
        "openat": 257, "rename": 82, "renameat": 264, "renameat2": 316, "unlink": 87, "unlinkat": 263,
        "mkdir": 83, "mkdirat": 258,
    },
    "aarch64": {
        "write": 64, "pwrite": 68, "fsync": 82, "fdatasync": 83, "ftruncate": 46, "fallocate": 47,
        "openat": 56, "renameat": 38, "renameat2": 276, "unlinkat": 35, "mkdirat": 34,
    },
}[platform.machine()]  # fmt: skip
_NAMES: Final = {number: name for name, number in _NUMBERS.items()}
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}[platform.machine()]

_PR_SET_NO_NEW_PRIVS: Final = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION: Final = struct.Struct("=QIIiIQ6Q")
_ANSWER: Final = struct.Struct("=QqiI")
_CONTINUE: Final = 1
CREATE: Final = os.O_CREAT
_CHANGES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Call:
    """A system call that is about to change the disk."""

    index: int
    """1, 2, 3... of those below the watched directory."""
    name: str
    """write, sync, truncate, open, rename, unlink or mkdir."""
    path: Path
    """What it is about."""
    target: Path | None = None
    """Of a rename."""
    offset: int = 0
    data: bytes = b""
    """Of a write."""
    size: int = 0
    """Of a truncate."""


@dataclass
class Report:
    """How the child ended."""

    calls: list[Call] = field(default_factory=list)
    said: list[tuple[int, Any]] = field(default_factory=list)
    """What it told us with `say`, each with the number of calls that were made before."""
    exit_code: int = 0
    """Negative: the signal that ended it."""

    def words(self) -> list[Any]:
        return [word for _, word in self.said]


Decide = Callable[[Call], int]
Say = Callable[[Any], None]


def run_supervised(
    work: Callable[[Say], None],
    watched: Path,
    decide: Decide = lambda call: 0,
    *,
    hear: Callable[[Any], None] = lambda word: None,
    data: bool = False,
) -> Report:
    """Runs `work(say)` in a forked child; `decide(call)` is asked before each call that changes `watched`.

    It answers 0 to let it happen, an errno, or `KILL`. `data`: `Call.data` is wanted. `say` sends anything that is
    JSON to the report and to `hear`, before the child's next such call. A traceback of the child is said, and its exit
    code is 70.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12 on: the child uses no thread of ours
        pid = os.fork()
    if pid == 0:
        ours.close()
        _child(work, theirs)
    theirs.close()
    try:
        return _Supervisor(pid, ours, watched, decide, hear, data).run()
    finally:
        ours.close()


def _child(work: Callable[[Say], None], channel: socket.socket) -> None:
    code = 70
    try:
        listener = _install_filter()
        channel.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
        os.close(listener)
        try:
            work(lambda word: _say(channel, word))
            code = 0
        except BaseException:
            _say(channel, traceback.format_exc()[-8000:])
    finally:
        os._exit(code)


def _say(channel: socket.socket, word: Any) -> None:
    channel.send(msgspec.json.encode(word))


def _install_filter() -> int:
    """The listener's file descriptor."""
    checks = sorted(_NUMBERS.values())
    program = [(_LOAD, 0, 0, 0)]
    program += [(_JUMP_IF_EQUAL, len(checks) - at, 0, number) for at, number in enumerate(checks)]
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ASK)]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("=HxxxxxxQ", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    listener: int = libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, header)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


class _Supervisor:
    def __init__(
        self,
        pid: int,
        channel: socket.socket,
        watched: Path,
        decide: Decide,
        hear: Callable[[Any], None],
        data: bool,
    ) -> None:
        self._pid = pid
        self._channel = channel
        self._watched = os.fspath(watched)
        self._decide = decide
        self._tell = hear
        self._data = data
        self._report = Report()

    def run(self) -> Report:
        _, ancillary, _, _ = self._channel.recvmsg(1, socket.CMSG_SPACE(4))
        listener = array.array("i", ancillary[0][2])[0]
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        poller.register(self._channel, select.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                if not self._hear():
                    break
                if ready.get(listener, 0) & select.POLLIN:
                    self._answer(listener)
        finally:
            os.close(listener)
            _, status = os.waitpid(self._pid, 0)
        self._report.exit_code = os.waitstatus_to_exitcode(status)
        return self._report

    def _hear(self) -> bool:
        """What was said so far. False when the child is gone."""
        while True:
            try:
                word = self._channel.recv(1 << 20, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            if not word:
                return False
            said = msgspec.json.decode(word)
            self._report.said.append((len(self._report.calls), said))
            self._tell(said)

    def _answer(self, listener: int) -> None:
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, buffer)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return  # killed meanwhile
            raise
        identifier, pid, _, number, _, _, *arguments = _NOTIFICATION.unpack(buffer)
        call = self._look(pid, _NAMES[number], arguments)
        verdict = 0
        if call is not None:
            verdict = self._decide(call)
            if verdict == KILL:
                os.kill(self._pid, signal.SIGKILL)
                return
            self._report.calls.append(call)
        answer = _ANSWER.pack(identifier, 0, -verdict, 0 if verdict else _CONTINUE)
        try:
            fcntl.ioctl(listener, _SEND, bytearray(answer))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _look(self, pid: int, name: str, arguments: list[int]) -> Call | None:
        """The call, None if it does not change what is watched."""
        at = len(self._report.calls) + 1
        if name in ("write", "pwrite", "fsync", "fdatasync", "ftruncate", "fallocate"):
            path = self._path_of(pid, arguments[0])
            if path is None:
                return None
            if name in ("write", "pwrite"):
                offset = arguments[3] if name == "pwrite" else _position(pid, arguments[0])
                content = _memory(pid, arguments[1], arguments[2]) if self._data else b""
                return Call(at, "write", path, offset=offset, data=content)
            if name in ("ftruncate", "fallocate"):
                return Call(at, "truncate", path, size=arguments[1] + (arguments[2] if name == "fallocate" else 0))
            return Call(at, "sync", path)
        names = (
            [arguments[0], arguments[1]]
            if name in ("open", "rename", "unlink", "mkdir")
            else [arguments[1], arguments[3]]
        )
        path = self._named(pid, names[0])
        if path is None:
            return None
        if name.startswith("open"):
            flags = arguments[1] if name == "open" else arguments[2]
            return Call(at, "open", path, size=flags) if flags & _CHANGES else None
        if name.startswith("rename"):
            return Call(at, "rename", path, self._named(pid, names[1]))
        return Call(at, name.removesuffix("at"), path)

    def _path_of(self, pid: int, number: int) -> Path | None:
        try:
            return self._below(os.readlink(f"/proc/{pid}/fd/{number}").removesuffix(" (deleted)"))
        except OSError:
            return None

    def _named(self, pid: int, address: int) -> Path | None:
        raw = b""
        while b"\0" not in raw and len(raw) < 4096:  # never over the end of a page, which may be that of the memory
            raw += _memory(pid, address + len(raw), 256 - (address + len(raw)) % 256)
        return self._below(raw.partition(b"\0")[0].decode())

    def _below(self, path: str) -> Path | None:
        return Path(path) if path == self._watched or path.startswith(self._watched + "/") else None


def _memory(pid: int, address: int, size: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size)


def _position(pid: int, number: int) -> int:
    with open(f"/proc/{pid}/fdinfo/{number}") as lines:
        return int(next(lines).split()[1])
