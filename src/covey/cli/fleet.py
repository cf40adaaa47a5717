"""`fleet`: where agents run, by demand, price, capacity and health. It becomes `python -m covey.fleet`, whose parser
alone knows its commands: help is written once."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    app.command(
        "fleet",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
        add_help_option=False,
    )(fleet)


def fleet(context: typer.Context) -> NoReturn:
    """Run agents on pools in several clouds, where price, capacity and health say: `covey fleet --help`."""
    sys.stdout.flush()
    argv = [sys.executable, "-P", "-m", "covey.fleet", *(context.args or ["--help"])]
    os.execv(sys.executable, argv)  # noqa: S606 - our own program
