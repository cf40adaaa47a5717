"""Whole nodes that reach each other only through a rendezvous, which relays: `RELAYED`, at a site with a `relay`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.beside import holding, running
from covey.bench.pair import Prepared, Site, Subject

__all__ = ["RELAYED"]


@contextmanager
def _rendezvous(site: Site, directory: Path) -> Iterator[Prepared]:
    """At the place `relay`. Both ends get its ticket, and refuse to be measured on any other path."""
    # Not at 0.0.0.0: it would answer the client from an address that the client did not ask.
    argv = [sys.executable, "-m", "covey.rendezvous", "--listen", f"{site.address('relay')}:4040"]
    argv += ["--home", str(directory / "rendezvous"), "--drain-timeout", "0"]
    with running(site, "relay", holding(argv)) as ticket:
        yield Prepared(options={end: {"ticket": ticket, "path": "relay"} for end in ("server", "client")})


RELAYED = Subject("covey", "covey.bench.speakers:CoveyNode", prepare=_rendezvous)
