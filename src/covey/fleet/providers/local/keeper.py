"""The pool's supervisord: its configuration, its start, and what it is asked over its Unix socket.

It is a detached process of its own: agents live on when the controller ends, and are restarted with back-off by it
alone. Its one interface is XML-RPC on a socket that only this user can reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shlex
import sys
import xmlrpc.client
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from covey.base.paths import SOCKET_PATH_LIMIT, TEMPORARY, check_private
from covey.fleet.errors import Permanent, Temporary
from covey.fleet.providers.local import launch

__all__ = ["Keeper", "Kept", "State"]

State = Literal["STOPPED", "STARTING", "RUNNING", "BACKOFF", "STOPPING", "EXITED", "FATAL", "UNKNOWN"]

CALL_TIMEOUT: Final = 10.0
"""Seconds. supervisord answers nobody while it forks: 10 ms for each agent alone, ten times that on a busy machine."""

STARTED_AT_ONCE: Final = 10
"""Agents that are started by one call."""

START_TIMEOUT: Final = 20.0
"""Seconds for supervisord to come up: 0.5 s alone, ten times that on a busy machine."""

LARGEST_ANSWER: Final = 16 << 20
"""Bytes; the state of one process is about 1.5 KiB of XML."""

START_SECONDS: Final = 10
"""An agent that ends sooner after its start was not up: it is started again after 1, 2, 3... s. Kubernetes' first
back-off is 10 s as well."""

START_RETRIES: Final = 10
"""Then supervisord gives up (FATAL, after 55 s); the provider asks again every `FATAL_RETRY` seconds."""

LOG_BYTES: Final = 10 << 20
"""Of each agent, and once more for the file before."""

_SUPERVISORD = """\
[unix_http_server]
file = {socket}
chmod = 0700
[supervisord]
logfile = {directory}/supervisord.log
logfile_maxbytes = 1MB
logfile_backups = 1
pidfile = {directory}/supervisord.pid
childlogdir = {directory}/logs
directory = {directory}
identifier = {identifier}
umask = 077
{user}[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files = {directory}/agents/*.conf
"""

_PROGRAM = """\
[program:{agent}]
command = {command}
autostart = true
autorestart = true
startsecs = {startsecs}
startretries = {startretries}
stopsignal = TERM
stopwaitsecs = {grace}
killasgroup = true
redirect_stderr = true
stdout_logfile = {directory}/logs/{agent}.log
stdout_logfile_maxbytes = {log_bytes}
stdout_logfile_backups = 1
"""


class Kept(msgspec.Struct, frozen=True):
    """One process as supervisord sees it. What else it says is not used."""

    name: str
    state: int
    statename: str
    start: int
    """Seconds since 1970 of its last start; 0: never."""
    pid: int
    spawnerr: str = ""


class Keeper:
    """Makes and asks the supervisord of the pool in `directory`."""

    def __init__(self, directory: Path, name: str, *, log_bytes: int = LOG_BYTES) -> None:
        self._log_bytes = log_bytes
        self.directory = directory.absolute()
        self.identifier = f"covey-{name}"
        self.socket = _socket_path(self.directory)

    def section(self, agent: str, *, grace: float) -> str:
        """What supervisord reads about one agent. Names were checked; nothing of the user's is in it but paths."""
        program = [sys.executable, "-I", "-S", launch.__file__, f"{self.directory}/agents/{agent}.json"]
        return _PROGRAM.format(
            agent=agent,
            command=_literal(shlex.join(program)),
            directory=_literal(str(self.directory)),
            grace=max(1, round(grace)),
            log_bytes=self._log_bytes,
            startsecs=START_SECONDS,
            startretries=START_RETRIES,
        )

    async def start(self) -> None:
        """Bring it up, detached; it returns when the socket answers. Call it under the pool's lock and only when it
        does not run."""
        configuration = self.directory / "supervisord.conf"
        self._prepare_socket()
        configuration.write_text(
            _SUPERVISORD.format(
                socket=_literal(str(self.socket)),
                directory=_literal(str(self.directory)),
                identifier=self.identifier,
                user="user = root\n" if os.getuid() == 0 else "",
            ),
            encoding="utf-8",
        )
        # It becomes a daemon by itself: this process ends as soon as the socket is there.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(configuration),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            cwd="/",
        )  # fmt: skip
        try:
            said, _ = await asyncio.wait_for(process.communicate(), START_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Temporary("supervisord did not come up in time", after=START_TIMEOUT) from None
        if process.returncode:
            last = said[-2000:].decode(errors="replace").strip().splitlines()
            raise Temporary(
                f"supervisord did not start: {last[-1] if last else f'exit status {process.returncode}'}",
                next_step=f"look at {self.directory}/supervisord.log",
            )

    async def pid(self) -> int:
        """Of the supervisord that answers; 0: none runs. Raises `Temporary` for one that runs and does not answer: a
        busy one must not be taken for dead."""
        try:
            answer = await self.ask("supervisor.getPID")
        except Temporary as error:
            if isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError):
                return 0
            raise
        return answer if isinstance(answer, int) else 0

    async def processes(self) -> dict[str, Kept]:
        try:
            found = msgspec.convert(await self.ask("supervisor.getAllProcessInfo"), type=list[Kept])
        except msgspec.ValidationError as error:
            raise Temporary(f"supervisord's answer is not understood: {error}") from error
        return {kept.name: kept for kept in found}

    async def add(self, ids: list[str]) -> None:
        """Start what the files say. One that it has already is no error."""
        if ids:
            await self.ask("supervisor.reloadConfig")
        for first in range(0, len(ids), STARTED_AT_ONCE):
            await self._each("supervisor.addProcessGroup", ids[first : first + STARTED_AT_ONCE])

    async def restart(self, ids: list[str]) -> None:
        """Try again what it gave up."""
        await self._each("supervisor.startProcess", ids, False)

    async def stop(self, ids: list[str]) -> None:
        """SIGTERM now, SIGKILL when the grace of its section is over."""
        await self._each("supervisor.stopProcess", ids, False)

    async def drop(self, ids: list[str]) -> None:
        """Forget those that have ended."""
        await self._each("supervisor.removeProcessGroup", ids)

    async def signal(self, ids: list[str], name: str) -> None:
        await self._each("supervisor.signalProcess", ids, name)

    async def shut_down(self) -> None:
        await self.ask("supervisor.shutdown")

    async def _each(self, method: str, ids: list[str], *arguments: object) -> None:
        """One call for all. What fails for one agent (it just ended, it is there already) is seen by the next look."""
        if ids:
            calls = [{"methodName": method, "params": [agent, *arguments]} for agent in ids]
            await self.ask("system.multicall", calls)

    async def ask(self, method: str, *arguments: Any) -> Any:
        """Raises `Temporary` for whatever goes wrong."""
        body = xmlrpc.client.dumps(arguments, method).encode()
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                answer = await self._post(body)
            return xmlrpc.client.loads(answer, use_builtin_types=True)[0][0]
        except xmlrpc.client.Fault as fault:
            raise Temporary(f"supervisord refused {method}: {fault.faultString}") from fault
        except (OSError, ValueError, LookupError, asyncio.IncompleteReadError, xmlrpc.client.Error) as error:
            raise Temporary(f"supervisord does not answer: {str(error) or type(error).__name__}", after=1.0) from error
        except Exception as error:  # expat's own error is not exported under a name that lasts
            raise Temporary(f"supervisord's answer is not understood: {error}", after=1.0) from error

    async def _post(self, body: bytes) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=64 << 10)
        try:
            head = f"POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            headers = await reader.readuntil(b"\r\n\r\n")
            status = headers.split(None, 2)[1]
            if status != b"200":
                raise ValueError(f"status {status.decode(errors='replace')}")
            answer = bytearray()
            while chunk := await reader.read(64 << 10):
                answer += chunk
                if len(answer) > LARGEST_ANSWER:
                    raise ValueError("an answer without end")
            return answer.decode()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _prepare_socket(self) -> None:
        """A socket in the shared temporary folder lies in a folder of ours that was checked."""
        if self.socket.parent != self.directory:
            self.socket.parent.mkdir(mode=0o700, exist_ok=True)
            status = self.socket.parent.lstat()
            check_private(self.socket.parent, mode=status.st_mode, owner=status.st_uid, uid=os.getuid())


def _socket_path(directory: Path) -> Path:
    """In the pool's directory, or, where that path is too long for a socket, in the shared folder of `base.paths`."""
    path = directory / "supervisor.sock"
    # supervisord binds a temporary name first: this one, a dot and its pid.
    if len(str(path).encode()) + 9 <= SOCKET_PATH_LIMIT:
        return path
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    return TEMPORARY / f"covey-{os.getuid()}" / f"{digest}.sock"


def _literal(text: str) -> str:
    """`text` as supervisord's reader gives it back: it expands `%(...)s`, and cuts comments at ` ;`
    and ` #`."""
    if any(ord(character) < 32 for character in text) or " ;" in text or " #" in text:
        raise Permanent(
            f"a path that supervisord cannot be given: {text!r}", next_step="choose another COVEY_FLEET_HOME"
        )
    return text.replace("%", "%%")
