"""`python3 -m covey.fleet.toy work QUEUE` and `... load QUEUE`."""

from __future__ import annotations

import argparse
import asyncio
import os

from covey.fleet.reporting import Reporter
from covey.fleet.toy import JOB_SECONDS
from covey.fleet.toy.load import SHAPES, generate
from covey.fleet.toy.worker import open_queue, work


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m covey.fleet.toy", description="A toy service for the fleet.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    worker = verbs.add_parser("work", help="take jobs from the queue, one at a time")
    worker.add_argument("queue", help="the directory that is the queue")
    worker.add_argument("--seconds", type=float, default=JOB_SECONDS, help="what one job takes (%(default)s)")
    load = verbs.add_parser("load", help="put jobs into the queue")
    load.add_argument("queue", help="the directory that is the queue")
    load.add_argument("--shape", choices=sorted(SHAPES), default="wave", help="how the rate changes (%(default)s)")
    load.add_argument("--low", type=float, default=2.0, help="jobs per second when it is quiet (%(default)s)")
    load.add_argument("--high", type=float, default=24.0, help="jobs per second at the top (%(default)s)")
    load.add_argument("--period", type=float, default=480.0, help="seconds of one up and down (%(default)s)")
    options = parser.parse_args()
    queue, reporter = open_queue(options.queue), Reporter.from_environment()
    if options.verb == "work":
        port = os.environ.get("PORT")
        asyncio.run(work(queue, reporter, port=int(port) if port else None, seconds=options.seconds))
    else:
        shape = SHAPES[options.shape]
        asyncio.run(generate(queue, reporter, lambda at: shape(at, options.low, options.high, options.period)))


if __name__ == "__main__":
    main()
