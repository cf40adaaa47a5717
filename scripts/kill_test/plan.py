"""What a round is made of, what it sends, and what it found."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

__all__ = ["GIVE_UP_SECONDS", "LANES", "PROMISES", "Message", "Plan", "Result", "body_field", "body_of", "make_body"]

LANES: Final = 2
"""Clients that send at the same time at each agent. Each has an order of its own."""
PROMISES: Final = frozenset(("delivered", "queued"))
GIVE_UP_SECONDS: Final = 60.0
"""A daemon that is started again within 2 s and does not answer for this long never will."""


@dataclass(frozen=True)
class Plan:
    """What a run is made of; the seed decides the rest."""

    messages: int = 2000
    seed: int = 0
    seconds: float = 45.0
    """How long the sending shall take, roughly: the clients pause accordingly."""
    keep: bool = False
    restart_seconds: float = 2.0
    """The longest time that a victim stays dead."""
    kill_pause: float = 3.0
    """Mean seconds that one victim runs between two kills."""


@dataclass
class Message:
    """One entry of the ledger. `index` is its place in the order of its client."""

    id: str
    lane: tuple[str, int]
    index: int
    type: str
    body: bytes
    begun: float = 0.0
    """Wall time of the first call, the clock that the inbox uses."""
    promised: float = 0.0
    answers: list[str] = field(default_factory=list)
    """What every call said: a result, an error code, or `gone`."""

    @property
    def is_promised(self) -> bool:
        return bool(PROMISES.intersection(self.answers))


@dataclass
class Result:
    """What a round found. `violations` must be empty."""

    seed: int
    seconds: float = 0.0
    drain_seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    delays: list[float] = field(default_factory=list)
    """Seconds from a message's first call until it was in the inbox."""
    stalls: list[float] = field(default_factory=list)
    """Per message, the longest stretch of its waiting in which everything ran: not the killer's fault."""
    together: float = 0.0
    """Seconds in which everything ran."""
    violations: list[str] = field(default_factory=list)
    kept: Path | None = None


def make_body(random: Random, kind: str, label: str) -> bytes:
    """Mostly small, sometimes large: one that needs many packets is cut in the middle more often."""
    dice = random.random()
    size = random.randint(0, 600) if dice < 0.9 else random.randint(600, 20_000) if dice < 0.98 else 200_000
    if kind == "binary":
        return label.encode() + b"\0" + random.randbytes(size)
    text = "".join(random.choices("abcdefghij äöü€", k=size))
    return (json.dumps({"label": label, "text": text}) if kind == "json" else f"{label} {text}").encode()


def body_field(message: Message) -> dict[str, str]:
    if message.type == "binary":
        return {"body_b64": base64.b64encode(message.body).decode()}
    return {"body": message.body.decode()}


def body_of(view: dict[str, Any]) -> bytes:
    return base64.b64decode(view["body"]) if view["type"] == "binary" else view["body"].encode()
