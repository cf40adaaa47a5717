"""`run`: the controller, in the foreground, until Ctrl-C or SIGTERM. Agents run on without it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from covey.base.errors import NotFoundError
from covey.base.schema import SCHEMA_VERSION
from covey.fleet.commands import words
from covey.fleet.commands.context import SPEC_FILE, Context, Result, Verbs
from covey.fleet.commands.specs import apply_file

if TYPE_CHECKING:
    from covey.fleet.loop.turn import Turned

__all__ = ["add"]


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
    from covey.fleet.loop.program import run

    os.umask(0o077)
    asyncio.run(run(context.home, os.environ, _Teller(as_json=options.json, quiet=options.quiet)))
    return Result(
        {"stopped": True}, "" if options.quiet else "stopped; the agents run on: covey fleet down --all ends them"
    )


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
            sys.stdout.write(f"{time.strftime('%H:%M:%S')} {words.printable(text)}\n")
        sys.stdout.flush()

    def turned(self, turned: Turned, problems: dict[str, str]) -> None:
        self._decisions(turned)
        self._new_problems(problems)

    def _decisions(self, turned: Turned) -> None:
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

    def _new_problems(self, problems: dict[str, str]) -> None:
        for name, problem in problems.items():
            if self._problems.get(name) != problem:
                self.event("problem", f"{name}: {problem}", name=name, problem=problem)
        for name in self._problems.keys() - problems.keys():
            self.event("mended", f"{name}: well again", name=name)
        self._problems = dict(problems)
