"""`make nat-matrix`: which pairs of NAT kinds connect, over what, and how soon.

For every cell two agents who trust each other come to their networks for the first time, `runs` times over, with boxes
that remember nothing. One sends a message at once: `first_byte_ms` is until the other has it. `direct_ms` is until both
send to each other directly. A cell counts as direct at 19 of 20 runs (PROTOCOL 39).

    python -m benchmarks.paths.matrix [--runs 20] [--cells port-restricted/symmetric ...] [--short]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.machine import commit, facts
from benchmarks.paths.pair import Pair, pair
from benchmarks.paths.program import Trouble
from benchmarks.results import DIRECTORY
from covey.lab import Lab

__all__ = ["CELLS", "KINDS", "SHORT", "SQUARE", "hopeless", "measure", "table", "verdict"]

KINDS: Final = ("none", "full-cone", "port-restricted", "symmetric")
SQUARE: Final = tuple(itertools.product(KINDS, KINDS))
BEYOND: Final = (
    ("double", "port-restricted"),
    ("double", "double"),
    ("sequential", "port-restricted"),
    ("sequential", "sequential"),
    ("sequential", "symmetric"),
    ("udp-blocked", "none"),
    ("udp-blocked", "port-restricted"),
    ("udp-blocked", "udp-blocked"),
    ("proxy-only", "port-restricted"),
    ("proxy-only", "proxy-only"),
    ("ipv6-only", "dual-stack"),
    ("mtu-1280", "port-restricted"),
    ("forgetful", "port-restricted"),
)
CELLS: Final = SQUARE + BEYOND
SHORT: Final = (
    ("none", "symmetric"),
    ("full-cone", "port-restricted"),
    ("port-restricted", "port-restricted"),
    ("symmetric", "symmetric"),
)
"""What the tests run: one run each, without the ten seconds of a birthday search."""
_PATIENT: Final = 45.0
_HOPELESS: Final = 3.0
"""Seconds a direct path is waited for, where it is known that none can be."""
_HARD: Final = frozenset({"symmetric", "sequential"})
_NEVER: Final = frozenset({"udp-blocked", "proxy-only"})
_SHARE: Final = 0.95
"""PROTOCOL 39: a cell counts as direct at 19 of 20 runs."""


def hopeless(a: str, b: str) -> bool:
    """No side's port can be known, or guessed while the other's is known; or there is no UDP."""
    return ({a, b} <= _HARD and "symmetric" in (a, b)) or bool(_NEVER & {a, b})


def measure(
    a: str, b: str, runs: int, *, lab: Lab | None = None, hopeless_seconds: float = _HOPELESS
) -> dict[str, Any]:
    """One cell: a row of `nat-matrix.json`. `lab`: an empty one to use. Where no direct path can be, one is waited for
    so long."""
    first: list[float] = []
    direct: list[float] = []
    reasons: Counter[str] = Counter()
    failures: list[str] = []
    patience = hopeless_seconds if hopeless(a, b) else _PATIENT
    with pair(a, b, lab=lab, birthday=True) as two:
        for number in range(runs):
            try:
                byte, both, reason = once(two, f"run {number}", patience)
            except Trouble as trouble:
                failures.append(str(trouble))
                two.stop()
                continue
            first.append(byte)
            reasons[reason] += 1
            if both is not None:
                direct.append(both)
    row = {
        "a": a,
        "b": b,
        "runs": runs,
        "connected": len(first),
        "direct": len(direct),
        "first_byte_ms_p50": _share(first, 0.5),
        "first_byte_ms_max": _share(first, 1.0),
        "direct_ms_p50": _share(direct, 0.5),
        "direct_ms_p95": _share(direct, 0.95),
        "reason": reasons.most_common(1)[0][0] if reasons else "",
    }
    return row | ({"failures": failures} if failures else {})


def once(two: Pair, body: str, patience: float) -> tuple[float, float | None, str]:
    """(milliseconds to the message, milliseconds until both are direct, why they are on the path they are on)."""
    two.start()
    two.b.begin("received", body=body)
    sent = two.a.do("send", peer=two.identities[1], body=body)
    got = two.b.end()
    if sent["result"] != "delivered" or got["times"] != 1:
        raise Trouble(f"{sent['result']}, arrived {got['times']} times")
    two.a.begin("direct", peer=two.identities[1], seconds=patience)
    two.b.begin("direct", peer=two.identities[0], seconds=patience)
    ways = [two.a.end(), two.b.end()]
    two.stop()
    begun = sent["begun"]
    times = [way["direct_at"] for way in ways]
    both = None if None in times else (max(times) - begun) * 1000
    reason = next((way["reason"] for way in ways if way["direct_at"] is None), "direct")
    return (got["first_at"] - begun) * 1000, both, reason


def _share(values: Sequence[float], share: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    if share == 0.5:
        return round(statistics.median(ordered), 1)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """For people, in Markdown."""
    lines = [
        "| a | b | connected | direct | first byte p50 (max), ms | direct p50, ms | p95, ms | reason |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['a']} | {row['b']} | {row['connected']}/{row['runs']} | {row['direct']}/{row['runs']}"
        f" | {_figure(row['first_byte_ms_p50'])} ({_figure(row['first_byte_ms_max'])})"
        f" | {_figure(row['direct_ms_p50'])} | {_figure(row['direct_ms_p95'])} | {row['reason']} |"
        for row in rows
    ]
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def verdict(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What is not as DESIGN 14 wants it."""
    wrong = []
    for row in rows:
        cell = f"{row['a']} and {row['b']}"
        if row["connected"] < row["runs"]:
            wrong.append(f"{cell}: {row['connected']} of {row['runs']} runs connected")
        elif row["first_byte_ms_max"] > 1000:
            wrong.append(f"{cell}: the first message took {row['first_byte_ms_max']} ms")
        if not hopeless(row["a"], row["b"]) and row["direct"] < _SHARE * row["runs"]:
            wrong.append(f"{cell}: {row['direct']} of {row['runs']} runs direct ({row['reason']})")
    return wrong


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paths.matrix", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--cells", nargs="*", metavar="A/B", help="only these")
    parser.add_argument("--short", action="store_true", help="what the tests run: four cells, once each")
    given = parser.parse_args(arguments)
    cells = [tuple(cell.split("/")) for cell in given.cells or ()] or (SHORT if given.short else CELLS)
    rows = []
    for number, (a, b) in enumerate(cells, 1):
        print(f"[{number}/{len(cells)}] {a} x {b}", end=" ", flush=True)
        row = measure(a, b, 1 if given.short else given.runs)
        print(
            f"connected {row['connected']}/{row['runs']}, direct {row['direct']}, first byte"
            f" {_figure(row['first_byte_ms_p50'])} ms, direct {_figure(row['direct_ms_p50'])} ms, {row['reason']}",
            *row.get("failures", ()),
            flush=True,
        )
        rows.append(row)
    print(f"\n{table(rows)}")
    if not given.cells and not given.short:
        keep(rows)
    wrong = verdict(rows)
    for each in wrong:
        print(f"short of it: {each}")
    return 1 if wrong else 0


def keep(rows: Sequence[dict[str, Any]]) -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    (DIRECTORY / "nat-matrix.json").write_text(f"[\n{lines}\n]\n")
    about = {"commit": commit(), "machine": facts()}
    (DIRECTORY / "nat-matrix-run.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
