"""`run`: the controller, in the foreground, until Ctrl-C or SIGTERM. Agents run on without it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from covey.base.errors import NotFoundError
from covey.base.schema import SCHEMA_VERSION
from covey.fleet.commands import words
from covey.fleet.commands.context import SPEC_FILE, Context, Result, Verbs
from covey.fleet.commands.specs import apply_file

if TYPE_CHECKING:
    from covey.fleet.loop.controller import Controller
    from covey.fleet.loop.store import Store
    from covey.fleet.loop.turn import Turned

__all__ = ["add"]

_STANDBY: Final = 2.0
"""Seconds between tries to lead: another controller that died is replaced within 10 s (FLEET 6)."""


def add(verbs: Verbs) -> None:
    parser = verbs.add(
        "run",
        _run,
        summary="run the controller until Ctrl-C; agents run on without it",
        more=f"With --spec the file is applied first, and {SPEC_FILE} of this folder when nothing was applied yet.\n"
        "A second controller of the same fleet waits, and takes over when the first is gone. What happens is told\n"
        "line by line on standard output; with --json every decision that changed something is one line.",
    )
    parser.add_argument("--spec", default="", metavar="FILE", help="apply it first")
    parser.add_argument("--quiet", action="store_true", help="tell nothing but errors")


def _run(context: Context, options: Any) -> Result:
    _prepare(context, options)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    tell = _Teller(as_json=options.json, quiet=options.quiet)
    with context.store(make=True) as store:
        asyncio.run(_Running(context, store, tell).until_told())
    return Result({"stopped": True}, "" if options.quiet else "stopped; the agents run on")


def _prepare(context: Context, options: Any) -> None:
    """There is a spec, or the user is told how to get one."""
    if options.spec:
        apply_file(context, Path(options.spec))
        return
    with context.store(make=True) as store:
        applied = store.newest_spec() > 0
    if not applied:
        if not Path(SPEC_FILE).exists():
            raise NotFoundError(
                f"no spec was applied, and there is no {SPEC_FILE} here", code="no-spec", next_step="covey fleet init"
            )
        apply_file(context, Path(SPEC_FILE))


class _Teller:
    """Says what happens, once for each thing."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self._json = as_json
        self._quiet = quiet
        self._lines: dict[str, tuple[str, ...]] = {}
        self._problems: dict[str, str] = {}

    def event(self, event: str, text: str, **fields: Any) -> None:
        if self._quiet:
            return
        if self._json:
            document = {"schema": SCHEMA_VERSION, "event": event, **fields}
            sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
        else:
            sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        sys.stdout.flush()

    def turned(self, turned: Turned) -> None:
        for decision in turned.decisions:
            verb = {"observe": "would ", "recommend": "proposes "}.get(decision.mode, "")
            lines = tuple(verb + words.step(step) for step in decision.steps)
            lines += tuple(f"{decision.workload} is short: {each.reason}" for each in decision.shortfalls)
            before = self._lines.get(decision.workload, ())
            self._lines[decision.workload] = lines
            # What is carried out is new each time; what is only said would be said again each turn.
            new = lines if decision.mode == "act" and decision.steps else tuple(set(lines) - set(before))
            if new and self._json:
                self.event("decision", "", decision=decision)
            elif new:
                for line in lines:
                    if line in new:
                        self.event("decision", line)

    def problems(self, problems: dict[str, str]) -> None:
        for name, problem in problems.items():
            if self._problems.get(name) != problem:
                self.event("problem", f"{name} cannot be used: {problem}", name=name, problem=problem)
        self._problems = dict(problems)


class _Running:
    """One controller after another in this process: it leads, is deposed, waits, and leads again."""

    def __init__(self, context: Context, store: Store, tell: _Teller) -> None:
        self._context = context
        self._store = store
        self._tell = tell
        self._stop = asyncio.Event()

    async def until_told(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        try:
            while not self._stop.is_set():
                await self._once()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def _once(self) -> None:
        """From waiting to lead until deposed or told to stop."""
        from covey.fleet.loop.store import Deposed

        controller = self._controller()
        try:
            if not await self._lead(controller):
                return
            try:
                await self._turns(controller)
            except Deposed:
                self._tell.event("deposed", "another controller took over; waiting")
        finally:
            await controller.close()

    async def _lead(self, controller: Controller) -> bool:
        waiting = False
        while not await controller.lead():
            if not waiting:
                found = self._store.leader()
                self._tell.event("standby", f"another controller leads ({found[1] if found else 'unknown'}); waiting")
                waiting = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STANDBY):
                    await self._stop.wait()
            if self._stop.is_set():
                return False
        return True

    async def _turns(self, controller: Controller) -> None:
        from covey.fleet.loop.nudge import Nudged

        version = self._store.newest_spec()
        self._tell.event("leads", f"leads the fleet in {self._context.home.path}, spec version {version}")
        nudged = Nudged(self._context.home.nudge, controller.wake)
        stopping = asyncio.create_task(self._stop_then(controller.stop))
        try:
            await controller.run(self._told(controller))
        finally:
            stopping.cancel()
            nudged.close()

    async def _stop_then(self, stop: Callable[[], None]) -> None:
        await self._stop.wait()
        stop()

    def _told(self, controller: Controller) -> Callable[[Turned], None]:
        def told(turned: Turned) -> None:
            self._tell.turned(turned)
            self._tell.problems(controller.problems)

        return told

    def _controller(self) -> Controller:
        from functools import partial

        from covey.fleet.loop.controller import Controller
        from covey.fleet.loop.leader import FileLock
        from covey.fleet.providers.registry import Surroundings, make_provider
        from covey.fleet.signals.registry import make_source

        surroundings = Surroundings(home=self._context.home.path)
        return Controller(
            self._store,
            FileLock(self._context.home.lock),
            clock=time.time,
            holder=f"{socket.gethostname()}:{os.getpid()}",
            make_provider=partial(make_provider, surroundings=surroundings),
            make_source=partial(make_source, surroundings=surroundings),
        )
