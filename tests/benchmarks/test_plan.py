from __future__ import annotations

from contextlib import nullcontext

from benchmarks import plan
from covey.bench.measures import MEASURES, unit
from covey.bench.pair import COVEY, Loopback, Subject
from covey.bench.run import Figures

RIVAL = Subject("rival 1.0", "no.such.module:Speaker", frozenset({"stream", "connect", "sessions"}))
TUNNEL = Subject("tunnel 1.0", "no.such.module:Speaker", frozenset({"stream", "first_connect"}))
SETTINGS = plan.settings(lambda _: lambda: nullcontext(Loopback()), [RIVAL, TUNNEL])


def test_every_metric_of_the_plan_says_its_unit_and_none_has_two_meanings() -> None:
    named = [name for setting in SETTINGS for name in (setting.names or {}).values() if COVEY.name in _names(setting)]
    assert {unit(name) for name in named} <= {"Gbit/s", "us", "ms", "1/s", "B", ""}
    assert len(named) == len(set(named))


def test_every_measure_has_somebody_who_can() -> None:
    for setting in SETTINGS:
        if {RIVAL, TUNNEL} & {*setting.subjects}:
            continue  # each of them leaves out what it cannot
        for measure in setting.measures:
            assert any(measure.needs in subject.can for subject in setting.subjects), (setting.name, measure.name)
    assert {each.name for each in MEASURES.values()} <= {each.name for setting in SETTINGS for each in setting.measures}


def test_rivals_do_what_they_can_and_quick_runs_stay_on_the_cable() -> None:
    done = {subject.name: [] for subject in (RIVAL, TUNNEL)}
    for setting in SETTINGS:
        for subject in setting.subjects:
            if subject.name in done:
                done[subject.name] += [each.name for each in setting.measures if each.needs in subject.can]
    trips_bulk = ["round_trips", "round_trips_two_cores", "bulk", "messages"]
    assert done == {
        RIVAL.name: [*trips_bulk, "connect", "hundred sessions"],
        TUNNEL.name: [*trips_bulk, "first connect"],
    }
    quick = plan.settings(lambda _: lambda: nullcontext(Loopback()), [], worlds=False)
    assert {setting.name for setting in quick} == {"", "mtu9000"}


def test_share_of_the_relay_is_of_the_same_run() -> None:
    figures = Figures()
    for direct, relayed in ((4.0, 3.0), (2.0, 2.0)):
        figures.add("node_gbit_s", COVEY.name, direct)
        figures.add("relay_gbit_s", COVEY.name, relayed)
        plan.derive(figures)
    figures.add("node_gbit_s", COVEY.name, 4.0)  # and then the relay failed
    plan.derive(figures)
    assert figures.values["relay_of_direct_share"] == {COVEY.name: [0.75, 1.0]}


def test_other_ways_are_beside_tcp_and_tls_on_the_cable() -> None:
    figures = Figures()
    for peer, value in (("raw_tcp", 10.0), ("asyncio_tls", 5.0), (COVEY.name, 4.0)):
        figures.add("bulk_gbit_s", peer, value)
    figures.add("daemon_gbit_s", COVEY.name, 2.0)
    plan.derive(figures)
    (row,) = (row for row in figures.rows() if row["metric"] == "daemon_gbit_s" and row["peer"] == COVEY.name)
    assert (row["raw_tcp_ratio"], row["asyncio_tls_ratio"]) == (0.2, 0.4)
    assert "relay_gbit_s" not in figures.values


def _names(setting: plan.Setting) -> set[str]:
    return {subject.name for subject in setting.subjects}
