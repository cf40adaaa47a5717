"""What both readers of files give: the values as a tree that knows its lines, and the one error.

::

    SpecError (ParseError)   everything that is wrong with a file, each with line, value and expectation
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from covey.base.errors import ParseError

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "Fault", "Node", "SpecError", "quote"]

MAX_BYTES: Final = 1 << 20
"""Longest file, bytes. Ours: 2,000 workloads fit."""

MAX_NODES: Final = 100_000
"""Values in a file. Ours; what a YAML alias stands for counts each time."""

MAX_DEPTH: Final = 32
"""Of tables in tables. Ours; a spec needs six."""

SHOWN: Final = 20
"""Faults that a message lists; all of them are in `SpecError.faults`."""

_LONGEST_QUOTE: Final = 60


class Node:
    """One value: a dict of nodes, a list of nodes, or a plain value, and where it stands."""

    __slots__ = ("line", "value")

    def __init__(self, value: Any, line: int) -> None:
        self.value = value
        self.line = line

    def plain(self) -> Any:
        """The value without lines."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    line: int
    """From 1; 0: the file as a whole."""
    field: str
    """`workloads.fraud.replicas.min`; "" for the file's own grammar."""
    value: str
    """As written, shortened; "" when it is missing."""
    expected: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        what = f"{self.field} is {self.value}" if self.value else self.field
        text = f"{where}{what}: expected {self.expected}" if what else f"{where}expected {self.expected}"
        return f"{text} ({self.hint})" if self.hint else text


class SpecError(ParseError):
    """A spec that cannot be used, with all its faults at once."""

    default_code = "spec"

    def __init__(self, name: str, faults: list[Fault]) -> None:
        self.name = name
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line))
        lines = [f"  {fault}" for fault in self.faults[:SHOWN]]
        if len(self.faults) > SHOWN:
            lines.append(f"  and {len(self.faults) - SHOWN} more")
        count = "an error" if len(self.faults) == 1 else f"{len(self.faults)} errors"
        super().__init__("\n".join([f"{name} has {count}", *lines]), next_step="covey fleet check")


def quote(value: Any) -> str:
    """A foreign value for a message: one line, printable, short."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except ValueError:  # an int with more digits than Python prints
        return "a number with thousands of digits"
    if isinstance(value, str) and value.isprintable() and '"' not in value:
        text = f'"{value}"'
    return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 3] + "..."
