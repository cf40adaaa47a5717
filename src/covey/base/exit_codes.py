"""What the exit code of `covey` means. `docs/reference-cli.md` is checked against this table."""

from __future__ import annotations

from typing import Final

from covey.base import errors
from covey.base.errors import CoveyError

__all__ = ["EXIT_CODES", "INTERRUPTED", "OUTPUT_GONE", "exit_code"]

INTERRUPTED: Final = 130
"""128 + SIGINT, as shells count."""

OUTPUT_GONE: Final = 141
"""128 + SIGPIPE."""

EXIT_CODES: Final[dict[int, str]] = {
    0: "done; for `send-message`: delivered, or queued on disk and being retried",
    1: "failed, for a reason that has no code of its own",
    2: "usage: the command line, or what it was given, is wrong",
    3: "the daemon is not running",
    4: "not found: no such peer, name or message",
    5: "refused by the peer or by policy",
    6: "unreachable: the peer or the network does not answer",
    7: "the time allowed is over",
    8: "queued but not delivered, with `send-message --require-delivered`",
    9: "storage: a file or database cannot be used",
    10: "a limit was hit: size, count or rate",
    11: "`doctor`, `netcheck`, `store check`: a warning is the worst that was found",
    12: "`doctor`, `netcheck`, `store check`: an error was found",
    INTERRUPTED: "interrupted with Ctrl-C",
    OUTPUT_GONE: "the reader of the output went away",
}

_BY_CODE: Final[dict[str, int]] = {
    "not-running": 3,
    "not-delivered": 8,
    "expired": 7,
    "warnings-found": 11,
    "errors-found": 12,
}
"""Error codes that have an exit code of their own."""

_BY_CLASS: Final[dict[type[CoveyError], int]] = {
    errors.ParseError: 2,
    errors.UsageError: 2,
    errors.NotFoundError: 4,
    errors.RefusedError: 5,
    errors.UnreachableError: 6,
    errors.TimeoutError: 7,
    errors.StorageError: 9,
    errors.LimitError: 10,
}


def exit_code(error: CoveyError) -> int:
    """The exit code for an error: its own, or its class', or 1."""
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    for cls in type(error).__mro__:
        if cls in _BY_CLASS:
            return _BY_CLASS[cls]
    return 1
