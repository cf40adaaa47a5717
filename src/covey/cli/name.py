"""`name`: what others call this agent."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from covey.base.errors import UsageError
from covey.base.schema import NameView
from covey.cli import render
from covey.cli.command import Call, Outcome, command

__all__ = ["name", "register"]

KNOWN_SECONDS = 5.0
"""How long the rendezvous get to hear of a change before we say how many know."""


def register(app: typer.Typer) -> None:
    command(app, "name")(name)


def name(
    call: Call,
    new: Annotated[str | None, typer.Argument(metavar="[NEW]", help="The name to take.", show_default=False)] = None,
    release: Annotated[bool, typer.Option("--release", help="Give the name up, so that others may have it.")] = False,
) -> Outcome:
    """Show, take or give up this agent's name.

    It is what others find the agent by: leased, first come, at each rendezvous of the network, as long as the agent
    shows itself there within seven days. Peers that trust this agent keep the name they know it by.
    """
    if new is not None and release:
        raise UsageError("take a name or give it up, not both", next_step="covey name --help")
    with call.client(at_least=KNOWN_SECONDS) as client:
        if release:
            view = client.delete("/v1/name", NameView, wait=call.within(KNOWN_SECONDS))
        elif new is not None:
            view = client.put("/v1/name", NameView, name=new, wait=call.within(KNOWN_SECONDS))
        else:
            view = client.get("/v1/name", NameView)
    next_step = "" if view.chosen and not view.taken else "covey name NEW"
    return Outcome(view, partial(_show, view), next_step)


def _show(view: NameView) -> None:
    render.line(view.name + ("" if view.chosen else "  (made up from the identity: nobody chose a name)"))
    if not view.rendezvous:
        render.line("  this agent belongs to no network, so nobody holds the name for it")
        return
    render.line(f"  held by {view.held} of {view.rendezvous} rendezvous")
    if view.taken:
        render.line(f"  {view.taken} of them lease it to another agent, who came first")
    missing = view.rendezvous - view.held - view.taken
    if missing:
        render.line(f"  {missing} not reached or not asked yet; told as soon as possible")
