"""From a pool of the spec to what talks to it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, cast

import msgspec

from covey.fleet.providers.base import Provider
from covey.fleet.spec.types import Pool

__all__ = ["Surroundings", "make_provider"]


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider or a signal's reader is told about the controller that it works for."""

    home: Path
    """The fleet's home, 0700; a provider keeps its files in a directory of its own below it."""
    report_url: str = ""
    """Where agents POST their reports; "" when nobody listens."""
    token_file: str = ""
    """The file with the bearer token of reports."""


def make_provider(pool: Pool, surroundings: Surroundings) -> Provider:
    """The provider of `pool`: `make(pool, surroundings)` of the module named like it (`covey.fleet.providers.local`).

    Nothing is contacted yet. Raises `UsageError` when an extra is missing or a setting is wrong.
    """
    module: Any = import_module(f"covey.fleet.providers.{pool.provider}")
    return cast(Provider, module.make(pool, surroundings))
