"""How a command of `covey` is declared, called and answered.

A command is a function that takes a `Call` and its own parameters and returns an `Outcome`. `command` puts it
into a Typer application with the options that every command has (`--json`, `--timeout`, `--profile`), and
renders what it returned or raised exactly once: for people, or as one JSON document::

    {"schema": 1, "ok": true,  "data": ...} {"schema": 1, "ok": false, "error": {"code", "message",
    "next_step"}}        and "data" where there is some
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from covey.base.errors import CoveyError
from covey.base.exit_codes import exit_code
from covey.base.paths import Home
from covey.base.schema import SCHEMA_VERSION, ErrorView
from covey.cli import render
from covey.cli.client import Client

__all__ = ["COMMON_OPTIONS", "Call", "Outcome", "OutputGone", "command", "group", "report_error"]

DEFAULT_TIMEOUT = 30.0
"""Seconds a command waits for the daemon unless told otherwise. Ours."""

_COVEY = re.compile(r"(^|&& )covey ")

P = ParamSpec("P")


class OutputGone(Exception):
    """The reader of our output went away; nothing more can be said. Not an `OSError`: Typer would exit with
    1."""


@dataclass(frozen=True)
class Call:
    """The options that every command has."""

    json: bool = False
    timeout: float | None = None
    profile: str | None = None

    @property
    def home(self) -> Home:
        return Home.locate(self.profile, os.environ, uid=os.getuid())

    def client(self, *, at_least: float = 0.0) -> Client:
        """The daemon's API; without `--timeout` it waits `DEFAULT_TIMEOUT`, and longer than `at_least`
        seconds."""
        timeout = self.timeout if self.timeout is not None else max(DEFAULT_TIMEOUT, at_least + 10.0)
        return Client(self.home, timeout=timeout)

    def within(self, wait: float) -> float:
        """`wait`, cut so that the daemon's truthful answer arrives before `--timeout` is over."""
        return wait if self.timeout is None else min(wait, self.timeout * 0.9)

    def suggestion(self, text: str) -> str:
        """A suggested command, or several joined by `&&`, said for the profile that was named on this
        line."""
        if self.profile is None or "--profile" in text:
            return text
        return _COVEY.sub(rf"\1covey --profile {self.profile} ", text)


@dataclass(frozen=True)
class Outcome:
    """What a command has to say: data for programs, `show` prints the same for people.

    `next_step` is the command that usually follows. With `error` the command failed although there is data.
    """

    data: Any
    show: Callable[[], None]
    next_step: str = ""
    error: CoveyError | None = None


Function = Callable[Concatenate[Call, P], Outcome]

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0.01, help="Give up after this long.", show_default=False),
]
_Profile = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", help="The agent meant, if several live here.", show_default=False),
]
_COMMON: tuple[tuple[str, Any, Any], ...] = (
    ("json", _Json, False),
    ("timeout", _Timeout, None),
    ("profile", _Profile, None),
)

COMMON_OPTIONS = tuple(name for name, _, _ in _COMMON)
"""The names of the parameters that every command has."""


def command(app: typer.Typer, name: str, *, hidden: bool = False) -> Callable[[Function[P]], Function[P]]:
    """Declare a command of `app`; its docstring is its help."""

    def register(function: Function[P]) -> Function[P]:
        app.command(name, hidden=hidden)(_with_common_options(function))
        return function

    return register


def group(app: typer.Typer) -> Callable[[Function[P]], Function[P]]:
    """Declare what `app` itself does when no sub-command is named. Its common options hold for sub-commands
    too."""

    def register(function: Function[P]) -> Function[P]:
        app.callback(invoke_without_command=True)(_with_common_options(function, is_group=True))
        return function

    return register


def report_error(error: CoveyError, call: Call, *, data: Any = None) -> int:
    """Print an error for its reader and return the exit code."""
    error.next_step = call.suggestion(error.next_step)
    if call.json:
        document = {"schema": SCHEMA_VERSION, "ok": False, "error": _view(error)}
        if data is not None:
            document["data"] = data
        render.document(document)
    else:
        render.error(error)
    return exit_code(error)


def _with_common_options(function: Function[P], *, is_group: bool = False) -> Callable[..., None]:
    def run(ctx: typer.Context, **arguments: Any) -> None:
        common = {name: arguments.pop(name) for name, _, _ in _COMMON}
        call = _merged(ctx.obj, **common)
        if is_group:
            ctx.obj = call
            if ctx.invoked_subcommand is not None:
                return
        try:
            code = _carry_out(call, lambda: function(call, **arguments))  # type: ignore[call-arg]
        except BrokenPipeError as error:
            raise OutputGone from error
        if code:
            raise typer.Exit(code)

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("ctx", keyword, annotation=typer.Context)]
    parameters += [parameter.replace(kind=keyword) for parameter in own]
    parameters += [
        inspect.Parameter(name, keyword, default=default, annotation=annotation)
        for name, annotation, default in _COMMON
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {}
    run.__name__ = function.__name__
    run.__doc__ = function.__doc__
    return run


def _merged(outer: Any, *, json: bool, timeout: float | None, profile: str | None) -> Call:
    """A sub-command's options before its group's before the program's."""
    call = outer if isinstance(outer, Call) else Call()
    return replace(
        call,
        json=json or call.json,
        timeout=timeout if timeout is not None else call.timeout,
        profile=profile if profile is not None else call.profile,
    )


def _carry_out(call: Call, function: Callable[[], Outcome]) -> int:
    try:
        outcome = function()
    except CoveyError as error:
        return report_error(error, call)
    if outcome.error is not None:
        if not call.json:
            outcome.show()
        return report_error(outcome.error, call, data=outcome.data)
    if call.json:
        render.document({"schema": SCHEMA_VERSION, "ok": True, "data": outcome.data})
        return 0
    outcome.show()
    if outcome.next_step:
        render.next_step(call.suggestion(outcome.next_step))
    return 0


def _view(error: CoveyError) -> ErrorView:
    return ErrorView(error.code, error.message, error.next_step)
