"""Covey's own placement solver beside HiGHS on the same numbers: `make fleet-placement`.

A thousand published problems (`placement_instances`): how much dearer the plan is than HiGHS's, and whether it is
feasible whenever HiGHS's is. Then a fleet of 200 workloads on 60 offerings from nothing, and its ticks, in which a few
workloads change. Times are CPU seconds of one core, with wall clock beside them for the large ones.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks.placement_instances import INSTANCES, instance, large
from covey.fleet.placing import Item, Problem, place
from covey.fleet.placing import costs as costs_module
from covey.fleet.placing import highs as highs_module
from covey.fleet.placing import rules as rules_module
from covey.fleet.placing import shapes as shapes_module
from covey.fleet.placing.highs import solve_highs
from covey.fleet.placing.plan import Plan, close_pools
from covey.fleet.placing.rules import compile_problem
from covey.fleet.placing.solve import solve

RESULT = Path(__file__).parent / "results" / "placement.json"

CACHE = Path(__file__).parents[1] / "build" / "placement"
"""What HiGHS answered, by seed: it need not be asked again while the problem and the model stay what they are."""

MODEL = (rules_module, costs_module, shapes_module, highs_module)
"""The modules that make the numbers HiGHS gets."""

DEVELOPED = 260
"""Seeds below were looked at all the time while the solver was written, of the rest only those that it missed."""

TOLERANCE = 1e-5
"""What HiGHS may leave missing by its own tolerances."""

GOALS = {"median": 0.5, "p95": 2.0, "max": 10.0}
"""Per cent dearer than HiGHS."""


def compare(seed: int, seconds: float, cache: Path = CACHE) -> dict[str, Any]:
    """One problem, both solvers."""
    problem = instance(seed)
    started = time.process_time()
    ours = solve(compile_problem(problem))
    our_seconds = time.process_time() - started
    theirs, answer = asked(seed, problem, seconds, cache)
    feasible = answer["feasible"]
    cost, least = ours.total()[-1], theirs.total()[-1]
    # Beside what is missing, a cost means nothing.
    worse = any(a > b + TOLERANCE for a, b in zip(ours.total()[:-1], theirs.total()[:-1], strict=True))
    met = _whole(ours)
    return {
        "seed": seed,
        "workloads": len(problem.items),
        "offerings": len(problem.items[0].offerings),
        "feasible": feasible,
        "met": met,
        "worse": worse,
        "gap_percent": round(100 * (cost - least) / least, 4) if feasible and met and least > 1e-9 else None,
        "seconds": round(our_seconds, 4),
        "highs_seconds": answer["seconds"],
        "highs_cut_off": answer["wall"] >= seconds,
    }


def asked(seed: int, problem: Problem, seconds: float, cache: Path) -> tuple[Plan, dict[str, Any]]:
    """HiGHS' plan, and the record of its answer."""
    path = cache / f"{seed:04}-{_digest(problem, seconds)}.json"
    model = compile_problem(problem)
    if path.exists():
        answer = json.loads(path.read_text())
        plan = Plan(model)
        for entry, counts in zip(model.entries, answer["counts"], strict=True):
            places = {option.key: j for j, option in enumerate(entry.options)}
            plan.put(entry, {places[key]: n for key, n in counts.items()})
        for entry in model.entries:
            close_pools(plan, entry)
        return plan, answer
    started, wall = time.process_time(), time.perf_counter()
    plan, feasible = solve_highs(model, seconds=seconds)
    answer = {
        "feasible": feasible,
        "seconds": round(time.process_time() - started, 4),
        "wall": round(time.perf_counter() - wall, 4),
        "counts": [
            {entry.options[j].key: n for j, n in plan.counts[entry.index].items()} for entry in plan.model.entries
        ],
    }
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(answer))
    unfinished.replace(path)
    return plan, answer


def _digest(problem: Problem, seconds: float) -> str:
    """Of the problem, the time HiGHS has, and the modules that make its model."""
    text = hashlib.sha256()
    stale = sorted(problem.stale_prices)
    text.update(repr((seconds, stale, replace(problem, stale_prices=frozenset()))).encode())
    for module in MODEL:
        text.update(Path(str(module.__file__)).read_bytes())
    return text.hexdigest()[:16]


def _whole(plan: Plan) -> bool:
    return all(part <= TOLERANCE for part in plan.total()[:-1])


def ticks(count: int) -> dict[str, Any]:
    """A fleet of 200 x 60: from nothing, then ticks in which one to five workloads want something else."""
    problem = large()
    started, cpu = time.perf_counter(), time.process_time()
    placement = place(problem)
    whole, whole_cpu = time.perf_counter() - started, time.process_time() - cpu
    rng = random.Random("covey-placement-ticks")
    running = placement.counts
    demands = [item.demand for item in problem.items]
    taken: list[tuple[float, float]] = []
    for tick in range(count):
        changed = set(rng.sample(range(len(problem.items)), rng.randint(1, 5)))
        items: list[Item] = []
        for index, item in enumerate(problem.items):
            counts = running[item.workload.name]
            if index in changed:
                demands[index] = item.demand * rng.uniform(0.8, 1.25)
            items.append(
                replace(
                    item, demand=demands[index], running=counts, ready=counts, move_cost=0.02, changed=index in changed
                )
            )
        # What runs has taken its room.
        started, cpu = time.perf_counter(), time.process_time()
        placement = place(replace(problem, now=5.0 * tick, items=tuple(items)))
        taken.append((time.perf_counter() - started, time.process_time() - cpu))
        running = placement.counts
    walls, cpus = sorted(wall for wall, _ in taken), sorted(cpu for _, cpu in taken)
    last = min(int(0.99 * count), count - 1)
    return {
        "from_nothing_s": round(whole, 3),
        "from_nothing_cpu_s": round(whole_cpu, 3),
        "ticks": count,
        "tick_p50_ms": round(1000 * walls[count // 2], 1),
        "tick_p99_ms": round(1000 * walls[last], 1),
        "tick_p99_cpu_ms": round(1000 * cpus[last], 1),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures that the goals speak of, for all problems and for each half."""
    found: dict[str, Any] = {}
    halves = {
        "all": rows,
        "small": [r for r in rows if r["seed"] % 2 == 0],
        "mixed": [r for r in rows if r["seed"] % 2],
        "from_260": [r for r in rows if r["seed"] >= DEVELOPED],
    }
    for name, half in halves.items():
        gaps = sorted(row["gap_percent"] for row in half if row["gap_percent"] is not None)
        feasible = [row for row in half if row["feasible"]]
        lost = [row["seed"] for row in feasible if not row["met"]]
        scarce = [row for row in half if not row["feasible"]]
        found[name] = {
            "problems": len(half),
            "feasible": len(feasible),
            "feasible_for_highs_only": lost,
            "median_percent": gaps[len(gaps) // 2] if gaps else None,
            "p95_percent": gaps[min(int(0.95 * len(gaps)), len(gaps) - 1)] if gaps else None,
            "max_percent": gaps[-1] if gaps else None,
            "over_2_percent": sum(gap > 2 for gap in gaps),
            "infeasible": len(scarce),
            "infeasible_and_worse_than_highs": [row["seed"] for row in scarce if row["worse"]],
            "seconds_mean": round(sum(row["seconds"] for row in half) / max(len(half), 1), 3),
            "highs_seconds_mean": round(sum(row["highs_seconds"] for row in half) / max(len(half), 1), 3),
        }
    return found


def _one(task: tuple[int, float, Path]) -> dict[str, Any]:
    return compare(*task)


def _write(out: Path, rows: list[dict[str, Any]], fleet: dict[str, Any]) -> dict[str, Any]:
    result = {"goals_percent": GOALS, "summary": summary(rows), "fleet_200x60": fleet, "problems": rows}
    # One line for each problem: a thousand of them are read by programs.
    lines = ",\n".join(json.dumps(row) for row in rows)
    head = json.dumps({key: value for key, value in result.items() if key != "problems"}, indent=1)
    out.write_text(f'{head[:-2]},\n "problems": [\n{lines}\n]}}\n')
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement", description=__doc__)
    parser.add_argument("--problems", type=int, default=INSTANCES, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0, help="the first seed; the published ones end at 999")
    parser.add_argument("--seconds", type=float, default=10.0, help="time limit of HiGHS for each solve")
    parser.add_argument("--ticks", type=int, default=200)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where HiGHS' answers are kept")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.problems)
    tasks = [(seed, options.seconds, options.cache) for seed in seeds]
    rows: list[dict[str, Any]] = []
    # The large one first, while nothing else of ours runs.
    fleet = ticks(options.ticks) if options.ticks else {}
    print(json.dumps(fleet), file=sys.stderr)
    with ProcessPoolExecutor(options.workers) as pool:
        for row in pool.map(_one, tasks, chunksize=4):
            rows.append(row)
            if len(rows) % 50 == 0:
                print(f"{len(rows)} of {len(tasks)}", file=sys.stderr, flush=True)
                _write(options.out, rows, fleet)  # a run that is stopped leaves what it has
    result = _write(options.out, rows, fleet)
    print(json.dumps({"summary": result["summary"], "fleet_200x60": fleet}, indent=1))


if __name__ == "__main__":
    main()
