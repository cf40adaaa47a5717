"""`python -m covey.bench`: measure, and print the rows as one JSON list."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from covey.bench.handshakes import handshake_rows
from covey.bench.rows import Row, row_text
from covey.bench.two import ROUND_TRIPS, two_process_rows

__all__ = ["main"]


def main() -> int:
    """Progress and, with `--table`, the rows as text go to standard error."""
    arguments = _arguments()

    def progress(text: str) -> None:
        sys.stderr.write(text + "\n")

    rows: list[Row] = []
    if arguments.only != "handshakes":
        rows += two_process_rows(
            arguments.runs,
            arguments.megabytes,
            progress,
            round_trips=arguments.round_trips,
            profile=arguments.profile,
        )
    if arguments.only != "network":
        rows += handshake_rows(arguments.runs, progress, profile=arguments.profile)
    if arguments.table:
        for row in rows:
            sys.stderr.write(row_text(row) + "\n")
    text = json.dumps(rows, indent=1) + "\n"
    if arguments.json:
        Path(arguments.json).write_text(text)
    else:
        sys.stdout.write(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m covey.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=400, help="of each bulk transfer")
    parser.add_argument("--round-trips", type=int, default=ROUND_TRIPS, help="of each kind and placement")
    parser.add_argument("--only", choices=("network", "handshakes"))
    parser.add_argument("--json", default="", metavar="FILE", help="instead of standard output")
    parser.add_argument("--table", action="store_true", help="the rows as text too")
    parser.add_argument("--profile", action="store_true", help="where the time goes, on standard error")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
