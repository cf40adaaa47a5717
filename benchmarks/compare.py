"""Two commits side by side: `python -m benchmarks compare A B`.

If the history holds a whole run of both on one machine, that is compared; otherwise, or with `--measure`, both are
checked out beside this clone and measured in turns, each by its own benchmark: the code of a commit knows its own API.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import results
from covey.bench.measures import more_is_better, unit
from covey.bench.pair import COVEY

__all__ = ["compare", "from_history", "main"]

ROOT = Path(__file__).resolve().parent.parent
Triple = Sequence[float]
"""Median, lowest, highest."""


def main(argv: Sequence[str]) -> int:
    arguments = _arguments(argv)
    try:
        commits = [_commit(name) for name in (arguments.a, arguments.b)]
        found = None if arguments.measure or arguments.only else from_history(results.history(), *commits)
        if found is None:
            found = _measured(commits, arguments.runs, arguments.only, _say)
    except ValueError as error:
        _say(str(error))
        return 2
    for line in compare(*found):
        sys.stdout.write(line + "\n")
    return 0


def compare(a: Mapping[str, Triple], b: Mapping[str, Triple]) -> Iterator[str]:
    """A line for each metric that both have. "same" if the ranges of the two overlap."""
    yield f"{'metric':34} {'A':>10} {'B':>10} {'':6} {'B/A':>7}"
    for metric, before in a.items():
        after = b.get(metric)
        if after is None:
            continue
        ratio = f"{after[0] / before[0]:7.3f}" if before[0] else "      -"
        verdict = "same"
        if min(after) > max(before) or max(after) < min(before):
            verdict = "better" if (after[0] > before[0]) == more_is_better(metric) else "worse"
        yield f"{metric:34} {before[0]:>10.5g} {after[0]:>10.5g} {unit(metric):6} {ratio}  {verdict}"


def from_history(
    history: Sequence[Mapping[str, Any]], a: str, b: str
) -> tuple[Mapping[str, Triple], Mapping[str, Triple]] | None:
    """Covey's figures of the newest whole runs of both on the same machine; None if there are none."""
    whole = [run for run in reversed(history) if not run["quick"] and not run["doubts"]]
    for first in whole:
        for second in whole:
            if (first["commit"], second["commit"]) == (a, b) and first["machine"] == second["machine"]:
                return first["values"][COVEY.name], second["values"][COVEY.name]
    return None


# --- measuring --------------------------------------------------------------------------------------------------------


def _measured(
    commits: Sequence[str], runs: int, only: Sequence[str], say: Callable[[str], None]
) -> tuple[Mapping[str, Triple], Mapping[str, Triple]]:
    values: tuple[dict[str, list[float]], dict[str, list[float]]] = ({}, {})
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="covey-compare-")))
        places = [
            stack.enter_context(_checked_out(commit, directory / name))
            for commit, name in zip(commits, "ab", strict=True)
        ]
        for run in range(runs):
            for which, place in enumerate(places):
                say(f"run {run + 1} of {runs}: {commits[which]}")
                for metric, value in _run_once(place, only).items():
                    values[which].setdefault(metric, []).append(value)
    first, second = ({metric: _triple(found) for metric, found in each.items()} for each in values)
    return first, second


def _triple(values: list[float]) -> Triple:
    return statistics.median(values), min(values), max(values)


def _run_once(place: Path, only: Sequence[str]) -> dict[str, float]:
    """Covey's figures of one run of the benchmark that stands at `place`."""
    into = place / "build" / "compared"
    argv = [sys.executable, "-m", "benchmarks", "--runs", "1", "--only-cable", "--into", str(into)]
    done = subprocess.run(
        [*argv, *(["--only", *only] if only else [])],
        cwd=place,
        env={**os.environ, "PYTHONPATH": f"{place / 'src'}:{place}"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if not (into / results.RUN).exists():
        raise ValueError(f"the benchmark of {place.name} does not run: {done.stderr.strip()[-500:]}")
    rows = results.latest_run(into)["rows"]
    return {row["metric"]: row["value"] for row in rows if row["peer"] == COVEY.name}


@contextmanager
def _checked_out(commit: str, place: Path) -> Iterator[Path]:
    _git("worktree", "add", "--detach", str(place), commit)
    try:
        if not (place / "benchmarks" / "compare.py").exists():
            raise ValueError(f"{commit} is from before this benchmark")
        yield place
    finally:
        _git("worktree", "remove", "--force", str(place))


def _commit(name: str) -> str:
    return _git("rev-parse", "--short=12", "--verify", f"{name}^{{commit}}")


def _git(*argv: str) -> str:
    done = subprocess.run(["git", *argv], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    return done.stdout.strip()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=__doc__)
    parser.add_argument("a", metavar="A", help="commit, branch or tag")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--runs", type=int, default=5, help="of each, in turns")
    parser.add_argument("--measure", action="store_true", help="even if the history holds both")
    parser.add_argument("--only", nargs="+", default=[], metavar="MEASURE", help="measure nothing else")
    return parser.parse_args(argv)
