"""From a pool of the spec to what talks to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import msgspec

from covey.fleet.providers.base import Provider
from covey.fleet.spec.types import Pool

__all__ = ["Surroundings", "make_provider"]


def silent(_agent: str) -> bool | None:
    """Nobody has reported."""
    return None


def no_token(_pool: str, _workload: str) -> str:
    """Nobody listens."""
    return ""


def unknown_price(_cloud: str, _region: str, _shape: str, _spot: bool) -> tuple[float, float | None] | None:
    """No catalog."""
    return None


def nobody_waits() -> None:
    """The next tick is soon enough."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider or a signal's reader is told about the controller that it works for."""

    home: Path
    """The fleet's home, 0700; a provider keeps its files in a directory of its own below it."""
    report_url: str = ""
    """Where agents POST their reports; "" when nobody listens."""
    token_file: Callable[[str, str], str] = no_token
    """(pool, workload) -> the file with the bearer token of these agents' reports; "": there is none."""
    wall: Callable[[], float] = time.time
    """The time of day, seconds since 1970."""
    busy: Callable[[str], bool | None] = silent
    """What an agent of this pool last said of itself; None: nothing, or too long ago."""
    quote: Callable[[str, str, str, bool], tuple[float, float | None] | None] = unknown_price
    """(cloud, region, shape, spot) -> (USD per hour, when that was read on the controller's clock); None: not known."""
    changed: Callable[[], None] = nobody_waits
    """Called when something happened that should not wait for the next tick: a process ended, a probe failed."""


def make_provider(pool: Pool, surroundings: Surroundings) -> Provider:
    """The provider of `pool`: `make(pool, surroundings)` of the module named like it (`covey.fleet.providers.local`).

    Nothing is contacted yet. Raises `UsageError` when an extra is missing or a setting is wrong.
    """
    module: Any = import_module(f"covey.fleet.providers.{pool.provider}")
    return cast(Provider, module.make(pool, surroundings))
