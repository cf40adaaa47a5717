"""The contract between the loop and whatever reads a signal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from covey.fleet.model import Agent, Reading

__all__ = ["Source"]


class Source(Protocol):
    """One target of one workload. The controller reads it every `every` seconds in a task of its own; a turn takes the
    newest reading of each part and never waits."""

    every: float
    """Seconds between readings; the target's unless the source knows better."""

    async def read(self, agents: Sequence[Agent], now: float) -> dict[str, Reading]:
        """By part (a pool's name, or ""). A part that cannot be read now is left out. `agents` are the workload's as
        last seen. Raises `covey.fleet.errors.ProviderError` when nothing can be read; ends within 10 s."""
        ...

    async def close(self) -> None: ...
