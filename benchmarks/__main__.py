"""`python -m benchmarks`: measure everything, show it while it comes, keep it. Also: compare A B, page, plot."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks import compare, install, lab, machine, page, plan, plot, results
from benchmarks.peers import catalogue
from covey.bench.measures import MEASURES, Scale
from covey.bench.pair import Subject
from covey.bench.run import Figures, Setting, measure

WHAT = sorted({*MEASURES, *plan.NAMES})
"""Measures and settings."""
QUICK = Scale(seconds=0.3, connects=5, sessions=(1, 100), handshakes=60)


def main(argv: Sequence[str]) -> int:
    """1 if a measure of ours or of a baseline failed: the others are kept all the same."""
    if argv[:1] == ["compare"]:
        return compare.main(argv[1:])
    if argv[:1] == ["page"]:
        page.write(results.latest_run())
        return 0
    if argv[:1] == ["plot"]:
        plot.write()
        return 0
    return _measure(_arguments(argv))


def _measure(arguments: argparse.Namespace) -> int:
    runs = arguments.runs or (1 if arguments.quick else 5)
    site_for, refused = lab.best_site()
    if refused:
        _say(f"on loopback: {refused}")
    rivals: list[Subject] = []
    if arguments.peers:
        _say(f"fetching rivals into {install.cache()}")
        rivals = catalogue.available(_say)
    worlds = not (arguments.quick or arguments.only_cable or refused)
    settings = _chosen(plan.settings(site_for, rivals, worlds=worlds), arguments.only)
    _on_disk()
    run = {
        "commit": machine.commit(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": arguments.quick or arguments.only_cable or bool(arguments.only),
        "machine": machine.facts(),
        "loopback_because": refused,
    }
    figures, watch, doubts = Figures(), machine.Watch(), list[str]()
    begun = time.monotonic()
    finished = _runs(runs, settings, QUICK if arguments.quick else Scale(), figures, watch, doubts)
    rows = figures.rows()
    run |= {
        "runs": finished,
        "seconds": round(time.monotonic() - begun),
        "sites": figures.sites,
        "watch": watch.marks,
        "doubts": doubts,
        "failures": figures.failures,
        "rows": rows,
    }
    _say(results.HEADING)
    for row in rows:
        _say(results.text(row))
    for failure in figures.failures:
        _say("FAILED {setting} {peer} {measure}: {error}".format(**failure))
    for doubt in doubts:
        _say(f"in doubt: {doubt}")
    directory = Path(arguments.into) if arguments.into else results.DIRECTORY
    results.keep(run, directory)
    plot.write(directory)
    if not (run["quick"] or arguments.into):
        page.write(run)
    _say(f"kept in {directory}")
    # What rivals do not manage is written down, and no fault of ours.
    return 1 if any(failure["peer"] not in {rival.name for rival in rivals} for failure in figures.failures) else 0


def _runs(
    runs: int, settings: Sequence[Setting], scale: Scale, figures: Figures, watch: machine.Watch, doubts: list[str]
) -> int:
    """All runs, or those that are over when somebody presses Ctrl-C; how many."""
    steps = _Progress(runs * _steps(settings))
    for number in range(1, runs + 1):
        watch.before()
        try:
            measure(settings, figures, scale, lambda *heard, run=number: steps.report(f"{run}/{runs}", *heard))
        except KeyboardInterrupt:
            doubts.append(f"run {number} was interrupted")
            return number - 1
        plan.derive(figures)
        doubt = watch.after()
        if doubt:
            doubts.append(f"run {number}: {doubt}")
    return runs


class _Progress:
    """A line for each figure as it comes, with how far we are."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._begun = time.monotonic()

    def report(self, run: str, subject: str, name: str, found: Mapping[str, float] | str) -> None:
        self._done += 1
        elapsed = time.monotonic() - self._begun
        left = elapsed / self._done * max(0, self._steps - self._done)
        shown = f"FAILED: {found}" if isinstance(found, str) else _figures(found)
        _say(f"{run} {int(left) // 60:3}:{int(left) % 60:02} left  {subject:14} {name:22} {shown}")


def _figures(found: Mapping[str, float]) -> str:
    return "  ".join(f"{metric} {value:.4g}" for metric, value in found.items())


def _steps(settings: Sequence[Setting]) -> int:
    return sum(
        each.needs in subject.can for setting in settings for subject in setting.subjects for each in setting.measures
    )


def _chosen(settings: Sequence[Setting], only: Sequence[str]) -> list[Setting]:
    """The settings that are named, and of the others nothing but the measures that are, if anything is named."""
    if not only:
        return list(settings)
    return [
        Setting(each.name, each.site, each.subjects, chosen, each.names)
        for each in settings
        if (chosen := [every for every in each.measures if every.name in only or each.name in only])
    ]


def _on_disk() -> None:
    """What contenders store goes to the disk that this clone is on: /tmp may be memory, and would make fsync free."""
    directory = results.DIRECTORY.parent.parent / "build"
    with suppress(OSError):  # somebody else's clone
        directory.mkdir(exist_ok=True)
        if os.access(directory, os.W_OK):
            tempfile.tempdir = str(directory)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _arguments(argv: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each row, on a plain link")
    parser.add_argument("--runs", type=int, default=0, help="5, or 1 if quick")
    parser.add_argument("--peers", action="store_true", help="rivals too; what they need is fetched into a cache")
    parser.add_argument("--only", nargs="+", default=[], choices=WHAT, metavar="WHAT", help=f"of {', '.join(WHAT)}")
    parser.add_argument("--only-cable", action="store_true", help="no links with loss, delay or a relay")
    parser.add_argument("--into", default="", metavar="DIRECTORY", help="keep the results there")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
