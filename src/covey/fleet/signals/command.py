"""The signal `command`: what a program of the user's prints.

It prints a number (a rate for `rate_per_agent`, else the value), or JSON: ``{"backlog": 12, "arrivals": 4711}`` with
counters as for `queue`, or ``{"rate": 31.5, "backlog": 12}`` with a rate. It runs in a process group of its own, which
is killed when the time is over; exit status 0 is success.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from covey.base.errors import UsageError
from covey.fleet.errors import Permanent, Temporary
from covey.fleet.model import Agent, Reading
from covey.fleet.providers.registry import Surroundings
from covey.fleet.signals.rates import MOST, Rate
from covey.fleet.spec.types import Target, Workload

__all__ = ["CommandSource", "make"]

TIMEOUT: Final = 2.0
LARGEST_OUTPUT: Final = 64 << 10


class Printed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What it may print as JSON."""

    backlog: float | None = None
    arrivals: float | None = None
    """A counter."""
    completions: float | None = None
    """A counter."""
    rate: float | None = None
    value: float | None = None
    ongoing: float | None = None


def make(workload: Workload, target: Target, surroundings: Surroundings) -> CommandSource:
    """Raises `UsageError` without a command."""
    if not target.command:
        raise UsageError(
            f"workloads.{workload.name}: the signal `command` needs a command",
            code="bad-spec",
            next_step='say what to run: command = ["./how-many-wait"]',
        )
    return CommandSource(target, surroundings)


class CommandSource:
    """One program, one part: ""."""

    def __init__(self, target: Target, surroundings: Surroundings) -> None:
        self.every = target.every
        self._target = target
        self._timeout = float(target.settings.get("timeout") or TIMEOUT)
        self._work = surroundings.home / "work"
        self._arrivals, self._completions = Rate(), Rate()

    async def read(self, agents: Sequence[Agent], now: float) -> dict[str, Reading]:
        printed = self._parse_untrusted(await self._run())
        arrivals = self._arrivals.next(printed.arrivals, now)
        return {
            "": Reading(
                at=now,
                backlog=printed.backlog,
                arrivals=arrivals if printed.rate is None else printed.rate,
                completions=self._completions.next(printed.completions, now),
                value=printed.value,
                ongoing=printed.ongoing,
                interval=self.every,
            )
        }

    async def _run(self) -> bytes:
        command = self._target.command
        self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=self._work,
                env=os.environ | {"PATH": path},
                start_new_session=True,
            )
        except OSError as error:
            raise Permanent(f"{command[0]} cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(self._timeout):
                assert process.stdout is not None
                output = await _read(process.stdout)
                status = await process.wait()
        except TimeoutError:
            raise Temporary(f"{command[0]} took longer than {self._timeout:g} s") from None
        finally:
            # Also what it left behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if status:
            raise Temporary(f"{command[0]} ended with exit status {status}")
        return output

    def _parse_untrusted(self, output: bytes) -> Printed:
        command = self._target.command[0]
        try:
            said: Any = msgspec.json.decode(output)
            if isinstance(said, int | float) and not isinstance(said, bool):
                said = {"rate": said} if self._target.rate_per_agent else {"value": said}
            printed = msgspec.convert(said, type=Printed)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Permanent(
                f"what {command} prints is not understood: {error}",
                next_step='print a number, or JSON such as {"rate": 31.5, "backlog": 12}',
            ) from error
        if any(isinstance(value, float) and not 0 <= value <= MOST for value in msgspec.structs.astuple(printed)):
            raise Permanent(f"{command} printed a number that is no count")
        return printed

    async def close(self) -> None:
        return None


async def _read(stream: asyncio.StreamReader) -> bytes:
    output = b""
    while chunk := await stream.read(LARGEST_OUTPUT):
        output += chunk
        if len(output) > LARGEST_OUTPUT:
            raise Permanent(f"it prints more than {LARGEST_OUTPUT} bytes")
    return output
