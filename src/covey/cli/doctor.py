"""`doctor`: looks at everything around an agent and says what is wrong and what to do."""

from __future__ import annotations

from functools import partial

import msgspec
import typer

from covey.base.errors import CoveyError
from covey.base.schema import CheckView, FindingView, Items, NodeView
from covey.cli import launch, render
from covey.cli.command import Call, Outcome, command
from covey.cli.judgement import judgement
from covey.cli.node import own_version

__all__ = ["DoctorReport", "doctor", "register"]


class DoctorReport(msgspec.Struct, frozen=True):
    """What `doctor` prints as data."""

    checks: list[CheckView]
    findings: list[FindingView]
    """Those of all checks, the worst first, each code and text once."""


def register(app: typer.Typer) -> None:
    command(app, "doctor")(doctor)


def doctor(call: Call) -> Outcome:
    """Find out what is wrong, with the daemon running or not.

    Looks at settings, files, disk, clock, keys, sockets, UDP, rendezvous and versions. Nothing is changed. Exits
    with 0 if nothing is worse than a note, with 11 for a warning and 12 for an error.
    """
    checks = [_daemon(call), *launch.ask(call, "doctor", Items[CheckView]).items]
    report = DoctorReport(checks, _merged(checks))
    return Outcome(report, partial(_show, report), error=judgement(report.findings))


def _daemon(call: Call) -> CheckView:
    """Whether it runs, in which version, and what it says itself."""
    try:
        with call.client() as client:
            view = client.get("/v1/status", NodeView)
    except CoveyError as error:
        if error.code == "not-running":
            what = "the daemon is not running: nobody reaches this agent, and nothing is sent"
            finding = FindingView("not-running", "warning", what, call.suggestion("covey up"))
        else:
            finding = FindingView(error.code, "error", error.message, error.next_step)
        return CheckView("daemon", "not running" if error.code == "not-running" else "does not answer", [finding])
    findings = list(view.findings)
    if view.version != own_version():
        what = f"the daemon runs version {view.version}, this command is {own_version()}"
        findings.append(FindingView("version-skew", "warning", what, "covey daemon stop && covey up"))
    return CheckView("daemon", f"{view.name}, version {view.version}, pid {view.pid}", findings)


def _merged(checks: list[CheckView]) -> list[FindingView]:
    """A thing that the daemon and we both see is told once, in the daemon's words."""
    found: dict[str, list[FindingView]] = {}
    for check in checks:
        for each in check.findings:
            known = found.setdefault(each.code, [])
            if not known or each.code not in {other.code for other in checks[0].findings}:
                known.append(each)
    return render.worst_first([each for group in found.values() for each in group])


def _show(report: DoctorReport) -> None:
    problems = [each for each in report.findings if each.severity != "note"]
    render.verdict("degraded" if problems else "ok", f"found {render.tally(report.findings)}")
    render.table(
        ("CHECK", "RESULT", "DETAIL"),
        [(check.name, check.result, render.safe(check.detail)) for check in report.checks],
        empty="",
    )
    render.findings(report.findings)
