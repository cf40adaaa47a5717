"""The daemon as a process of its own, over a node in memory: `python -m tests.daemon.process
OPTIONS-JSON`."""

from __future__ import annotations

import sys
from functools import partial

from covey.base.paths import Home
from covey.daemon import program
from covey.daemon.options import Settings
from tests.daemon.memory import MemoryNode


def make_node(home: Home, chosen: Settings) -> MemoryNode:
    return MemoryNode(chosen.hostname or "remembered", home.profile)


if __name__ == "__main__":
    program.run = partial(program.run, make_node=make_node)  # type: ignore[assignment]
    sys.exit(program.main(sys.argv[1:]))
