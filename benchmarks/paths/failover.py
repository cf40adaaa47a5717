"""`make failover`: how long nothing gets through when what carries it goes, and that nothing is lost or doubled.

Two agents run 64-byte requests, a bulk stream and messages (`load.py`) when, at some moment, one thing goes:

===============  ===============================================================================
`direct-drop`    nftables drops everything between the two boxes
`black-hole`     only packets below 200 bytes pass between them
`relay`          the rendezvous that relays for them is killed
`relay-drain`    it is asked to stop
`rendezvous`     one that they do not need at the moment is killed
`uplink`         the agent that asks has another address from now on
===============  ===============================================================================

The gap is the longest time between two answers; beside it that between two arrivals of bulk. Every answer must come,
once and in order; bulk must have the same SHA-256 at both ends; every message must arrive once.

    python -m benchmarks.paths.failover [--trials 50] [--faults uplink ...] [--seed 1] [--unlimited]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from benchmarks.machine import commit, facts
from benchmarks.paths.pair import Pair, pair
from benchmarks.paths.program import Rendezvous, Trouble
from benchmarks.results import DIRECTORY

__all__ = ["FAULTS", "measure", "trial"]

_SETTLED_SECONDS: Final = 1.0
_PATIENT: Final = 30.0
_BULK_RATE: Final = 4e6
"""Bytes a second. As much as the path takes would measure how five busy processes share two cores."""


class Fault(NamedTuple):
    """What goes, between which boxes, and what is promised."""

    kinds: tuple[str, str]
    limit: float
    """Seconds that the 95th percentile of the gap may be."""
    strike: Callable[[Pair], Callable[[], None]]
    """Makes it go; the answer brings it back."""


def _drop(two: Pair) -> Callable[[], None]:
    two.lab.cut("a", "b")
    return lambda: two.lab.heal("a", "b")


def _black_hole(two: Pair) -> Callable[[], None]:
    two.lab.black_hole("a", "b", over=200)
    return lambda: two.lab.heal("a", "b")


def _relay_of(two: Pair) -> Rendezvous:
    [active] = [path for path in two.a.do("peer", peer=two.identities[1])["peer"] if path["active"]]
    return next(each for each in two.rendezvous if active["remote"].startswith(f"{each.machine.ip}:"))


def _relay(two: Pair) -> Callable[[], None]:
    server = _relay_of(two)
    server.kill()
    return lambda: _started(server)


def _drain(two: Pair) -> Callable[[], None]:
    server = _relay_of(two)
    server.end()
    return lambda: _started(server)


def _rendezvous(two: Pair) -> Callable[[], None]:
    server = two.rendezvous[0]
    server.kill()
    return lambda: _started(server)


def _started(server: Rendezvous) -> None:
    server.start()


def _uplink(two: Pair) -> Callable[[], None]:
    two.lab.change_uplink("a")
    return lambda: None


_EASY: Final = ("port-restricted", "port-restricted")
_HARD: Final = ("symmetric", "symmetric")
FAULTS: Final = {
    "direct-drop": Fault(_EASY, 1.0, _drop),
    "black-hole": Fault(_EASY, 1.0, _black_hole),
    "relay": Fault(_HARD, 1.0, _relay),
    "relay-drain": Fault(_HARD, 1.0, _drain),
    "rendezvous": Fault(_EASY, 1.0, _rendezvous),
    "uplink": Fault(_EASY, 3.0, _uplink),
}


def trial(two: Pair, fault: Fault, run: str, pause: float, bulk_rate: float | None = _BULK_RATE) -> tuple[float, float]:
    """The gap of the requests and that of bulk, seconds. `bulk_rate`: bytes a second, None for what the path takes.

    Raises Trouble if something was lost or doubled, or nothing came through again.
    """
    peer_a, peer_b = two.identities
    two.start()
    two.a.do("load", peer=peer_b, bulk_rate=bulk_rate, run=run)
    if fault.kinds == _EASY:
        for agent, peer in ((two.a, peer_b), (two.b, peer_a)):
            if agent.do("direct", peer=peer, seconds=_PATIENT)["direct_at"] is None:
                raise Trouble("no direct path to begin with")
    two.a.do("backed", peer=peer_b)
    two.a.do("settled", since=time.monotonic(), seconds=pause, patience=_PATIENT)
    since = time.monotonic()
    heal = fault.strike(two)
    try:
        gap = two.a.do("settled", since=since, seconds=_SETTLED_SECONDS, patience=_PATIENT)["gap"]
        if gap is None:
            raise Trouble("nothing came through again")
        done = two.a.do("unload")
        bulk_gap = two.b.do("bulk_gap", since=since)["gap"]
        late = two.b.do("messages", run=run, count=done["messages"])
    finally:
        heal()
    bulk = done["bulk"]
    if done["answers"] != done["requests"] or not bulk["same"] or bulk["arrived"] != bulk["bytes"] or late["twice"]:
        raise Trouble(f"lost or doubled: {done}, {late}")
    two.stop()
    return float(gap), float(bulk_gap)


def measure(name: str, trials: int, seed: int, bulk_rate: float | None = _BULK_RATE) -> dict[str, Any]:
    """One row of `failover.json`."""
    fault, gaps, bulk_gaps, failures = FAULTS[name], list[float](), list[float](), list[str]()
    moments = random.Random(seed)
    with pair(*fault.kinds) as two:
        for number in range(trials):
            try:
                gap, bulk_gap = trial(two, fault, f"{name} {number}", moments.uniform(0.5, 1.0), bulk_rate)
                gaps.append(gap)
                bulk_gaps.append(bulk_gap)
            except Trouble as trouble:
                failures.append(str(trouble))
                print(trouble, flush=True)
                two.stop()
            print("." if gaps and not failures else "!" if failures else "", end="", flush=True)
    print()
    return {
        "fault": name,
        "boxes": list(fault.kinds),
        "trials": trials,
        "came_through": len(gaps),
        "lost": len(failures),
        "gap_s_p50": _share(gaps, 0.5),
        "gap_s_p95": _share(gaps, 0.95),
        "gap_s_max": _share(gaps, 1.0),
        "bulk_gap_s_p50": _share(bulk_gaps, 0.5),
        "bulk_gap_s_p95": _share(bulk_gaps, 0.95),
        "limit_s": fault.limit,
        "failures": failures,
    }


def _share(values: Sequence[float], share: float) -> float | None:
    """The value below which this share of them is."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paths.failover", description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--faults", nargs="*", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unlimited", action="store_true", help="bulk as fast as the path takes it; nothing is kept")
    given = parser.parse_args(arguments)
    rows = []
    for name in given.faults:
        print(f"{name:12} ", end="", flush=True)
        row = measure(name, given.trials, given.seed, None if given.unlimited else _BULK_RATE)
        gaps = f"  gap p50 {row['gap_s_p50']} p95 {row['gap_s_p95']} max {row['gap_s_max']} s"
        print(f"{gaps}, bulk p95 {row['bulk_gap_s_p95']} s", *row["failures"][:3])
        rows.append(row)
    if len(given.faults) == len(FAULTS) and not given.unlimited:
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(json.dumps(row) for row in rows)
        (DIRECTORY / "failover.json").write_text(f"[\n{lines}\n]\n")
        about = {"commit": commit(), "machine": facts()}
        (DIRECTORY / "failover-run.json").write_text(json.dumps(about, indent=1) + "\n")
    wrong = [
        row["fault"] for row in rows if row["lost"] or row["gap_s_p95"] is None or row["gap_s_p95"] > row["limit_s"]
    ]
    for each in wrong:
        print(f"short of it: {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
