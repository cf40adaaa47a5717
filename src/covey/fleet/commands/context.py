"""What every command is given, what it gives back, and how its parser is declared."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from covey.base.errors import CoveyError, NotFoundError, UsageError
from covey.fleet.home import FleetHome

if TYPE_CHECKING:
    from covey.fleet.loop.store import Store

__all__ = ["SPEC_FILE", "Context", "Parser", "Result", "Verbs", "known"]

SPEC_FILE: Final = "fleet.toml"
"""The spec unless another is named."""


_UNKNOWN: Final = re.compile(r"argument COMMAND: invalid choice: '([^']*)' \(choose from (.*)\)", re.DOTALL)


@dataclass(frozen=True)
class Result:
    """What a command has to say, as data and as text. With `error` it failed although there is data."""

    data: Any
    text: str
    error: CoveyError | None = None


class Parser(argparse.ArgumentParser):
    """Errors in our words."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        unknown = _UNKNOWN.fullmatch(message)
        if unknown is not None:
            close = difflib.get_close_matches(unknown[1], re.findall(r"'([a-z]+)'", unknown[2]), n=1)
            raise UsageError(
                f"there is no command {unknown[1]!r}",
                next_step=f"{self.prog} {close[0]}" if close else f"{self.prog} --help",
            )
        raise UsageError(message, next_step=f"{self.prog} --help")


class Verbs:
    """Where the commands' files declare their parsers."""

    def __init__(self, parser: Parser) -> None:
        self._verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND", parser_class=Parser)
        self._common = Parser(add_help=False)
        self._common.add_argument("--json", action="store_true", help="print one JSON document")
        self._common.add_argument(
            "--home", default="", metavar="DIR", help="the fleet's home (COVEY_FLEET_HOME, else Covey's data directory)"
        )

    def add(self, name: str, do: Callable[[Context, Any], Result], *, summary: str, more: str = "") -> Parser:
        parser: Parser = self._verbs.add_parser(
            name,
            parents=[self._common],
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.\n\n{more}".strip(),
        )
        parser.set_defaults(do=do)
        return parser


@dataclass(frozen=True)
class Context:
    """Where the fleet lives, and the time."""

    home: FleetHome
    now: float

    @classmethod
    def of(cls, options: Any) -> Context:
        return cls(home=FleetHome.locate(options.home or None, os.environ, uid=os.getuid()), now=time.time())

    @contextlib.contextmanager
    def store(self, *, make: bool = False) -> Iterator[Store]:
        """The fleet's store. Without `make` it must be there: `NotFoundError` else."""
        from covey.fleet.loop.stores import open_store, store_url

        if not make and not self.home.database.exists() and not store_url(self.home, os.environ):
            raise NotFoundError(
                f"there is no fleet in {self.home.path}",
                code="no-fleet",
                next_step="covey fleet apply, or name it: --home DIR",
            )
        store = open_store(self.home.make(), os.environ)
        try:
            yield store
        finally:
            store.close()

    def nudge(self) -> bool:
        """Wake the controller of this machine. False: none runs here."""
        from covey.fleet.loop.nudge import nudge

        return nudge(self.home.nudge)

    def woken(self) -> str:
        """Wakes the controller; what to tell the user about it."""
        return "" if self.nudge() else "No controller runs here; it holds as soon as one does: covey fleet run"


def known(name: str, names: Collection[str], what: str) -> str:
    """`name`, if it is one of `names`. Raises `NotFoundError` with the nearest."""
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(sorted(names)) or "none"
    raise NotFoundError(
        f"there is no {what} {name!r}; there is {listed}",
        code=f"no-{what}",
        next_step=f"did you mean {close[0]}?" if close else "",
    )
