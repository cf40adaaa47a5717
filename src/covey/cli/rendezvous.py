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
        list[str] | None,
        typer.Option("--advertise", metavar="HOST:PORT", help="The address seen from outside; up to four times."),
    ] = None,
    join: Annotated[
        list[str] | None,
        typer.Option("--join", metavar="TICKET", help="Another rendezvous of the network; its ticket gets both."),
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option("--certificate", metavar="FILE", help="Serve WebSockets over TLS too, with this chain (PEM)."),
    ] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="FILE", help="The certificate's key (PEM).")] = None,
    websocket: Annotated[
        str | None,
        typer.Option("--websocket", metavar="HOST:PORT", help="Where to serve them; the host of --listen, port 443."),
    ] = None,
    advertise_websocket: Annotated[
        list[str] | None,
        typer.Option(
            "--advertise-websocket",
            metavar="HOST:PORT",
            help="Where agents find them: a host that the certificate names; up to four times.",
        ),
    ] = None,
    home: Annotated[
        str | None, typer.Option("--home", metavar="DIR", help="Where it keeps its identity and cache.")
    ] = None,
    drain_timeout: Annotated[
        float | None,
        typer.Option("--drain-timeout", metavar="SECONDS", help="How long clients may take to leave at the end; 5."),
    ] = None,
    relay_rate: Annotated[
        int | None,
        typer.Option("--relay-rate", metavar="BYTES", help="Bytes a second relayed for each client; 0, no limit."),
    ] = None,
    jurisdiction: Annotated[
        str | None, typer.Option("--jurisdiction", metavar="WORD", help="Where it is: eu, de, us-ca.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print and log JSON, one object a line.")] = False,
) -> NoReturn:
    """Run a rendezvous, in the foreground.

    It prints the network's ticket as soon as it serves.
    """
    options: list[tuple[str, str | float | None]] = [
        ("--listen", listen),
        *(("--advertise", each) for each in advertise or ()),
        *(("--join", each) for each in join or ()),
        ("--certificate", certificate),
        ("--key", key),
        ("--websocket", websocket),
        *(("--advertise-websocket", each) for each in advertise_websocket or ()),
        ("--home", home),
        ("--drain-timeout", drain_timeout),
        ("--relay-rate", relay_rate),
        ("--jurisdiction", jurisdiction),
        ("--log-level", log_level),
    ]
    arguments = [word for option, value in options if value is not None for word in (option, str(value))]
    if json:
        arguments.append("--json")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "covey.rendezvous", *arguments])  # noqa: S606 - our own program
