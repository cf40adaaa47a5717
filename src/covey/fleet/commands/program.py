"""`python -m covey.fleet`, or `covey fleet`, which becomes it: where agents run, by demand, price, capacity and health.

A spec says what is wanted, a controller keeps it so, and everything it does is explained. Begin with
`covey fleet init`. Every command has --json, --home DIR and --help.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from covey.base.errors import CoveyError, UsageError
from covey.base.exit_codes import INTERRUPTED, OUTPUT_GONE, exit_code
from covey.base.schema import SCHEMA_VERSION, ErrorView
from covey.fleet.commands import down, explain, look, orders, plan, prices, run, simulate, specs, words
from covey.fleet.commands.context import Context, Parser, Result, Verbs

__all__ = ["main", "parser"]


def main(arguments: Sequence[str]) -> int:
    """The process' exit code."""
    as_json = "--json" in arguments
    try:
        options, unknown = parser().parse_known_args(_in_order(arguments))
        if unknown:
            raise UsageError(
                f"unrecognized arguments: {' '.join(unknown)}", next_step=f"covey fleet {options.verb} --help"
            )
        result: Result = options.do(Context.of(options), options)
    except CoveyError as error:
        return _report(error, json=as_json)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _output_gone()
    except Exception as error:
        if os.environ.get("COVEY_DEBUG"):
            raise
        step = "this is a defect of covey; COVEY_DEBUG=1 shows where it happened"
        return _report(CoveyError(f"{type(error).__name__}: {error}", code="internal", next_step=step), json=as_json)
    try:
        return _show(result, json=as_json)
    except BrokenPipeError:
        return _output_gone()


def _in_order(arguments: Sequence[str]) -> list[str]:
    """`--json` and `--home DIR` may stand before the command as well."""
    rest, early = list(arguments), []
    while rest and (rest[0] in ("--json", "--home") or rest[0].startswith("--home=")):
        early += [rest.pop(0) for _ in range(2 if rest[0] == "--home" and len(rest) > 1 else 1)]
    return [*rest[:1], *early, *rest[1:]]


def parser() -> Parser:
    """Of all commands; the reference is made from it."""
    found = Parser(prog="covey fleet", description=__doc__.partition("\n")[2].strip() if __doc__ else "")
    verbs = Verbs(found)
    for noun in (specs, plan, simulate, run, look, explain, orders, prices, down):
        noun.add(verbs)
    return found


def _show(result: Result, *, json: bool) -> int:
    error = result.error
    if json:
        fields: dict[str, Any] = {"data": result.data}
        if error is not None:
            fields["error"] = ErrorView(error.code, error.message, error.next_step)
        _document(ok=error is None, **fields)
    elif result.text:
        _say(words.printable(result.text))
    sys.stdout.flush()
    if error is None:
        return 0
    return exit_code(error) if json else _report(error, json=False)


def _report(error: CoveyError, *, json: bool) -> int:
    if json:
        _document(ok=False, error=ErrorView(error.code, error.message, error.next_step))
        return exit_code(error)
    sys.stderr.write(f"error: {words.printable(error.message)} ({error.code})\n")
    if error.next_step:
        sys.stderr.write(f"next: {words.printable(error.next_step)}\n")
    return exit_code(error)


def _output_gone() -> int:
    # Python would complain again when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OUTPUT_GONE


def _document(**fields: Any) -> None:
    _say(msgspec.json.encode({"schema": SCHEMA_VERSION, **fields}).decode())


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
