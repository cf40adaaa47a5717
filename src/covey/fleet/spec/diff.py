"""What is different between two specs, field by field, and what that will do."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from covey.fleet.spec.source import quote
from covey.fleet.spec.types import Budget, Pool, Spec, Target, Workload
from covey.fleet.spec.units import say_duration, say_memory

__all__ = ["Change", "diff"]

_DURATIONS: Final = frozenset(
    {"cold_start", "grace", "every", "drain_within", "timeout", "tick", "season", "healthy_for"}
)


_PASSWORD = re.compile(r"://([^:/@\s]*):[^@\s]*@")


class Change(msgspec.Struct, frozen=True):
    """One field."""

    field: str
    """`workloads.fraud.replicas.max`."""
    before: str
    """In words; "" when it is new."""
    after: str
    """ "" when it goes."""
    effect: str = ""
    """What it will do, where that is not plain."""

    def __str__(self) -> str:
        effect = f"  ({self.effect})" if self.effect else ""
        if not self.before:
            return f"+ {self.field} = {self.after}{effect}"
        if not self.after:
            return f"- {self.field} = {self.before}{effect}"
        return f"~ {self.field}: {self.before} -> {self.after}{effect}"


def diff(old: Spec | None, new: Spec) -> list[Change]:
    """Every field that differs, in the order of the new spec, what goes last. Without `old` everything but defaults is
    new."""
    empty = Spec(pools={}, workloads={})
    before = _flat(msgspec.to_builtins(old if old is not None else empty))
    after = _flat(msgspec.to_builtins(new))
    defaults = _Defaults()
    found: list[Change] = []
    gone: set[str] = set()
    for field in [*after, *(field for field in before if field not in after)]:
        default = defaults.of(field)
        one, other = before.get(field, default), after.get(field, default)
        if field.endswith(".version") or one == other:
            continue
        effect = _effect(field, old, new)
        thing = ".".join(field.split(".")[:2])
        if not after.get(field) and effect and thing in gone:
            effect = ""  # said once for each thing that goes
        gone.add(thing)
        found.append(Change(field, _masked(before.get(field, "")), _masked(after.get(field, "")), effect))
    return found


class _Defaults:
    """What a field has that nobody wrote: no difference to a file that does not name it."""

    def __init__(self) -> None:
        self._pool = _flat(msgspec.to_builtins(Pool(name="", provider="local")))
        self._workload = _flat(msgspec.to_builtins(Workload(name="")))
        self._target = _flat(msgspec.to_builtins(Target(signal="cpu")))
        self._spec = _flat(msgspec.to_builtins(Spec(pools={}, workloads={}, budget=Budget(hourly_usd=0))))
        del self._pool["provider"], self._target["signal"], self._spec["budget.hourly_usd"]

    def of(self, field: str) -> str:
        kind, *rest = field.split(".")
        if kind == "pools":
            return self._pool.get(".".join(rest[1:]), "")
        if kind == "workloads" and rest[1:2] == ["targets"]:
            return self._target.get(".".join(rest[3:]), "")
        if kind == "workloads":
            return self._workload.get(".".join(rest[1:]), "")
        return self._spec.get(field, "")


def _effect(field: str, old: Spec | None, new: Spec) -> str:
    if old is None:
        return ""
    kind, _, rest = field.partition(".")
    name, _, inner = rest.partition(".")
    if kind == "pools" and name in old.pools and name not in new.pools:
        return "it is emptied, new before old"
    if kind == "workloads" and name in old.workloads and name not in new.workloads:
        return "its agents are drained and end"
    if kind != "workloads" or name not in old.workloads:
        return ""
    one, other = old.workloads[name], new.workloads[name]
    if inner == "mode":
        return {"observe": "it only journals", "recommend": "steps wait for approval", "act": "it acts"}[other.mode]
    made_of = ("image", "command", "env", "secrets", "volumes", "port", "resources")
    if one.version != other.version and inner.split(".")[0] in made_of:
        return "a rollout replaces its agents"
    return ""


def _flat(value: Any, path: str = "") -> dict[str, str]:
    """Plain values by path; lists as a whole, but a list of tables by index."""
    if isinstance(value, dict) and value:
        found: dict[str, str] = {}
        for name, each in value.items():
            if name != "name":  # of a pool or workload: it is in the path
                found |= _flat(each, f"{path}.{name}" if path else str(name))
        return found
    if isinstance(value, list | tuple) and value and all(isinstance(each, dict) for each in value):
        found = {}
        for index, each in enumerate(value):
            found |= _flat(each, f"{path}.{index}")
        return found
    if value in (None, "", {}, [], ()):
        return {}
    return {path: _say(value, path)}


def _masked(text: str) -> str:
    """Without the password of an address."""
    return _PASSWORD.sub(r"://\1:***@", text)


def _say(value: Any, path: str) -> str:
    field = path.rpartition(".")[2]
    if field in _DURATIONS and isinstance(value, int | float):
        return say_duration(value)
    if field == "memory" and isinstance(value, int):
        return say_memory(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(quote(each) for each in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return quote(value)
