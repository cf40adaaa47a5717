"""`rendezvous`: becomes the server that helps agents find each other. No daemon is involved."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    app.command("rendezvous")(rendezvous)


def rendezvous(
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Where to serve; port 0 picks one.")
    ] = None,
    advertise: Annotated[
        str | None, typer.Option("--advertise", metavar="HOST:PORT", help="The address seen from outside.")
    ] = None,
    home: Annotated[
        str | None, typer.Option("--home", metavar="DIR", help="Where it keeps its identity and cache.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print and log JSON, one object a line.")] = False,
) -> NoReturn:
    """Run a rendezvous, in the foreground.

    It prints the network's ticket as soon as it serves.
    """
    arguments = [
        word
        for option, value in (("--listen", listen), ("--advertise", advertise), ("--home", home))
        if value is not None
        for word in (option, value)
    ]
    if json:
        arguments.append("--json")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "covey.rendezvous", *arguments])  # noqa: S606 - our own program
