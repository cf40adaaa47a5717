"""Prices are read again before they are stale, by a process of its own: parsing 0.3 GB must not delay a turn."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from covey.fleet.model import STALE_SPOT

__all__ = ["keep_fresh"]

_EVERY: Final = STALE_SPOT / 2
"""Seconds between readings."""

_LONGEST: Final = 1200.0
"""Seconds that one may take."""


async def keep_fresh(home: Path, *, wanted: Callable[[], bool], told: Callable[[str], None]) -> None:
    """Until cancelled: `covey fleet prices refresh --needed` now and every half hour, while the spec asks for it.
    `told` hears what went wrong; the prices that are known hold on."""
    while True:
        if wanted():
            problem = await _refresh(home)
            if problem:
                told(problem)
        await asyncio.sleep(_EVERY)


async def _refresh(home: Path) -> str:
    """ "" or what went wrong."""
    command = [sys.executable, "-P", "-m", "covey.fleet", "prices", "refresh", "--needed", "--home", str(home)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_LONGEST):
            _, said = await process.communicate()
    except TimeoutError:
        return f"reading them took longer than {_LONGEST:g} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return said.decode(errors="replace").strip()[-500:] if process.returncode else ""
