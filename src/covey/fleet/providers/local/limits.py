"""Holding agents to the resources they ask for, by cgroups, where this machine lets us.

With version 2, a directory is made below the nearest ancestor of our own cgroup that we may write and that gives the
memory controller to its children (under systemd: a unit with `Delegate=yes`, or the user's own tree). With version 1,
one below our own cgroup for each of memory and cpu. Without either, agents run without limits, and `describe` says so.

An agent's process writes itself into its directories before it becomes the agent (`launch`), so nothing of it is ever
outside.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Final

__all__ = ["Limits", "find"]

CGROUPS: Final = Path("/sys/fs/cgroup")
CPU_PERIOD: Final = 100_000
"""µs; the kernel's default."""

LEAST_CPU_QUOTA: Final = 1000
"""µs; the kernel refuses less."""

_CONTROLLERS: Final = ("memory", "cpu")


class Limits:
    """Directories for the agents of one pool: one parent of version 2, or one for each controller of version 1."""

    def __init__(self, parents: dict[str, Path]) -> None:
        self._parents = parents
        """By controller; "" for version 2, which has all in one."""

    def make(self, agent: str, *, cpu: float, memory: int) -> tuple[str, ...]:
        """The directories that the agent joins. What cannot be limited is left out."""
        made = []
        for controller, parent in self._parents.items():
            directory = parent / agent
            with contextlib.suppress(OSError):
                directory.mkdir(parents=True, exist_ok=True)
                for name, value in _values(controller, cpu, memory):
                    with contextlib.suppress(FileNotFoundError):
                        (directory / name).write_text(value, encoding="ascii")
                made.append(str(directory))
        return tuple(made)

    def forget(self, agent: str) -> None:
        """After its last process ended."""
        for parent in self._parents.values():
            with contextlib.suppress(OSError):
                (parent / agent).rmdir()


def find(pool: Path) -> Limits | None:
    """Where the limits of the pool in that directory can be; None: nowhere."""
    name = f"covey-{hashlib.sha256(str(pool).encode()).hexdigest()[:12]}"
    own = _own()
    parent = _version_2(own.get("", ""))
    if parent is not None:
        return _tried({"": parent / name})
    return _tried({each: _version_1(each, own.get(each, "/")) / name for each in _CONTROLLERS if each in own})


def _tried(parents: dict[str, Path]) -> Limits | None:
    for controller, path in list(parents.items()):
        try:
            path.mkdir(exist_ok=True)
            if not controller:
                (path / "cgroup.subtree_control").write_text("+memory +cpu", encoding="ascii")
        except OSError:
            del parents[controller]
    return Limits(parents) if parents else None


def _own() -> dict[str, str]:
    """By controller ("" for version 2), the path of our own cgroup."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                found[controller] = path
    return found


def _version_2(path: str) -> Path | None:
    """The nearest of our cgroup and its ancestors that we may write and that gives memory to its children."""
    if not (CGROUPS / "cgroup.controllers").exists():
        return None
    here = CGROUPS / path.lstrip("/")
    for directory in (here, *here.parents):
        if not directory.is_relative_to(CGROUPS):
            return None
        with contextlib.suppress(OSError):
            given = (directory / "cgroup.subtree_control").read_text(encoding="ascii").split()
            if "memory" in given and os.access(directory, os.W_OK):
                return directory
    return None


def _version_1(controller: str, path: str) -> Path:
    """In a container our path is often that of the machine outside, and what is mounted begins at us."""
    directory = CGROUPS / controller / path.lstrip("/")
    return directory if directory.is_dir() else CGROUPS / controller


def _values(controller: str, cpu: float, memory: int) -> list[tuple[str, str]]:
    quota = max(LEAST_CPU_QUOTA, round(cpu * CPU_PERIOD))
    if controller == "memory":
        return [("memory.limit_in_bytes", str(memory))]
    if controller == "cpu":
        return [("cpu.cfs_period_us", str(CPU_PERIOD)), ("cpu.cfs_quota_us", str(quota))]
    return [("memory.max", str(memory)), ("cpu.max", f"{quota} {CPU_PERIOD}")]
