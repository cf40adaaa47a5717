"""The command line put together: the Typer application, and how its own errors look."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.core import TyperGroup
from typer.main import get_command

from covey.base.errors import CoveyError, UsageError
from covey.base.exit_codes import INTERRUPTED
from covey.cli import (
    bench,
    complete,
    completion,
    config,
    daemon,
    doctor,
    events,
    fleet,
    inbox,
    introduction,
    key,
    lab,
    messages,
    name,
    netcheck,
    node,
    peers,
    ping,
    rendezvous,
    store,
    trust,
)
from covey.cli.command import Call, Outcome, OutputGone, group, report_error

__all__ = ["app", "execute"]

HELP_ORDER = (
    *("up", "daemon", "status", "doctor", "netcheck", "id", "key", "name", "find", "peers", "handshake"),
    *("pending", "approve", "reject", "trust", "untrust", "introduce", "ping", "send-message"),
    *("inbox", "events", "bench", "config", "store", "completion", "rendezvous", "lab", "fleet", "version"),
)
"""Commands in the order in which a newcomer needs them."""


class _Ordered(TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return sorted(super().list_commands(ctx), key=HELP_ORDER.index)


app = typer.Typer(
    name="covey",
    cls=_Ordered,
    help="A permanent address and a private, end-to-end encrypted network for every AI agent.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@group(app)
def covey(
    call: Call,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> Outcome:
    """A permanent address and a private, end-to-end encrypted network for every AI agent."""
    if not version:
        raise UsageError("no command was given", next_step="covey --help")
    return node.version(call)


NOUNS = (
    *(daemon, node, doctor, key, name, netcheck, peers, ping, trust, introduction),
    *(messages, inbox, events, bench, config, store, completion, rendezvous, lab, fleet),
)

for noun in NOUNS:
    noun.register(app)


def execute(arguments: Sequence[str]) -> int:
    """Parse and carry out `arguments`; return the exit code. For a shell that completes, answer it instead."""
    if os.environ.get(complete.VARIABLE):
        complete.answer(arguments, get_command(app))
        return 0
    try:
        result = get_command(app).main(args=list(arguments) or ["--help"], prog_name="covey", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.Abort:
        return INTERRUPTED
    except OutputGone:
        raise
    except typer.TyperException as error:
        problem: CoveyError = UsageError(error.format_message(), next_step=_help_command(error))
    except UnicodeEncodeError:
        problem = UsageError("an argument is not UTF-8 text", code="bad-text")
    except Exception as error:
        if os.environ.get("COVEY_DEBUG"):
            raise
        problem = CoveyError(
            f"{type(error).__name__}: {error}",
            code="internal",
            next_step="this is a defect of covey; COVEY_DEBUG=1 shows where it happened",
        )
    return report_error(problem, Call(json=_wants_json(arguments)))


def _help_command(error: typer.TyperException) -> str:
    """The command whose help explains a parser's error."""
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "covey")
    return f"{path} --help"


def _wants_json(arguments: Sequence[str]) -> bool:
    """`--json` is honoured even if the rest of the line does not parse; after `--` it is an argument."""
    options = list(arguments)
    if "--" in options:
        options = options[: options.index("--")]
    return "--json" in options
