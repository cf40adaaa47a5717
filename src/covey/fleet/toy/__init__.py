"""A toy service, so that `covey fleet run` has something real to scale: workers that take jobs from a queue, which is
a directory, and a load generator that puts them there.

`queue` is the directory, `worker` and `load` the two programs; `python3 -m covey.fleet.toy work` or `load` runs one.
A job takes `JOB_SECONDS` of waiting, as a call of a model would, and no processor time to speak of.
"""

from __future__ import annotations

from typing import Final

__all__ = ["JOB_SECONDS", "LOAD", "QUEUE", "WORK"]

QUEUE: Final = "queue"
"""Where the starter spec has it: in the directory that local agents run in."""

JOB_SECONDS: Final = 0.2
"""One worker does five jobs a second."""

WORK: Final = ("python3", "-P", "-m", "covey.fleet.toy", "work", QUEUE)
LOAD: Final = ("python3", "-P", "-m", "covey.fleet.toy", "load", QUEUE)
"""The two commands of the starter spec; `python3` is the one that Covey runs with."""
