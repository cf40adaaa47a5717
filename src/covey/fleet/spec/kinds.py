"""Kinds of values: each reads a node into a value, says in words what it expects, and gives its JSON Schema.

One table of fields (`fields`) is read by the loader and by the schema, so that they cannot differ.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from covey.fleet.spec import units
from covey.fleet.spec.source import Fault, Node, quote

__all__ = [
    "BAD",
    "Choice",
    "Command",
    "Either",
    "Field",
    "Flag",
    "Integer",
    "Kind",
    "ListOf",
    "MapOf",
    "Named",
    "Number",
    "Reading",
    "Table",
    "Text",
    "duration",
    "memory",
    "rate",
    "share",
]

BAD: Any = object()
"""What a kind gives for a node that it has reported."""


class Reading:
    """One pass over a file: what was wrong, and where each field stands."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.lines: dict[str, int] = {}

    def wrong(self, node: Node, path: str, expected: str, hint: str = "") -> Any:
        self.faults.append(Fault(node.line, path, quote(node.value), expected, hint))
        return BAD

    def line(self, path: str) -> int:
        """Of a field, or of the nearest table around it."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path.rpartition(".")[0]
        return 0


class Kind(Protocol):
    """A kind of value."""

    @property
    def expected(self) -> str: ...

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        """The value, or `BAD` after it was reported."""
        ...

    def schema(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Text:
    """A text that matches `pattern`."""

    words: str = "a text"
    pattern: str = ""
    longest: int = 4096

    @property
    def expected(self) -> str:
        return self.words

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        value = node.value
        if not isinstance(value, str) or len(value) > self.longest or not _is_sane(value):
            return reading.wrong(node, path, self.expected)
        if self.pattern and not re.fullmatch(self.pattern, value):
            return reading.wrong(node, path, self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "string", "maxLength": self.longest}
        return {**found, "pattern": f"^(?:{self.pattern})$"} if self.pattern else found


def _is_sane(text: str) -> bool:
    """No NUL, which ends a program's argument, and no half of a pair (YAML's "\\ud800"), which is no UTF-8."""
    return "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


@dataclass(frozen=True)
class Flag:
    """true or false."""

    expected: str = "true or false"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        return node.value if isinstance(node.value, bool) else reading.wrong(node, path, self.expected)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Integer:
    """A whole number within bounds."""

    low: int
    high: int

    @property
    def expected(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            return reading.wrong(node, path, self.expected)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Number:
    """A number within bounds, perhaps with a unit. `above`: the lower bound itself is not allowed."""

    low: float
    high: float
    words: str = "a number"
    parse: Callable[[object], float] | None = None
    pattern: str = ""
    above: bool = False
    say: Callable[[Any], str] = "{:g}".format

    @property
    def expected(self) -> str:
        low, high = self.say(self.low), self.say(self.high)
        return f"{self.words} above {low} and at most {high}" if self.above else f"{self.words} from {low} to {high}"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        value = node.value
        if isinstance(value, str) and self.parse is None:
            return reading.wrong(node, path, self.expected)
        try:
            number = (self.parse or units.duration)(value)
        except ValueError:
            return reading.wrong(node, path, self.expected)
        if not self.low <= number <= self.high or (self.above and number == self.low):
            return reading.wrong(node, path, self.expected)
        return number

    def schema(self) -> dict[str, Any]:
        number = {"type": "number", "exclusiveMinimum" if self.above else "minimum": self.low, "maximum": self.high}
        return {"anyOf": [number, {"type": "string", "pattern": self.pattern}]} if self.pattern else number


_NUMBER = r"[0-9]{1,15}(\.[0-9]{1,9})?"


def duration(low: float, high: float) -> Number:
    """A duration, bounds in seconds."""
    words = 'a duration such as "30s" or "5m", or a number of seconds,'
    return Number(low, high, words, units.duration, rf"^({_NUMBER}(ms|min|s|m|h|d))+$", say=units.say_duration)


def memory(low: int, high: int) -> Number:
    """A size, bounds in bytes."""
    return Number(
        low,
        high,
        'a size such as "512Mi" or bytes,',
        units.memory,
        rf"^{_NUMBER} ?[A-Za-z]{{0,3}}$",
        say=units.say_memory,
    )


def rate(high: float) -> Number:
    """A rate above 0, per second."""
    words = 'a rate such as "50/s" or a number per second,'
    return Number(0, high, words, units.rate, rf"^{_NUMBER} ?/ ?(s|m|min|h|d)$", above=True)


def share(*, above: bool = False, high: float = 1.0) -> Number:
    """A share of 1."""
    return Number(0, high, 'a share such as 0.7 or "70%",', units.share, rf"^{_NUMBER} ?%$", above=above)


@dataclass(frozen=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        return "one of " + ", ".join(f'"{word}"' for word in self.words)

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        value = node.value
        if isinstance(value, str) and value in self.words:
            return value
        return reading.wrong(node, path, self.expected, nearest(value, self.words))

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class Either:
    """The first kind that takes it."""

    kinds: tuple[Kind, ...]

    @property
    def expected(self) -> str:
        return ", or ".join(kind.expected for kind in self.kinds)

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        for kind in self.kinds:
            value = kind.read(node, path, Reading())
            if value is not BAD:
                return value
        return reading.wrong(node, path, self.expected)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [kind.schema() for kind in self.kinds]}


@dataclass(frozen=True)
class ListOf:
    """A list, as a tuple."""

    kind: Kind
    least: int = 0
    most: int = 1000
    unique: bool = False

    @property
    def expected(self) -> str:
        return f"a list, each element {self.kind.expected}"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if not isinstance(node.value, list):
            return reading.wrong(node, path, self.expected)
        if not self.least <= len(node.value) <= self.most:
            return reading.wrong(node, path, f"a list of {self.least} to {self.most}")
        found = []
        for index, each in enumerate(node.value):
            there = f"{path}.{index}"
            reading.lines[there] = each.line
            found.append(self.kind.read(each, there, reading))
        if any(value is BAD for value in found):
            return BAD
        if self.unique and len(set(found)) < len(found):
            return reading.wrong(node, path, "each only once")
        return tuple(found)

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "array", "items": self.kind.schema(), "maxItems": self.most}
        if self.least:
            found["minItems"] = self.least
        return {**found, "uniqueItems": True} if self.unique else found


class Command(ListOf):
    """A program and its arguments."""

    def __init__(self) -> None:
        super().__init__(Text("a text"), least=1, most=256)

    @property
    def expected(self) -> str:
        return 'a list of words, such as ["python", "serve.py"]'


@dataclass(frozen=True)
class MapOf:
    """A table whose names the user chooses."""

    kind: Kind
    name: Text = field(default_factory=lambda: Text("a name", r"[^\x00-\x1f]{1,253}"))
    most: int = 1000

    @property
    def expected(self) -> str:
        return f"a table, each value {self.kind.expected}"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if not isinstance(node.value, dict):
            return reading.wrong(node, path, self.expected)
        if len(node.value) > self.most:
            return reading.wrong(node, path, f"at most {self.most} of them")
        found = {}
        for name, each in node.value.items():
            there = f"{path}.{name}" if path else name
            reading.lines[there] = each.line
            if self.name.read(Node(name, each.line), f"the name of {there}", reading) is BAD:
                continue
            found[name] = self.kind.read(each, there, reading)
        return BAD if any(value is BAD for value in found.values()) or len(found) < len(node.value) else found

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "object", "additionalProperties": self.kind.schema()}
        return {**found, "propertyNames": {"pattern": self.name.schema()["pattern"]}} if self.name.pattern else found


@dataclass(frozen=True)
class Named:
    """A table of tables, each of which is told its name."""

    table: Table
    name: Text
    most: int = 1000

    @property
    def expected(self) -> str:
        return "tables, each with a name"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if not isinstance(node.value, dict):
            return reading.wrong(node, path, self.expected)
        if len(node.value) > self.most:
            return reading.wrong(node, path, f"at most {self.most} of them")
        found = {}
        for name, each in node.value.items():
            there = f"{path}.{name}"
            reading.lines[there] = each.line
            if not re.fullmatch(self.name.pattern, name):
                reading.faults.append(Fault(each.line, f"the name {quote(name)} in {path}", "", self.name.expected))
                continue
            found[name] = self.table.read(each, there, reading, name=name)
        return BAD if any(value is BAD for value in found.values()) or len(found) < len(node.value) else found

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "additionalProperties": self.table.schema(),
            "propertyNames": {"pattern": f"^(?:{self.name.pattern})$"},
        }


@dataclass(frozen=True)
class Field:
    """A field of a table."""

    kind: Kind
    doc: str
    required: bool = False


@dataclass(frozen=True)
class Table:
    """A table that becomes a struct. With `chooser` the value of that field says which `settings` are known besides;
    they go into the struct's own field `settings`."""

    make: type[msgspec.Struct]
    fields: Mapping[str, Field]
    chooser: str = ""
    settings: Mapping[str, Mapping[str, Field]] = field(default_factory=dict)

    @property
    def expected(self) -> str:
        return "a table with " + ", ".join(self.fields)

    def read(self, node: Node, path: str, reading: Reading, **given: Any) -> Any:
        if not isinstance(node.value, dict):
            return reading.wrong(node, path, self.expected)
        extra = self._extra(node)
        known = {**self.fields, **extra}
        before = len(reading.faults)
        found: dict[str, Any] = {}
        for name, each in node.value.items():
            there = f"{path}.{name}" if path else name
            reading.lines[there] = each.line
            if name not in known:
                self._unknown(each, name, there, tuple(known), reading)
            elif isinstance(known[name].kind, MapOf | Table | ListOf) or each.value is not None:
                found[name] = known[name].kind.read(each, there, reading)
            else:
                reading.wrong(each, there, known[name].kind.expected)
        for name, one in known.items():
            if one.required and name not in node.value:
                there = f"{path}.{name}" if path else name
                reading.faults.append(Fault(node.line, f"{there} is missing", "", one.kind.expected))
        if len(reading.faults) > before:
            return BAD
        if self.chooser:
            found["settings"] = {name: found.pop(name) for name in list(found) if name in extra}
        return self.make(**given, **found)

    def _extra(self, node: Node) -> Mapping[str, Field]:
        chosen = node.value.get(self.chooser)
        if chosen is None or not isinstance(chosen.value, str):
            return {}
        return self.settings.get(chosen.value, {})

    def _unknown(self, node: Node, name: str, path: str, known: tuple[str, ...], reading: Reading) -> None:
        hint = nearest(name, known)
        expected = f"one of {', '.join(sorted(known))}"
        elsewhere = [word for word, fields in self.settings.items() if name in fields]
        if elsewhere and not hint:
            hint = f"it belongs to {self.chooser} {', '.join(elsewhere)}"
        reading.faults.append(Fault(node.line, f"{path} is not a field", "", expected, hint))

    def schema(self) -> dict[str, Any]:
        extra = {name: one for fields in self.settings.values() for name, one in fields.items()}
        found: dict[str, Any] = {
            "type": "object",
            "properties": {
                name: {**one.kind.schema(), "description": one.doc} for name, one in {**extra, **self.fields}.items()
            },
            "additionalProperties": False,
        }
        required = [name for name, one in self.fields.items() if one.required]
        if required:
            found["required"] = required
        if self.chooser:
            found["allOf"] = [
                {
                    "if": {"properties": {self.chooser: {"const": word}}, "required": [self.chooser]},
                    "then": {
                        "propertyNames": {"enum": [*self.fields, *fields]},
                        "required": [name for name, one in fields.items() if one.required],
                    },
                }
                for word, fields in self.settings.items()
            ]
        return found


def nearest(word: Any, known: tuple[str, ...]) -> str:
    """ "did you mean ...?" or ""."""
    if not isinstance(word, str):
        return ""
    found = difflib.get_close_matches(word.lower()[:64], known, n=1, cutoff=0.6)
    return f'did you mean "{found[0]}"?' if found else ""
