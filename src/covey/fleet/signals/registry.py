"""From a target of the spec to what reads it."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from covey.fleet.providers.registry import Surroundings
from covey.fleet.signals.base import Source
from covey.fleet.spec.types import Target, Workload

__all__ = ["OWN_REPORTS", "make_source"]

OWN_REPORTS = frozenset({"agents", "cpu"})
"""Signals that are in the agents' own reports or in what the providers saw: `covey.fleet.loop.reports` sums them up
for each turn, and no source is asked."""


def make_source(workload: Workload, target: Target, surroundings: Surroundings) -> Source:
    """The source of `target`: `make(workload, target, surroundings)` of the module named like the signal
    (`covey.fleet.signals.prometheus`). Nothing is contacted yet. Raises `UsageError` as `make_provider` does."""
    module: Any = import_module(f"covey.fleet.signals.{target.signal}")
    return cast(Source, module.make(workload, target, surroundings))
