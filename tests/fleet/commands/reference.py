"""Writes `docs/fleet/commands.md` from the parser.

    .venv/bin/python -m tests.fleet.commands.reference > docs/fleet/commands.md

`test_reference.py` fails while the page and the program disagree.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from covey.fleet.commands.program import parser

HEAD = """\
# `covey fleet`

Made from the parser by `python -m tests.fleet.commands.reference > docs/fleet/commands.md`; a test holds them together.

Commands and controller meet in the fleet's store: every command works while no controller runs, and says so. The
store is in the fleet's home: `--home DIR`, else `COVEY_FLEET_HOME`, else `fleet` in Covey's data directory.

Every command has `--json` (one document: `{"schema": 1, "ok": true, "data": ...}` or `{"schema": 1, "ok": false,
"error": {"code", "message", "next_step"}}`; lists are `{"items": [...]}`), `--home DIR` and `--help`.
[Exit codes](../reference-cli.md#exit-codes) are those of `covey`. A time is `30m` (from now, or ago), `18:00`, or
`2026-11-20 18:00`.
"""


def page() -> str:
    return HEAD + "".join(_sections())


def _sections() -> Iterator[str]:
    verbs = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, verb in verbs.choices.items():
        own = [action for action in verb._actions if action.dest not in ("help", "json", "home")]
        words = [_argument(action) for action in own if not action.option_strings]
        text = f"\n## `{' '.join(['covey fleet', name, *words])}`\n\n{verb.description}\n"
        rows = [action for action in own if action.option_strings]
        if rows:
            text += "\n| option | meaning |\n| --- | --- |\n"
            text += "".join(f"| `{_spelling(action)}` | {_meaning(action)} |\n" for action in rows)
        yield text


def _argument(action: argparse.Action) -> str:
    word = str(action.metavar)
    many = "..." if action.nargs in ("*", "+") else ""
    return f"[{word}{many}]" if action.nargs in ("?", "*") else f"{word}{many}"


def _spelling(action: argparse.Action) -> str:
    value = "\\|".join(action.choices) if action.choices else action.metavar
    return " ".join(action.option_strings if action.nargs == 0 else [*action.option_strings, str(value)])


def _meaning(action: argparse.Action) -> str:
    return str(action.help).replace("%(default)s", str(action.default)) + (" (required)" if action.required else "")


if __name__ == "__main__":
    sys.stdout.write(page())
