"""Traces in every format people have them in, and what is refused."""

from __future__ import annotations

import contextlib
import json
import math
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.base.errors import ParseError
from covey.fleet.simulate.traces import (
    MAX_SECONDS,
    Setting,
    Trace,
    default_rate,
    find_traces,
    load_trace,
    parse_trace_untrusted,
    setting_for,
)

PROMETHEUS = """{"status": "success", "data": {"resultType": "matrix", "result": [
  {"metric": {"pod": "a"}, "values": [[100, "1"], [115, "2"], [130, "NaN"]]},
  {"metric": {"pod": "b"}, "values": [[100, "3"], [130, "4.5"]]}]}}"""

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:46.9805900,374,44\n2023-11-16 18:15:48.0000000,1,1\n"
)

GOOD = {
    "servegen": ("t_s,rps\n0,2.5\n600,3.5\n1200,0\n", 600.0, (2.5, 3.5, 0.0)),
    "servegen out of order": ("t_s,rps\n600,3.5\n0,2.5\n", 600.0, (2.5, 3.5)),
    "a hole keeps the rate": ("t_s,rps\n0,1\n10,2\n20,3\n40,5\n", 10.0, (1.0, 2.0, 3.0, 3.0, 5.0)),
    "counts per second": ("second,count\n0,3\n1,4\n3,5\n", 1.0, (3.0, 4.0, 0.0, 5.0)),
    "counts per minute": ("minute,requests\n0,60\n1,120\n", 60.0, (1.0, 2.0)),
    "bare counts": ("4\n0\n7\n", 1.0, (4.0, 0.0, 7.0)),
    "dates": ("timestamp,rps\n2026-01-01T00:00:00Z,1\n2026-01-01T00:01:00Z,2\n", 60.0, (1.0, 2.0)),
    "azure": (
        AZURE,
        1.0,
        (2.0, 0.0, 1.0),
    ),
    "prometheus": (PROMETHEUS, 15.0, (4.0, 2.0, 4.5)),
    "one sample": ("t_s,rps\n0,5\n", 1.0, (5.0,)),
}

BAD = {
    "empty": "",
    "no samples": "t_s,rps\n",
    "no known column": "t_s,temperature\n0,5\n",
    "a word for a number": "t_s,rps\n0,many\n",
    "negative": "t_s,rps\n0,-1\n600,2\n",
    "not a number": "t_s,rps\n0,nan\n600,2\n",
    "infinite": "t_s,rps\n0,inf\n600,2\n",
    "infinite time": "t_s,rps\ninf,1\n600,2\n",
    "a century": "t_s,rps\n0,1\n600,1\n3000000000,1\n",
    "short row": "t_s,rps\n0\n",
    "no date": "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n",
    "other JSON": '{"hello": 1}',
    "broken JSON": '{"data": ',
    "steps of a millisecond over weeks": "second,count\n0,1\n0.001,1\n7000000,1\n",
    "times that overflow": "t_s,rps\n-1.5e308,1\n1.5e308,1\n",
    "requests that overflow": "timestamp\n-1.5e308\n1.5e308\n",
    "a count that overflows": "second,count\n0,1e308\n0.002,1e308\n",
    "a zero byte": "t_s,rps\n0,1\x002\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_trace_reads_every_format(name: str) -> None:
    text, step, rates = GOOD[name]
    trace = parse_trace_untrusted("x", text)
    assert (step, rates) == (trace.step, trace.rates)


@pytest.mark.parametrize("name", BAD)
def test_trace_refuses_with_one_error(name: str) -> None:
    with pytest.raises(ParseError):
        parse_trace_untrusted("x", BAD[name])


def test_trace_in_a_file_names_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    path.write_text("t_s,rps\n0,1\n600,x\n")
    with pytest.raises(ParseError, match=r"day\.csv: line 3: 'x' is no number"):
        load_trace(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParseError, match=r"day\.csv is not text"):
        load_trace(path)


def test_default_rate_is_the_99th_percentile_over_35_agents_in_two_digits() -> None:
    rates = (10.0,) * 98 + (424.9, 1e6)
    assert default_rate(Trace(name="x", step=60.0, rates=rates)) == 12.0
    assert default_rate(Trace(name="x", step=60.0, rates=(0.0,) * 5)) == 1.0


def test_setting_comes_from_the_file_beside(tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    path.write_text("t_s,rps\n0,70\n600,70\n")
    trace = load_trace(path)
    assert Setting(rate_per_agent=2.0) == setting_for(trace, path)
    path.with_suffix(".toml").write_text('rate_per_agent = "25/s"\ncold_start = "30s"\nmin = 2\nmax = 9\n')
    assert Setting(rate_per_agent=25.0, cold_start=30.0, min=2, max=9) == setting_for(trace, path)
    for wrong in ("rate_per_agent = 0", "min = 5\nmax = 2", "colour = 1", "cold_start = 'soon'", "x ="):
        path.with_suffix(".toml").write_text(wrong)
        with pytest.raises(ParseError):
            setting_for(trace, path)


def test_folder_lists_traces_only(tmp_path: Path) -> None:
    for name in ("b.csv", "a.json", "a.toml", "README.md", "readme.txt"):
        (tmp_path / name).write_text("1\n")
    assert [path.name for path in find_traces(tmp_path)] == ["a.json", "b.csv"]


@pytest.mark.parametrize("mean", [0.0, 0.7, 9.5, 10.5, 300.0])
def test_coarse_steps_are_drawn_as_poisson(mean: float) -> None:
    counts = Trace(name="x", step=4000.0, rates=(mean,)).arrivals(3)
    assert len(counts) == 4000
    error = math.sqrt(max(mean, 1e-9) / len(counts))
    assert abs(statistics.fmean(counts) - mean) <= 5 * error
    assert abs(statistics.pvariance(counts) - mean) <= 0.2 * mean


def test_seeds_differ_and_repeat() -> None:
    trace = Trace(name="x", step=60.0, rates=(20.0, 30.0))
    assert trace.arrivals(1) == trace.arrivals(1)
    assert trace.arrivals(1) != trace.arrivals(2)
    assert trace.seeds == (0, 1, 2, 3, 4)
    exact = Trace(name="x", step=1.0, rates=(3.0, 4.0))
    assert (exact.seeds, list(exact.arrivals(0))) == ((0,), [3, 4])


@given(
    head=st.sampled_from(
        ["", "t_s,rps\n", "second,count\n", "timestamp,rps\n", "TIMESTAMP,ContextTokens\n", "minute,n\n"]
    ),
    body=st.text(alphabet='0123456789.,-+einfaT:Z \n"{}[]', max_size=80),
)
def test_whatever_is_read_is_a_trace_or_a_parse_error(head: str, body: str) -> None:
    try:
        trace = parse_trace_untrusted("x", head + body)
    except ParseError:
        return
    assert 0 < trace.seconds <= MAX_SECONDS
    assert default_rate(trace) > 0


@given(
    st.dictionaries(
        st.sampled_from(["data", "result", "values", "x"]),
        st.recursive(
            st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=8,
        ),
    )
)
def test_json_is_a_trace_or_a_parse_error(document: dict[str, object]) -> None:
    for text in (
        document,
        {"data": {"result": [document]}},
        {"data": {"result": [{"values": document.get("values")}]}},
    ):
        with contextlib.suppress(ParseError):
            parse_trace_untrusted("x", json.dumps(text))
