"""`lab`: agents behind NATs of every kind on this machine. No daemon is involved; it becomes `python -m covey.lab`."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from covey.base.errors import UsageError
from covey.cli.command import Call, Outcome, group

__all__ = ["register"]

_Lab = Annotated[str, typer.Option("--lab", metavar="NAME", help="Which, if there are several.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_Machine = Annotated[str, typer.Argument(metavar="NAME", help="A machine of the lab.", show_default=False)]
_Other = Annotated[str | None, typer.Argument(metavar="OTHER", help="Another.", show_default=False)]


def register(app: typer.Typer) -> None:
    lab = typer.Typer(help="Build agents behind NATs of every kind on this machine.", rich_markup_mode=None)
    group(lab)(choose)
    lab.command("up")(up)
    lab.command("show")(show)
    lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(run)
    lab.command("cut")(cut)
    lab.command("heal")(heal)
    lab.command("uplink")(uplink)
    lab.command("forget")(forget)
    lab.command("kinds")(kinds)
    lab.command("down")(down)
    app.add_typer(lab, name="lab")


def choose(call: Call) -> Outcome:
    """Build agents behind NATs of every kind on this machine.

    Network namespaces, the real kernel, nftables, and no root. What a lab's machines send stays in the lab.
    """
    raise UsageError("say what to do with the lab", next_step="covey lab up")


def up(
    machines: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=KIND...", help="A kind, server, or beside:NAME.", show_default=False),
    ] = None,
    lab: _Lab = "default",
    json: _Json = False,
) -> NoReturn:
    """Make the lab, or add machines to it.

    KIND is one of `covey lab kinds`, `server` for a host in the open internet, or `beside:NAME` for one more behind
    NAME's box. Without machines: two servers, an agent behind a port-restricted box and one behind a symmetric one.
    """
    _become("up", lab, json, *(machines or []))


def show(lab: _Lab = "default", json: _Json = False) -> NoReturn:
    """Draw the lab: who stands behind whom, and what is broken."""
    _become("show", lab, json)


def run(
    name: _Machine,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run.", show_default=False)],
    lab: _Lab = "default",
    json: _Json = False,
) -> NoReturn:
    """Run a program on a machine of the lab.

    COVEY_HOME, unless it is set, is a directory of that machine, which ends with the lab.
    """
    _become("exec", lab, json, name, "--", *command)


def cut(
    name: _Machine,
    other: _Other = None,
    over: Annotated[
        int | None, typer.Option("--over", metavar="BYTES", min=1, help="Only IP packets larger than this.")
    ] = None,
    lab: _Lab = "default",
    json: _Json = False,
) -> NoReturn:
    """Drop what passes between two machines, or all of one.

    With `--over` it is a black hole: small packets pass.
    """
    words = [] if over is None else ["--over", str(over)]
    _become("cut", lab, json, *words, name, *([other] if other else []))


def heal(name: _Machine, other: _Other = None, lab: _Lab = "default", json: _Json = False) -> NoReturn:
    """End what `cut` began between two machines, or whatever was done to one."""
    _become("heal", lab, json, name, *([other] if other else []))


def uplink(
    name: _Machine,
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="Of the new network.", show_default=False)] = None,
    lab: _Lab = "default",
    json: _Json = False,
) -> NoReturn:
    """Move a machine to another network: new link, addresses and box."""
    _become("uplink", lab, json, name, *([kind] if kind else []))


def forget(name: _Machine, lab: _Lab = "default", json: _Json = False) -> NoReturn:
    """Let a machine's box forget its mappings, as in a restart."""
    _become("forget", lab, json, name)


def kinds(json: _Json = False) -> NoReturn:
    """List the kinds of network that an agent may stand in."""
    _become("kinds", "default", json)


def down(lab: _Lab = "default", json: _Json = False) -> NoReturn:
    """End the lab and every process in it."""
    _become("down", lab, json)


def _become(verb: str, lab: str, json: bool, *words: str) -> NoReturn:
    argv = [verb, "--lab", lab, *(["--json"] if json else []), *words]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "covey.lab", *argv])  # noqa: S606 - our own program
