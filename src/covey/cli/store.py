"""`store`: what this agent keeps on disk."""

from __future__ import annotations

from functools import partial

import typer

from covey.base.errors import UsageError
from covey.base.schema import FindingView, Items
from covey.cli import launch, render
from covey.cli.command import Call, Outcome, command, group
from covey.cli.judgement import judgement

__all__ = ["check", "register"]


def register(app: typer.Typer) -> None:
    store = typer.Typer(help="Check what this agent keeps on disk.", rich_markup_mode=None)
    group(store)(choose)
    command(store, "check")(check)
    app.add_typer(store, name="store")


def choose(call: Call) -> Outcome:
    """Check what this agent keeps on disk."""
    raise UsageError("say what to do with the store", next_step="covey store check")


def check(call: Call) -> Outcome:
    """Check files, identity and database, with the daemon running or not.

    Modes and owners, the identity's log and keys, SQLite's integrity_check and what Covey promises beyond it. Nothing
    is changed or repaired. Exits with 0, 11 for a warning or 12 for an error.
    """
    found = launch.ask(call, "store", Items[FindingView])
    where = str(call.home.state_dir)
    return Outcome(found, partial(_show, where, found.items), error=judgement(found.items))


def _show(where: str, items: list[FindingView]) -> None:
    problems = [each for each in items if each.severity != "note"]
    render.verdict("degraded" if problems else "ok", f"{where}: {render.tally(items)} to say")
    render.findings(items)
