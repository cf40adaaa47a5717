"""A pool of processes on this machine, kept by a supervisord of its own.

Which agents there should be is a directory of small files (`records`); supervisord (`keeper`) is made to match it,
whoever died in between: agents survive the controller, and come back after supervisord. `pool` has the eight verbs,
`launch` is what an agent's process runs before its own program, `probes` asks agents whether they are ready,
`processes` finds what a killed supervisord left behind, `limits` holds cgroups.
"""

from __future__ import annotations

from covey.fleet.providers.local.pool import LocalPool
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Pool

__all__ = ["LocalPool", "make"]


def make(pool: Pool, surroundings: Surroundings) -> LocalPool:
    """The pool; its directory is made at the first call. Raises `UsageError` for a setting that is wrong."""
    return LocalPool(pool, surroundings)
