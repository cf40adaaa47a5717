"""`python -m benchmarks`: measure everything, show it while it comes, keep it."""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Mapping

from benchmarks import install, lab, machine, plan, results
from benchmarks.peers import catalogue
from covey.bench.measures import Scale
from covey.bench.pair import Subject
from covey.bench.run import Figures, measure

QUICK = Scale(seconds=0.3, connects=5, sessions=(1, 100), handshakes=60)


def main() -> int:
    arguments = _arguments()
    scale = QUICK if arguments.quick else Scale()
    runs = arguments.runs or (1 if arguments.quick else 5)
    site_for, refused = lab.best_site()
    if refused:
        say(f"on loopback: {refused}")
    rivals: list[Subject] = []
    if arguments.peers:
        say(f"fetching rivals into {install.cache()}")
        rivals = catalogue.available(say)
    settings = plan.settings(site_for, rivals, worlds=not (arguments.quick or refused))
    figures = Figures()
    watch = machine.Watch()
    doubts: list[str] = []
    sites: list[str] = []
    began = time.monotonic()
    say(f"{'run':5} {'peer':14} {'measure':24} figures")
    for run in range(1, runs + 1):

        def report(subject: str, name: str, found: Mapping[str, float] | str, run: int = run) -> None:
            shown = (
                f"FAILED {found}"
                if isinstance(found, str)
                else "  ".join(f"{key} {value:.4g}" for key, value in found.items())
            )
            say(f"{run}/{runs:<3} {subject:14} {name:24} {shown}")

        watch.before()
        measure(settings, figures, scale, report)
        doubt = watch.after()
        if doubt:
            doubts.append(f"run {run}: {doubt}")
            say(doubts[-1])
    rows = figures.rows()
    for row in rows:
        say(results.text(row))
    for failure in figures.failures:
        say("FAILED {setting} {peer} {measure}: {error}".format(**failure))
    results.keep(
        {
            "commit": machine.commit(),
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - began),
            "quick": arguments.quick,
            "machine": machine.facts(),
            "sites": sites,
            "loopback_because": refused,
            "watch": watch.marks,
            "doubts": doubts,
            "failures": figures.failures,
            "rows": rows,
        }
    )
    return 1 if figures.failures else 0


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each row")
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--peers", action="store_true", help="rivals too; what they need is fetched into a cache")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
