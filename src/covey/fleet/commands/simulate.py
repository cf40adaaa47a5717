"""`simulate`: a recorded day through the spec, beside the scalers one may use today; nothing is started anywhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from covey.base.errors import CoveyError, StorageError, UsageError
from covey.fleet.commands.context import SPEC_FILE, Context, Result, Verbs

__all__ = ["add"]


def add(verbs: Verbs) -> None:
    parser = verbs.add(
        "simulate",
        _simulate,
        summary="fly a recorded day through the spec: what it would cost, and who would wait",
        more="The controller's own turn on a virtual clock, beside HPA, KPA, SkyServe, Ray Serve, a threshold rule,\n"
        "a fixed size for the peak and an oracle. Formats of traces and prices: docs/fleet/simulate.md.",
    )
    parser.add_argument("--trace", required=True, metavar="FILE", help="demand: CSV, or JSON of Prometheus")
    parser.add_argument(
        "--spec", default="", metavar="FILE", help=f"TOML, YAML or JSON (default {SPEC_FILE} if it is there)"
    )
    parser.add_argument("--workload", default="", metavar="NAME", help="needed when the spec has several")
    parser.add_argument("--prices", default="", metavar="DIR", help="a folder of price tables")
    parser.add_argument(
        "--policies", default="", metavar="NAMES", help="comma separated (default covey and every baseline)"
    )
    parser.add_argument(
        "--kill-cloud", action="append", default=[], metavar="CLOUD@TIME", help="as aws@12:00, or aws@12:00+30m"
    )
    parser.add_argument(
        "--preemptions", type=float, default=0.05, metavar="RATE", help="of spot, per hour (default 0.05)"
    )
    parser.add_argument(
        "--capacity", action="append", default=[], metavar="POOL=N", help="the pool holds no more agents"
    )
    parser.add_argument("--seeds", type=int, default=None, metavar="N", help="how many draws (default 5 where drawn)")
    parser.add_argument("--report", default="", metavar="FILE", help="write a page with plots")


def _simulate(context: Context, options: Any) -> Result:
    from covey.fleet.simulate.api import BASELINES, OURS, simulate
    from covey.fleet.simulate.figures import table
    from covey.fleet.simulate.report import render_html
    from covey.fleet.spec.load import load

    if not 0 <= options.preemptions <= 60:
        raise UsageError("--preemptions is a number per hour, from 0 to 60", next_step="write 0.05 for 5 % per hour")
    if options.seeds is not None and not 1 <= options.seeds <= 100:
        raise UsageError("--seeds takes 1 to 100")
    spec_file = options.spec or (SPEC_FILE if Path(SPEC_FILE).is_file() else "")
    chosen = tuple(word.strip() for word in options.policies.split(",") if word.strip())
    try:
        outcome = simulate(
            Path(options.trace),
            spec=load(Path(spec_file)) if spec_file else None,
            workload=options.workload,
            prices=Path(options.prices) if options.prices else None,
            policies=chosen or (OURS, *BASELINES),
            kills=options.kill_cloud,
            preemptions=options.preemptions,
            capacity=dict(_capacity(text) for text in options.capacity),
            seeds=options.seeds,
            progress=_progress if sys.stderr.isatty() else None,
        )
        if options.report:
            Path(options.report).write_text(render_html(outcome), encoding="utf-8")
    except CoveyError:
        raise
    except OSError as error:
        raise StorageError(f"{error.filename or options.trace}: {error.strerror or error}") from None
    notes = "".join(f"\n{note}" for note in outcome.notes)
    written = f"\nwritten: {options.report}" if options.report else ""
    return Result(data=msgspec.to_builtins(outcome), text=f"{table(outcome.rows)}{notes}{written}")


def _capacity(text: str) -> tuple[str, int]:
    pool, equals, count = text.partition("=")
    if not equals or not count.isdecimal() or len(count) > 7:
        raise UsageError(f"--capacity {text[:60]!r} is not POOL=N", next_step="write --capacity eks-use1=20")
    return pool, int(count)


def _progress(line: str) -> None:
    sys.stderr.write(f"{line}\n")
