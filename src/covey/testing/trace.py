"""What happened in a run, as far as it must repeat: order, times and sizes (PROTOCOL 30).

Contents are left out on purpose: the library's own randomness (ML-KEM, HPKE) changes bytes, and must change
nothing else. Record with `Trace.record`, or give the trace to a `SimNetwork`; run a seed twice with
`replay`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import zip_longest
from typing import Final, NamedTuple

__all__ = ["Entry", "Trace", "TraceDiffers", "replay"]

CONTEXT: Final = 5
"""Entries shown before the first difference."""


class Entry(NamedTuple):
    """One thing that happened: virtual seconds, a word for it, and numbers or names (never payload)."""

    time: float
    kind: str
    details: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.time:.9f} {self.kind} {' '.join(map(str, self.details))}"


class TraceDiffers(AssertionError):  # a finding, like pytest's own
    """Two runs of one seed were not the same run. The message shows where they part."""


class Trace:
    """A list of entries that can be compared. `clock` gives the time of each, usually `loop.time`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.entries: list[Entry] = []

    def record(self, kind: str, *details: int | str) -> None:
        """Append an entry at the present time."""
        self.entries.append(Entry(self._clock(), kind, details))

    def count(self, kind: str) -> int:
        """How many entries are of this kind."""
        return sum(entry.kind == kind for entry in self.entries)

    def digest(self) -> str:
        """SHA-256 over every entry, hexadecimal: equal digests, equal runs, also between processes."""
        return hashlib.sha256("\n".join(map(str, self.entries)).encode()).hexdigest()

    def check_same(self, other: Trace) -> None:
        """Raise `TraceDiffers` unless `other` has the same entries."""
        for index, (ours, theirs) in enumerate(zip_longest(self.entries, other.entries)):
            if ours != theirs:
                start = max(0, index - CONTEXT)
                before = "".join(f"\n    {entry}" for entry in self.entries[start:index])
                parted = f"\n  - {ours or 'the end'}\n  + {theirs or 'the end'}"
                raise TraceDiffers(f"the runs part at entry {index}:{before}{parted}")


def replay(scenario: Callable[[], Trace]) -> Trace:
    """Run `scenario` twice, check that both runs are the same, and return the first trace."""
    first = scenario()
    first.check_same(scenario())
    return first
