from __future__ import annotations

import os
import time
from contextlib import nullcontext

import pytest

from covey.bench.measures import MEASURES, Measure, Scale, more_is_better, unit, within
from covey.bench.pair import BASELINES, COVEY, NODE, TCP, UDP, Failed, Loopback, Pair, Subject
from covey.bench.run import Figures, Setting, measure

TINY = Scale(seconds=0.01, connects=1, sessions=(1, 3), handshakes=20)
STREAMS = {name for name, each in MEASURES.items() if each.needs == "stream"}


def measured(*subjects: Subject, measures: list[Measure], names: dict[str, str] | None = None) -> Figures:
    figures = Figures()
    measure([Setting("", lambda: nullcontext(Loopback()), subjects, measures, names)], figures, TINY, lambda *_: None)
    return figures


@pytest.mark.timeout(240)  # a crowded machine
def test_every_measure_gives_its_figures_for_everybody_who_can() -> None:
    plain = [each for name, each in MEASURES.items() if name != "durable"]
    figures = measured(*BASELINES, UDP, COVEY, measures=plain)
    assert figures.failures == []
    rows = {row["metric"]: row for row in figures.rows() if row["peer"] == "covey"}
    assert set(rows) == set(figures.values)
    assert all(row["value"] > 0 for metric, row in rows.items() if "session_bytes" not in metric)
    beside_tls = {metric for metric, row in rows.items() if row["raw_tcp_ratio"] and row["asyncio_tls_ratio"]}
    assert {"bulk_gbit_s", "bulk32_gbit_s", "rtt64_us_p50", "rtt64_loaded_us_p99", "connect_ms"} <= beside_tls
    assert {"idle_session_bytes_3", "busy_session_bytes_3", "sessions3_rtt_ms_p99"} <= set(figures.values)
    assert set(figures.values["datagrams_per_s"]) == {"raw_udp", "covey"}


def test_durable_messages_are_counted_between_whole_nodes() -> None:
    figures = measured(NODE, measures=[MEASURES["durable"]])
    assert figures.failures == []
    assert figures.values["durable_msgs_per_s"]["covey"][0] > 0


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("rtt64_us_p50", "us"),
        ("bulk_mtu9000_gbit_s", "Gbit/s"),
        ("cpu_s_per_gb_send", "s/GB"),
        ("handshakes_refused_per_cpu_s", "1/s"),
        ("sessions1000_rtt_ms_p99", "ms"),
        ("busy_session_bytes_100", "B"),
    ],
)
def test_metric_says_its_unit(metric: str, expected: str) -> None:
    assert unit(metric) == expected


def test_setting_stands_before_the_unit() -> None:
    assert within("bulk_gbit_s", "mtu9000") == "bulk_mtu9000_gbit_s"
    assert within("rtt64_us_p50", "loss1") == "rtt64_loss1_us_p50"


def test_of_rates_more_is_better_and_of_times_less() -> None:
    assert [metric for metric in ("bulk_gbit_s", "rtt64_us_p50", "cpu_s_per_gb_send") if more_is_better(metric)] == [
        "bulk_gbit_s"
    ]


def test_metric_without_a_unit_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="speed does not say its unit"):
        unit("speed")


def test_failed_measure_is_written_down_and_costs_no_other() -> None:
    def fail(pair: Pair, _: Scale) -> dict[str, float]:
        pair.job("no_such_job", timeout=5.0)
        raise AssertionError

    figures = measured(TCP, measures=[Measure("broken", "stream", fail), MEASURES["messages"]])
    assert [(each["peer"], each["measure"]) for each in figures.failures] == [("raw_tcp", "broken")]
    assert "no_such_job" in figures.failures[0]["error"]
    assert "stream_msgs_per_s" in figures.values


def test_contender_that_cannot_start_is_tried_once() -> None:
    broken = Subject("broken", "no.such.module:Speaker")
    figures = measured(broken, TCP, measures=[MEASURES["messages"], MEASURES["round_trips"]])
    assert [(each["peer"], each["measure"]) for each in figures.failures] == [("broken", "messages")]
    assert "No module named 'no'" in figures.failures[0]["error"]
    assert set(figures.values["rtt64_us_p50"]) == {"raw_tcp"}


def test_setting_may_give_metrics_other_names_and_leave_some_out() -> None:
    figures = measured(TCP, measures=[MEASURES["bulk"]], names={"bulk_gbit_s": "relay_gbit_s"})
    assert set(figures.values) == {"relay_gbit_s"}
    assert [row["unit"] for row in figures.rows()] == ["Gbit/s"]


def test_job_that_does_not_end_is_given_up() -> None:
    with Pair.started(TCP, Loopback()) as pair:
        begun = time.monotonic()
        with pytest.raises(Failed, match=r"round_trips did not end within 0 s"):
            pair.job("round_trips", timeout=0.1, seconds=60.0)
    assert time.monotonic() - begun < 30


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not let us choose cores")
def test_both_ends_are_placed_on_cores() -> None:
    cores = sorted(os.sched_getaffinity(0))
    with Pair.started(TCP, Loopback()) as pair:
        pair.on_one_core()
        assert [os.sched_getaffinity(pid) for pid in pair.pids] == [{cores[0]}, {cores[0]}]
        pair.on_two_cores()
        assert [os.sched_getaffinity(pid) for pid in pair.pids] == [{cores[0]}, {cores[-1]}]


def test_profile_says_where_time_went() -> None:
    figures, said = Figures(), dict[str, str]()
    setting = Setting("", lambda: nullcontext(Loopback()), [TCP], [MEASURES["messages"]])
    measure([setting], figures, TINY, lambda _, name, text: said.update({name: str(text)}), profile=True)
    assert "function calls" in said["messages, client"]
    assert "_messages" in said["messages, server"]
