"""`python -m covey.bench`: measure on loopback, and print Covey's rows as one JSON list."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from contextlib import nullcontext

from covey.bench.measures import MEASURES, Scale
from covey.bench.pair import BASELINES, COVEY, NODE, UDP, Loopback
from covey.bench.run import Figures, Setting, measure

__all__ = ["main"]

_SUBJECTS = (*BASELINES, UDP, COVEY, NODE)
_NAMES = sorted({subject.name for subject in _SUBJECTS})


def main() -> int:
    """Progress goes to standard error. 1 if a measure failed: the others are printed all the same."""
    arguments = _arguments()
    measures = [each for name, each in MEASURES.items() if not arguments.only or name in arguments.only]
    subjects = [each for each in _SUBJECTS if not arguments.subjects or each.name in arguments.subjects]
    measures = [each for each in measures if each.name != "sessions" or arguments.only]  # it takes a minute
    setting = Setting("", lambda: nullcontext(Loopback()), subjects, measures)
    seconds = arguments.seconds
    scale = Scale(seconds=seconds, connects=round(1 + 5 * seconds), handshakes=round(20 + 200 * seconds))
    figures = Figures()
    for run in range(1, arguments.runs + 1):

        def report(subject: str, name: str, found: Mapping[str, float] | str, run: int = run) -> None:
            shown = found if isinstance(found, str) else ", ".join(f"{key} {found[key]:.4g}" for key in found)
            sys.stderr.write(f"run {run} of {arguments.runs}: {subject} {name}: {shown}\n")

        measure([setting], figures, scale, report, profile=arguments.profile)
    rows = [row for row in figures.rows() if row["peer"] == COVEY.name or arguments.subjects]
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    return 1 if figures.failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m covey.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=Scale().seconds, help="of each transfer")
    parser.add_argument("--only", nargs="+", choices=sorted(MEASURES), metavar="MEASURE", help=", ".join(MEASURES))
    parser.add_argument("--subjects", nargs="+", choices=_NAMES, metavar="NAME", help=", ".join(_NAMES))
    parser.add_argument("--profile", action="store_true", help="where the time of both ends goes, on standard error")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
