"""Every policy over every trace of a folder: `python -m covey.fleet.simulate.backtest --traces DIR --prices DIR`.

Writes a list of `{trace, policy, replica_hours, cost_usd, violations, reversals_per_hour, moves}`: medians over the
seeds; `violations` is a fraction. On one pool (the cheapest on demand of all clouds) the policies are `covey` (the
controller's own turn), `hpa`, `kpa`, `skyserve`, `rayserve`, `threshold`, and the bounds `fixed_peak` and `oracle`. On
several pools it is `covey@aws`, `covey@azure`, ... (one cloud, on demand), `covey@gcp+spot` (one cloud, half spot),
`covey@all`, `covey@all+spot`, and the latter with preemptions at 1 and 20 % per hour. Beside it a second file,
`...-runs.json`, has every run with its seed.

One run is one job of a process pool; nothing in a result depends on their order.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec.structs import replace

from covey.base.errors import CoveyError
from covey.fleet.demand import POLICIES
from covey.fleet.simulate.api import BASELINES, OURS, run_turn
from covey.fleet.simulate.figures import Row, Run, row_of, run_of, table
from covey.fleet.simulate.goals import judge_goals, words
from covey.fleet.simulate.market import Market, load_market, no_prices
from covey.fleet.simulate.single import run_single, workload_for
from covey.fleet.simulate.synthetic import synthetic_traces
from covey.fleet.simulate.traces import SEEDS, Setting, Trace, find_traces, load_trace, setting_for
from covey.fleet.simulate.turning import market_spec
from covey.fleet.simulate.weather import PREEMPTIONS, Weather
from covey.fleet.spec.types import Place, SpotRules

__all__ = ["Job", "backtest", "jobs_for", "main"]

SPOT = SpotRules(max_share=0.5, base_on_demand=2)
"""What the spot rows allow; FLEET section 1's example."""
LONG = 2 * 86400
"""Seconds from which a trace is flown over several pools once, and only where clouds are compared: two weeks are
242,000 turns, and chance evens out over them."""
OTHER_PREEMPTIONS = (0.01, 0.20)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    trace: str
    """A file, or the name of a synthetic trace."""
    policy: str
    seed: int
    prices: str = ""
    days: float = 0.0
    """Only so much of the trace; 0: all."""
    clouds: tuple[str, ...] | None = None
    """Fly over several pools, of these clouds; empty: of all. None: one pool."""
    spot: bool = False
    preemptions: float = PREEMPTIONS


def backtest(jobs: list[Job], *, workers: int, progress: bool = True) -> list[Run]:
    """All runs, in the order of `jobs`."""
    done: dict[int, Run] = {}
    began = time.monotonic()
    with ProcessPoolExecutor(max_workers=workers) as pool:
        # The longest first, so that the last ones to end are short.
        order = sorted(range(len(jobs)), key=lambda index: -_weight(jobs[index]))
        futures = {pool.submit(run_job, jobs[index]): index for index in order}
        for future in as_completed(futures):
            index = futures[future]
            done[index] = future.result()
            if progress:
                run = done[index]
                _say(
                    f"[{len(done)}/{len(jobs)} {time.monotonic() - began:.0f} s] {run.trace} {run.policy} "
                    f"seed {run.seed}: {run.replica_hours:.1f} agent-hours, {run.cost_usd:.2f} USD, "
                    f"{100 * run.violations:.3f} % violated ({run.cpu_seconds:.0f} s)"
                )
    return [done[index] for index in range(len(jobs))]


def jobs_for(traces: Iterable[str], prices: str, *, days: float = 0.0, seeds: int = SEEDS) -> list[Job]:
    """Everything that is run for these traces."""
    jobs = []
    for trace in traces:
        loaded, _ = _load(trace, days)
        for seed in loaded.seeds[:seeds]:
            jobs += [
                Job(trace=trace, policy=policy, seed=seed, prices=prices, days=days) for policy in (OURS, *BASELINES)
            ]
        if prices:
            jobs += _several_pools(trace, prices, days, seeds)
    return jobs


def run_job(job: Job) -> Run:
    """In a process of its own; equal jobs, equal runs."""
    began = time.process_time()
    trace, setting = _load(job.trace, job.days)
    if job.clouds is None:
        offering = _market(job.prices, job.preemptions).cheapest()
        if job.policy == OURS:
            market = Market(offerings=(offering,))
            ours = workload_for(OURS, setting)
            weather = Weather(preemptions=0.0)
            figures = run_turn(trace, setting, market_spec(market, ours), ours, market, weather, seed=job.seed)
        else:
            figures = run_single(trace, setting, job.policy, POLICIES, seed=job.seed, offering=offering)
    else:
        market = _market(job.prices, job.preemptions).of(clouds=job.clouds or None, spot=job.spot)
        ours = replace(workload_for(OURS, setting), place=Place(spot=SPOT if job.spot else SpotRules()))
        weather = Weather(preemptions=job.preemptions if job.spot else 0.0)
        figures = run_turn(trace, setting, market_spec(market, ours), ours, market, weather, seed=job.seed)
    return run_of(trace.name, job.policy, job.seed, figures, time.process_time() - began)


def rows_of(runs: Iterable[Run]) -> list[Row]:
    """Median over the seeds, in the order in which policies first appear."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.trace, run.policy), []).append(run)
    return [row_of(several) for several in groups.values()]


def write(rows: list[Row], runs: list[Run], out: Path) -> None:
    """The list as issue 6 names its fields, and every run beside it."""
    fields = ("trace", "policy", "replica_hours", "cost_usd", "violations", "reversals_per_hour", "moves")
    listed = [{field: getattr(row, field) for field in fields} for row in rows]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(listed), indent=1) + b"\n")
    # What a run cost us depends on the machine; the file should not.
    plain = [replace(run, cpu_seconds=0.0) for run in runs]
    out.with_name(f"{out.stem}-runs.json").write_bytes(
        b"[\n" + b",\n".join(msgspec.json.encode(run) for run in plain) + b"\n]\n"
    )


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when everything ran."""
    parser = argparse.ArgumentParser(prog="python -m covey.fleet.simulate.backtest", description=__doc__)
    parser.add_argument("--traces", type=Path, help="a folder of traces; without it the synthetic ones only")
    parser.add_argument("--prices", type=Path, help="a folder of price tables; without it one pool only")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/backtest.json"))
    parser.add_argument("--days", type=float, default=0.0, help="only so much of each trace")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="at most so many draws of coarse traces")
    parser.add_argument("--only", default="", help="comma separated: traces whose name has one of these")
    parser.add_argument("--policies", default="", help="comma separated: these policies only")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args(argv)
    try:
        files = [str(path) for path in find_traces(given.traces)] if given.traces else []
        names = files + [trace.name for trace in synthetic_traces()]
        wanted = [word for word in given.only.split(",") if word]
        names = [name for name in names if not wanted or any(word in Path(name).stem for word in wanted)]
        prices = str(given.prices) if given.prices else ""
        jobs = jobs_for(names, prices, days=given.days, seeds=max(1, given.seeds))
        chosen = {word for word in given.policies.split(",") if word}
        jobs = [job for job in jobs if not chosen or job.policy in chosen]
        runs = backtest(jobs, workers=max(1, given.workers), progress=not given.quiet)
    except (CoveyError, OSError) as error:
        _say(f"error: {error}")
        if isinstance(error, CoveyError) and error.next_step:
            _say(f"next: {error.next_step}")
        return 1
    rows = rows_of(runs)
    write(rows, runs, given.out)
    made = {trace.name for trace in synthetic_traces()}
    goals = judge_goals(rows, {row.trace for row in rows} - made)
    sys.stdout.write(f"{table(rows)}\n\n{words(goals)}\nwritten: {given.out}\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _several_pools(trace: str, prices: str, days: float, seeds: int) -> Iterator[Job]:
    whole = _market(prices, PREEMPTIONS)
    clouds = sorted({offering.cloud for offering in whole.offerings})
    with_spot = sorted({offering.cloud for offering in whole.offerings if offering.spot})
    loaded, _ = _load(trace, days)
    long = loaded.seconds > LONG
    job = Job(trace=trace, policy="", seed=0, prices=prices, days=days, clouds=())
    if long:
        # On demand, clouds differ by their list price only: the cheapest is the one to beat.
        cheapest = whole.cheapest().cloud
        yield replace(job, policy=f"covey@{cheapest}", clouds=(cheapest,))
    for seed in range(1 if long else min(seeds, SEEDS)):
        job = replace(job, seed=seed)
        if seed in loaded.seeds and not long:  # only the demand is drawn, not the weather
            for cloud in clouds:
                yield replace(job, policy=f"covey@{cloud}", clouds=(cloud,))
            yield replace(job, policy="covey@all")
        for cloud in with_spot:
            yield replace(job, policy=f"covey@{cloud}+spot", clouds=(cloud,), spot=True)
        yield replace(job, policy="covey@all+spot", spot=True)
        for rate in () if long else OTHER_PREEMPTIONS:
            yield replace(job, policy=f"covey@all+spot({rate:.0%}/h)", spot=True, preemptions=rate)


@lru_cache(maxsize=4)
def _load(trace: str, days: float) -> tuple[Trace, Setting]:
    made = {each.name: each for each in synthetic_traces()}
    if trace in made:
        loaded, setting = made[trace], setting_for(made[trace])
    else:
        loaded = load_trace(Path(trace))
        setting = setting_for(loaded, Path(trace))
    if days:
        loaded = replace(loaded, rates=loaded.rates[: max(1, round(days * 86400 / loaded.step))])
    return loaded, setting


@lru_cache(maxsize=4)
def _market(prices: str, preemptions: float) -> Market:
    return load_market(Path(prices), preemptions=preemptions) if prices else no_prices()


def _weight(job: Job) -> float:
    """How long it takes, roughly."""
    trace, _ = _load(job.trace, job.days)
    return trace.seconds * (1.0 if job.clouds is not None else 0.5 if job.policy == OURS else 0.1)


if __name__ == "__main__":
    sys.exit(main())
