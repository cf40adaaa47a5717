"""TOML with lines.

The values are those of `tomllib`; the lines come from a walk of our own over the text. That walk may be simple, because
it sees only text that `tomllib` accepted (adr 0030).
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from covey.fleet.spec.source import MAX_DEPTH, MAX_NODES, Fault, Node, SpecError

__all__ = ["read_toml"]

_Path = tuple[str | int, ...]

_KEY = re.compile(r"""\s*(?:([A-Za-z0-9_-]+)|"((?:[^"\\]|\\.)*)"|'([^']*)')\s*""")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PLAIN = re.compile(r"[^,\]}\n#]*")
_LINE = re.compile(r"\(?at line (\d+), column \d+\)?")


def read_toml(text: str, name: str) -> Node:
    """The tree of a TOML document. Raises `SpecError`."""
    try:
        values = tomllib.loads(text)
        lines = _Lines(text).walk()
    except tomllib.TOMLDecodeError as error:
        found = _LINE.search(str(error))
        what = _LINE.sub("", str(error)).strip().rstrip("(").strip()
        end = text.count("\n") + 1
        line = int(found[1]) if found else end
        raise SpecError(name, [Fault(line, "", "", "TOML", what)]) from None
    except (RecursionError, ValueError):  # deep nesting; numbers of thousands of digits
        raise SpecError(
            name, [Fault(0, "", "", f"TOML nested at most {MAX_DEPTH} deep, with numbers that fit")]
        ) from None
    counter = [0]
    return _build(values, (), 1, lines, counter, name)


def _build(value: Any, path: _Path, line: int, lines: dict[_Path, int], counter: list[int], name: str) -> Node:
    line = lines.get(path, line)
    counter[0] += 1
    if len(path) > MAX_DEPTH or counter[0] > MAX_NODES:
        raise SpecError(name, [Fault(line, "", "", f"at most {MAX_NODES} values, nested at most {MAX_DEPTH} deep")])
    if isinstance(value, dict):
        return Node({k: _build(v, (*path, k), line, lines, counter, name) for k, v in value.items()}, line)
    if isinstance(value, list):
        return Node([_build(v, (*path, i), line, lines, counter, name) for i, v in enumerate(value)], line)
    return Node(value, line)


class _Lines:
    """Where each key and each element of an array begins."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.counted = 0
        self.line = 1
        self.lines: dict[_Path, int] = {}
        self.tables: dict[_Path, int] = {}
        """By path of an array of tables: how many there are so far."""

    def walk(self) -> dict[_Path, int]:
        here: _Path = ()
        while True:
            self.blank()
            if self.at >= len(self.text):
                return self.lines
            if self.text.startswith("[[", self.at):
                self.at += 2
                here = self.enter(self.keys(), element=True)
                self.at += 2
            elif self.text[self.at] == "[":
                self.at += 1
                here = self.enter(self.keys(), element=False)
                self.at += 1
            else:
                self.pair(here)

    def enter(self, keys: list[str], *, element: bool) -> _Path:
        """The path of a header: each array of tables on the way stands for its last element."""
        path: _Path = ()
        for number, key in enumerate(keys):
            path = (*path, key)
            last = number == len(keys) - 1
            if last and element:
                self.tables[path] = self.tables.get(path, -1) + 1
            self.mark(path)
            if path in self.tables:
                path = (*path, self.tables[path])
                self.mark(path)
        if not element:
            self.lines[path] = self.now()
        return path

    def pair(self, here: _Path) -> None:
        path = here
        for key in self.keys():
            path = (*path, key)
            self.mark(path)
        self.at += 1  # the =
        self.value(path)

    def value(self, path: _Path) -> None:
        self.blank()
        self.lines.setdefault(path, self.now())
        first = self.text[self.at]
        if first in "\"'":
            self.string(first)
        elif first == "[":
            self.array(path)
        elif first == "{":
            self.inline(path)
        else:
            found = _PLAIN.match(self.text, self.at)
            assert found is not None
            self.at = found.end()

    def array(self, path: _Path) -> None:
        self.at += 1
        index = 0
        while True:
            self.blank()
            if self.text[self.at] == "]":
                self.at += 1
                return
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self.value((*path, index))
            index += 1

    def inline(self, path: _Path) -> None:
        self.at += 1
        while True:
            self.blank()
            if self.text[self.at] == "}":
                self.at += 1
                return
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self.pair(path)

    def string(self, mark: str) -> None:
        long = self.text.startswith(mark * 3, self.at)
        close = mark * 3 if long else mark
        self.at += len(close)
        while not self.text.startswith(close, self.at):
            self.at += 2 if mark == '"' and self.text[self.at] == "\\" else 1
        self.at += len(close)
        while long and self.text.startswith(mark, self.at):  # up to two quotes may stand before the closing three
            self.at += 1

    def keys(self) -> list[str]:
        found = []
        while True:
            match = _KEY.match(self.text, self.at)
            assert match is not None
            bare, basic, literal = match.groups()
            # An escaped key is read by the one who knows how.
            found.append(bare or literal or (next(iter(tomllib.loads(f'"{basic}"=0'))) if basic else ""))
            self.at = match.end()
            if self.text[self.at] != ".":
                return found
            self.at += 1

    def blank(self) -> None:
        found = _BLANK.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def mark(self, path: _Path) -> None:
        self.lines.setdefault(path, self.now())

    def now(self) -> int:
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.line
