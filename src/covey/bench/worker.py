"""One end of a pair, in a process of its own: `python -m covey.bench.worker MODULE:SPEAKER`.

It reads commands as JSON objects, one a line, on standard input, and answers each with one line on standard output:
`{"ok": {...}}` or `{"error": "..."}`. It ends when its input does.

========= ============================================== ============================================================
do        arguments                                      answer
========= ============================================== ============================================================
place     address, directory, options                    versions
pin       cores                                          nothing
serve                                                    facts, to be given to the other end
dial      facts                                          nothing; the session is made by the first job
job       name, and the arguments of `covey.bench.jobs`  what the job measured
call      function (`module:name`), arguments            what it returns; for what needs one process only
profile   on                                             when it is turned off, where the time went, as text
usage     collect: free what can be freed before         CPU seconds so far, and bytes of private memory
========= ============================================== ============================================================
"""

from __future__ import annotations

import asyncio
import cProfile
import ctypes
import gc
import importlib
import io
import json
import os
import platform
import pstats
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from covey.bench.jobs import JOBS, ON_DATAGRAM, SERVICES, Place, Side, Speaker

__all__ = ["load", "main"]

_LINE: Final = 1 << 20
"""Bytes of the longest command."""
_PROFILE_LINES: Final = 35
_FILES: Final = 16_384
"""Files that a process may want open: a thousand sessions have one or two each."""


def load(spec: str) -> Any:
    """What `module:name` names."""
    module, _, name = spec.partition(":")
    return getattr(importlib.import_module(module), name)


class Worker:
    """Does what it is told, one command after the other."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._place = Place("127.0.0.1", ".")
        self._side: Side | None = None
        self._profile = cProfile.Profile()

    async def place(self, address: str, directory: str, options: dict[str, Any]) -> dict[str, Any]:
        self._place = Place(address, directory, options)
        return {"python": platform.python_version(), "loop": type(asyncio.get_running_loop()).__module__}

    async def pin(self, cores: list[int]) -> dict[str, Any]:
        # Where cores cannot be chosen (macOS), "one core" is what the system makes of it.
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        return {}

    async def serve(self) -> dict[str, Any]:
        return await self._speaker.serve(self._place, SERVICES, ON_DATAGRAM)

    async def dial(self, facts: dict[str, Any]) -> dict[str, Any]:
        self._side = Side(self._speaker, self._place, facts)
        return {}

    async def job(self, name: str, **arguments: Any) -> dict[str, float]:
        assert self._side is not None, "dial comes before job"
        return await JOBS[name](self._side, **arguments)

    async def call(self, function: str, arguments: dict[str, Any]) -> dict[str, float]:
        # In a thread: it may want an event loop of its own.
        found: dict[str, float] = await asyncio.to_thread(load(function), **arguments)
        return found

    async def profile(self, on: bool) -> str:
        if on:
            self._profile.enable()
            return ""
        self._profile.disable()
        text = io.StringIO()
        pstats.Stats(self._profile, stream=text).sort_stats("tottime").print_stats(_PROFILE_LINES)
        self._profile = cProfile.Profile()
        return text.getvalue()

    async def usage(self, collect: bool = False) -> dict[str, float]:
        if collect:
            gc.collect()
            with suppress(OSError, AttributeError):  # glibc only
                ctypes.CDLL(None).malloc_trim(0)
        return {"cpu_s": time.process_time(), "private": _private()}

    async def close(self) -> None:
        if self._side is not None:
            await self._side.close()


def _private() -> int:
    """Bytes that this process has for itself; 0 where the kernel does not say."""
    with suppress(OSError):
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024
    return 0


def _more_files() -> None:
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


async def _run(speaker: Speaker) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    worker = Worker(speaker)
    while line := await reader.readline():
        command = json.loads(line)
        action = getattr(worker, command.pop("do"))
        answer: dict[str, Any]
        try:
            answer = {"ok": await action(**command)}
        except Exception as error:  # whatever a contender throws is an answer, and the next job is tried
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    await worker.close()


def main() -> int:
    _more_files()
    speaker, *more = sys.argv[1:]
    make = load(speaker)  # before uvloop, which may stand where the speaker says
    run: Callable[..., Any] = asyncio.run
    if "--uvloop" in more:
        run = importlib.import_module("uvloop").run
    run(_run(make()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
