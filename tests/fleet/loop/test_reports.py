"""What agents say of themselves, and what cannot be done to the controller with it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from starlette.testclient import TestClient

from covey.base.errors import ParseError
from covey.fleet.loop.reports import FRESH, Reports
from covey.fleet.loop.server import REPORT_LIMIT, _application, _report_untrusted
from covey.fleet.loop.tokens import Speaker, Tokens
from covey.fleet.model import Agent, PoolView
from covey.fleet.reporting import Report, ReportAnswer

WEB = Speaker("here", "web")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def agent(name: str = "web-1", pool: str = "here") -> Agent:
    return Agent(id=name, workload="web", pool=pool, offering=f"{pool}/m/on-demand", state="ready", started_at=0.0)


def reported(clock: Clock, *reports: Report) -> Reports:
    """One report a second."""
    found = Reports(clock)
    for report in reports:
        clock.now += 1.0
        found.take(report, WEB)
    return found


def test_rates_are_between_reports_and_a_counter_that_falls_began_anew() -> None:
    clock = Clock()
    reports = reported(
        clock,
        Report(agent="web-1", completions=100, arrivals=50, backlog=3, in_flight=2),
        Report(agent="web-1", completions=110, arrivals=54, backlog=4, in_flight=1),
    )
    (reading,) = reports.readings([agent()]).values()
    assert (reading.completions, reading.arrivals, reading.backlog, reading.ongoing) == (10.0, 4.0, 4.0, 1.0)
    clock.now += 1.0
    reports.take(Report(agent="web-1", completions=7), WEB)
    assert reports.readings([agent()])["here"].completions == 7.0


def test_report_that_is_old_says_only_when_it_was_heard() -> None:
    clock = Clock()
    reports = reported(clock, Report(agent="web-1", busy=True, ready=False))
    view = PoolView(pool="here", at=clock.now, agents=(agent(),))
    (fresh,) = reports.onto(view).agents
    assert (fresh.busy, fresh.state, fresh.heard_at) == (True, "unready", clock.now)
    heard = clock.now
    clock.now += FRESH + 1
    (old,) = reports.onto(view).agents
    assert (old.busy, old.state, old.heard_at) == (None, "ready", heard)
    assert reports.readings([agent()]) == {}


def test_agent_that_fails_more_than_it_may_teaches_nothing() -> None:
    clock = Clock()
    reports = reported(
        clock, Report(agent="web-1", completions=0, errors=0), Report(agent="web-1", completions=10, errors=5)
    )
    (seen,) = reports.onto(PoolView(pool="here", at=0.0, agents=(agent(),))).agents
    assert seen.failing


@pytest.mark.parametrize("number", ["-1", "1e999", "-1e999"])
def test_numbers_that_are_none_are_dropped(number: str) -> None:
    clock = Clock()
    body = f'{{"agent": "web-1", "completions": {number}, "backlog": {number}}}'.encode()
    try:
        hostile = _report_untrusted(body)
    except ParseError:
        return
    reports = reported(clock, Report(agent="web-1"), hostile)
    (reading,) = reports.readings([agent()]).values()
    assert reading.completions == 0.0
    assert reading.backlog is None


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"agent": ""}', b'{"agent": 1}', b'{"agent": "%s"}' % (b"a" * 300), b"[" * 5000, b"\xff"],
)
def test_what_is_no_report_is_one_error(body: bytes) -> None:
    with pytest.raises(ParseError):
        _report_untrusted(body)


def test_who_was_never_seen_is_forgotten() -> None:
    clock = Clock()
    reports = reported(clock, Report(agent="stranger"), Report(agent="web-1"))
    clock.now += 11 * FRESH
    reports.keep([PoolView(pool="here", at=clock.now, agents=(agent(),))])
    assert reports.busy("here", "stranger") is None
    assert set(reports._known) == {(WEB, "web-1")}


class Served:
    def __init__(self) -> None:
        self.reports: list[Report] = []

    def report(self, report: Report, speaker: Speaker) -> ReportAnswer:
        assert speaker == WEB
        self.reports.append(report)
        return ReportAnswer(drain=True)

    def alive(self) -> bool:
        return False

    def status(self) -> dict[str, int]:
        return {"turn": 3}

    def routes(self) -> dict[str, list[str]]:
        return {"resources": []}

    def metrics(self) -> bytes:
        return b"# none\n"


def test_reports_need_the_token_and_a_bounded_body(tmp_path: Path) -> None:
    served, tokens = Served(), Tokens(tmp_path / "token", tmp_path / "tokens")
    client = TestClient(_application(served, tokens))
    report = msgspec.json.encode(Report(agent="web-1"))
    assert client.post("/report", content=report).status_code == 403
    assert (
        client.post("/report", content=report, headers={"Authorization": f"Bearer {tokens.of(WEB)}s"}).status_code
        == 403
    )
    allowed = {"Authorization": f"Bearer {tokens.of(WEB)}"}
    assert client.post("/report", content=b"a" * (REPORT_LIMIT + 1), headers=allowed).status_code == 400
    assert client.post("/report", content=b"{}", headers=allowed).status_code == 400
    assert served.reports == []
    assert client.post("/report", content=report, headers=allowed).json() == {"drain": True}
    assert client.get("/healthz").status_code == 503
    assert client.get("/status").json() == {"turn": 3}
    assert client.get("/report").status_code == 405
