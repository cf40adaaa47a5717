"""`covey`: the entry point. Nothing that goes wrong leaves a traceback, and the exit code says what it
was."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

__all__ = ["main", "run"]


def main() -> None:
    """Run the process' command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a poor terminal cannot show is still no error
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line and return its exit code."""
    try:
        from covey.base.exit_codes import INTERRUPTED, OUTPUT_GONE
        from covey.cli.app import execute
        from covey.cli.command import OutputGone
    except KeyboardInterrupt:
        return 130
    try:
        code = execute(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (OutputGone, BrokenPipeError):
        _forget_output()
        return OUTPUT_GONE
    return code


def _forget_output() -> None:
    """Let the interpreter's last flush go nowhere instead of failing aloud."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
