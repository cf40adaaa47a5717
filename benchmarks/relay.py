"""Whole nodes that reach each other only through a rendezvous, which relays: at a site with a place `relay`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.beside import holding, running
from covey.bench.pair import Prepared, Site, Subject

__all__ = ["RELAYED", "RELAYED_BY_TWO"]

_PORT = 4040


@contextmanager
def _beside(count: int, site: Site, directory: Path) -> Iterator[Prepared]:
    """So many rendezvous of one network. Both ends get the ticket, and refuse to be measured on a direct path."""
    ticket, carriers = "", {}
    with ExitStack() as stack:
        for number in range(count):
            # Not at 0.0.0.0: it would answer the client from an address that the client did not ask.
            endpoint = f"{site.address('relay')}:{_PORT + number}"
            argv = [sys.executable, "-m", "covey.rendezvous", "--listen", endpoint, "--drain-timeout", "0"]
            argv += ["--home", str(directory / f"rendezvous-{number}"), *(["--join", ticket] if ticket else [])]
            carriers[endpoint] = str(directory / f"rendezvous-{number}.pid")
            ticket = stack.enter_context(running(site, "relay", holding(argv, pid_file=carriers[endpoint])))
        options = {"ticket": ticket, "path": "relay", "carriers": carriers}
        yield Prepared(options={"server": options, "client": options})


RELAYED = Subject("covey", "covey.bench.speakers:CoveyNode", prepare=partial(_beside, 1))
RELAYED_BY_TWO = Subject("covey", "covey.bench.speakers:CoveyNode", frozenset({"cut"}), prepare=partial(_beside, 2))
"""One of the two may die."""
