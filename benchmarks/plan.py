"""What `make bench` measures. To add rows, add a setting to `settings`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import sites
from benchmarks.daemons import DAEMONS
from benchmarks.relay import RELAYED, RELAYED_BY_TWO
from covey.bench.measures import MEASURES, Measure, Scale
from covey.bench.pair import BASELINES, COVEY, NODE, UDP, Loopback, Pair, Prepared, Site, Subject
from covey.bench.run import Figures, Setting

__all__ = ["NAMES", "derive", "settings"]

SiteFor = Callable[[int], Callable[[], AbstractContextManager[Site]]]

_JUMBO = 9000
_FRESH = ("durable", "failover", "sessions")
"""Measures that want a pair which did nothing else before."""
_RIVALS_DO = ("round_trips", "round_trips_two_cores", "bulk", "messages", "connect")
"""About seven seconds for each rival in each run, and as many again for memory."""


def settings(site_for: SiteFor, rivals: Sequence[Subject], *, worlds: bool = True) -> list[Setting]:
    """All settings, in the order in which they are measured. `site_for(mtu)` gives two ends with a link.

    `worlds`: also where the network is worse than a cable, which needs namespaces and takes longest.
    """
    plain = [each for name, each in MEASURES.items() if name not in _FRESH]
    return [
        Setting("", site_for(1500), (*BASELINES, UDP, COVEY), plain),
        *_rivals(site_for, rivals),
        Setting("mtu9000", site_for(_JUMBO), (*BASELINES, COVEY), [MEASURES["bulk"]]),
        Setting("", site_for(1500), (NODE,), [MEASURES["durable"]]),
        Setting("", site_for(1500), (*BASELINES, COVEY), [MEASURES["sessions"]]),
        *((*_other_ways(site_for), *_bad_links()) if worlds else ()),
    ]


def _rivals(site_for: SiteFor, rivals: Sequence[Subject]) -> Iterator[Setting]:
    """Each with a link to itself: what a tunnel leaves behind is nobody else's."""
    for rival in rivals:
        yield Setting("", site_for(1500), [rival], [MEASURES[name] for name in _RIVALS_DO])
        if _FIRST.needs in rival.can:
            yield Setting("", site_for(1500), [rival], [_FIRST])
        if _HUNDRED.needs in rival.can:
            yield Setting("", site_for(1500), [rival], [_HUNDRED], {name: name for name in _HUNDRED_FIGURES})


def _hundred(pair: Pair, scale: Scale) -> dict[str, float]:
    return MEASURES["sessions"].run(pair, replace(scale, seconds=scale.seconds / 2, sessions=(1, 100)))


def _first(pair: Pair, scale: Scale) -> dict[str, float]:
    return MEASURES["connect"].run(pair, replace(scale, connects=1))


_FIRST = Measure("first connect", "first_connect", _first)
"""For who is connected ever after: only the first of a fresh pair counts."""
_HUNDRED = Measure("hundred sessions", "sessions", _hundred)
_HUNDRED_FIGURES = ("idle_session_bytes_100", "busy_session_bytes_100")


def _other_ways(site_for: SiteFor) -> Iterator[Setting]:
    """Between daemons, and between whole nodes directly and by way of a relay: about 40 seconds a run."""
    trips, bulk, durable = (MEASURES[name] for name in ("round_trips", "bulk", "durable"))
    nodes = replace(NODE, can=NODE.can | {"stream"})
    for what, site, subject in (
        ("daemon", site_for(1500), DAEMONS),
        ("node", site_for(1500), nodes),
        ("relay", sites.relayed, RELAYED),
    ):
        measures = [trips, bulk, durable] if what == "daemon" else [trips, bulk]
        yield Setting(what, site, [subject], measures, {plain: name.format(what) for plain, name in _WAYS.items()})
    yield Setting("failover", sites.relayed, [RELAYED_BY_TWO], [MEASURES["failover"]], _RELAY_FAILOVER)


_WAYS = {
    "bulk_gbit_s": "{}_gbit_s",
    "rtt64_us_p50": "{}_rtt64_us_p50",
    "rtt64_us_p99": "{}_rtt64_us_p99",
    "durable_msgs_per_s": "{}_durable_msgs_per_s",
}
_RELAY_FAILOVER = {"failover_ms": "relay_failover_ms"}


def derive(figures: Figures) -> None:
    """Adds to a run what compares its settings: TCP and TLS on a plain cable to other ways, the relay's share."""
    for what in ("daemon", "node", "relay"):
        for plain, name in _WAYS.items():
            if COVEY.name in figures.values.get(name.format(what), {}):
                for baseline in (each.name for each in BASELINES):
                    if found := figures.values.get(plain, {}).get(baseline):
                        figures.add(name.format(what), baseline, found[-1])
    direct, relayed = (figures.values.get(f"{what}_gbit_s", {}).get("covey", []) for what in ("node", "relay"))
    if direct and len(direct) == len(relayed):
        figures.add("relay_of_direct_share", "covey", relayed[-1] / direct[-1])


def _bad_links() -> Iterator[Setting]:
    """Every link with the same kinds of packets for everybody: about 90 seconds a run."""
    trips, bulk, connect = (MEASURES[name] for name in ("round_trips_two_cores", "bulk", "connect"))
    everybody = (*BASELINES, COVEY)
    for name, per_mille in (("loss01", 1), ("loss1", 10), ("loss5", 50)):
        yield Setting(name, partial(sites.lossy, per_mille), everybody, [trips, bulk], _names(name))
    for control in ("cubic", "bbr"):
        name = f"loss1_{control}"
        subjects = [replace(each, prepare=partial(_with, control)) for each in everybody]
        yield Setting(name, partial(sites.lossy, 10), subjects, [bulk], _names(name))
    for name, one_way_us in (("delay1", 500), ("delay50", 25_000)):
        yield Setting(name, partial(sites.delayed, one_way_us), everybody, [trips, bulk, connect], _names(name))


@contextmanager
def _with(control: str, site: Site, directory: Path) -> Iterator[Prepared]:
    """The same congestion control for TCP and for Covey."""
    yield Prepared(options={end: {"congestion": control} for end in ("server", "client")})


def _names(what: str) -> dict[str, str]:
    """`what` in the place where a reader looks for it. Ends are on two cores, where there are two."""
    return {
        "bulk_gbit_s": f"bulk_{what}_gbit_s",
        "rtt64_two_cores_us_p50": f"rtt64_{what}_us_p50",
        "rtt64_two_cores_us_p99": f"rtt64_{what}_us_p99",
        "connect_ms": f"connect_{what}_ms",
    }


NAMES = tuple(dict.fromkeys(each.name for each in settings(lambda _: lambda: nullcontext(Loopback()), ()) if each.name))
"""Of the settings that have one."""
