"""What `make bench` measures. To add rows, add a setting to `settings`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from covey.bench.measures import MEASURES
from covey.bench.pair import BASELINES, COVEY, UDP, Site, Subject
from covey.bench.run import Setting

__all__ = ["settings"]

SiteFor = Callable[[int], Callable[[], AbstractContextManager[Site]]]

_JUMBO = 9000
_RIVALS_DO = ("round_trips", "round_trips_two_cores", "bulk", "messages", "connect")
"""About nine seconds for each rival in each run."""


def settings(site_for: SiteFor, rivals: Sequence[Subject]) -> list[Setting]:
    """All settings, in the order in which they are measured. `site_for(mtu)` gives two ends with a link."""
    everybody = (*BASELINES, UDP, COVEY)
    return [
        Setting("", site_for(1500), everybody, list(MEASURES.values())),
        *[Setting("", site_for(1500), [rival], [MEASURES[name] for name in _RIVALS_DO]) for rival in rivals],
        Setting("mtu9000", site_for(_JUMBO), everybody, [MEASURES["bulk"]]),
    ]
