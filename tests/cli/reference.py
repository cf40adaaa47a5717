"""Writes `docs/reference-cli.md` from the parser and the table of exit codes.

    .venv/bin/python -m tests.cli.reference > docs/reference-cli.md

`test_reference.py` fails while the page and the program disagree.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer
from typer.main import get_command

from covey.base.exit_codes import EXIT_CODES
from covey.cli.app import app
from covey.cli.command import COMMON_OPTIONS

HEAD = """\
# The command line

Made from the parser by `python -m tests.cli.reference > docs/reference-cli.md`; a test holds them together.

`covey` is a client of the daemon on this machine: `covey up` starts it, every other command asks it. A
command that needs the daemon and does not find it exits with 3 and says how to start it.

## Conventions

- **Options of every command** (before or after its name): `--json`, `--timeout SECONDS`, `--profile NAME`,
  `--help`. `rendezvous`, `lab` and `fleet`, which ask no daemon, have `--json` and `--help`; the commands of
  `fleet` are [on a page of their own](fleet/commands.md).
- **Output.** The answer is on standard output. Remarks, errors (`error: ... (code)`) and the command that
  usually follows (`next: ...`) are on standard error. Nothing asks a question. Colour appears on terminals
  only, and not with `NO_COLOR`. What other agents sent is shown with control characters escaped.
- **`--json`** prints one document on one line, also for errors, and nothing on standard error:
  `{"schema": 1, "ok": true, "data": ...}` or
  `{"schema": 1, "ok": false, "error": {"code": "...", "message": "...", "next_step": "..."}}`, with `data`
  beside `error` where there is some. Fields are only ever added; `code` is stable, `message` is for people.
  Lists are `{"items": [...]}`. `daemon start --foreground` logs on standard error. What
  goes on until Ctrl-C (`inbox --follow`, `events --follow`, `daemon logs --follow`) prints one object per line, the
  message, event or log line itself; it ends with 130.
- **`PEER`** is a name, an address (`7f3a.91c0.d2e4`), an identity (52 characters) or, for the trust
  commands, a safety number.
- **Settings**: options before environment (`COVEY_HOSTNAME`, `COVEY_NETWORK`, `COVEY_LISTEN`...) before
  `config.toml` (`hostname`, `network`, `listen`, `log_level`, `congestion`, `port_mapping`, `keep_read_days`,
  `keep_read_messages`, `birthday`, `relay`, `relay_rate`, `jurisdiction`, `relay_jurisdictions`, `addresses`,
  `interconnects`, `paths`) before what the daemon remembers; `covey config show --origin` says which it was.
  `COVEY_PROFILE` and `COVEY_HOME` choose the agent and where its files are; `COVEY_DEBUG=1` lets a defect
  of the command line
  show its traceback.
- **Repeating is safe.** A message's id is made by the command; `--id` repeats one. `--lines` derives the ids
  of its messages from one id and the line's number.

## Exit codes

| code | meaning |
| --- | --- |
"""


def page() -> str:
    """The whole page."""
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    root = get_command(app)
    context = typer.Context(root, info_name="covey")  # type: ignore[arg-type]
    return HEAD + codes + "\n## Commands\n" + "".join(_sections(root, context))


def command_names() -> list[str]:
    """Every command by its full name, groups included."""
    root = get_command(app)
    return [name for name, _, _ in _walk(root, typer.Context(root, info_name="covey"))]  # type: ignore[arg-type]


def _walk(command: Any, context: Any) -> Iterator[tuple[str, Any, Any]]:
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        inner_context = typer.Context(inner, info_name=name, parent=context)
        yield inner_context.command_path, inner, inner_context
        if hasattr(inner, "list_commands"):
            yield from _walk(inner, inner_context)


def _sections(root: Any, context: Any) -> Iterator[str]:
    for path, command, _ in _walk(root, context):
        own = [each for each in command.params if each.name not in COMMON_OPTIONS]
        arguments = [each for each in own if each.param_type_name == "argument"]
        options = [each for each in own if each.param_type_name == "option"]
        words = " ".join(_argument(each) for each in arguments)
        text = f"\n### `{' '.join([path, *words.split()])}`\n\n{_paragraphs(command.help)}\n"
        if options:
            text += "\n| option | meaning |\n| --- | --- |\n"
            text += "".join(f"| `{_spelling(each)}` | {_meaning(each)} |\n" for each in options)
        yield text


def _argument(argument: Any) -> str:
    name = str(argument.metavar or argument.name.upper())
    return name if argument.nargs == 1 or name.endswith("...") else f"{name}..."


def _spelling(option: Any) -> str:
    spelling = ", ".join(option.opts)
    if option.is_flag:
        return spelling
    choices = getattr(option.type, "choices", None)
    return f"{spelling} {'|'.join(choices) if choices else option.metavar or 'N'}".replace("|", "\\|")


def _meaning(option: Any) -> str:
    default = "" if option.is_flag or option.default is None or option.default == "" else f" Default: {option.default}."
    return f"{option.help}{default}"


def _paragraphs(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


if __name__ == "__main__":
    sys.stdout.write(page())
