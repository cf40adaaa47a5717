"""Whom may be told where an agent is: only somebody about whom that agent asked the same."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from covey.base.types import Identity

__all__ = ["Vouching"]

_SECONDS: Final = 60.0
"""How long a question is remembered."""
_LIMIT: Final = 16_384
"""Questions remembered, the newest: 200 bytes each."""


class Vouching:
    """Questions of one agent where another one is. Without the second half anybody could look for anybody, by asking
    about one address after the other."""

    def __init__(self) -> None:
        self._asked: OrderedDict[tuple[Identity, Identity], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, now: float, asker: Identity, about: Identity) -> bool:
        """Notes the question; whether `about` asked about `asker` lately."""
        asked = self._asked
        asked.pop((asker, about), None)
        asked[asker, about] = now
        while len(asked) > _LIMIT or next(iter(asked.values())) < now - _SECONDS:
            asked.popitem(last=False)
        return (about, asker) in asked
