"""The command line, and what it prints."""

from __future__ import annotations

import argparse
import secrets
import signal
import statistics
from collections import Counter
from collections.abc import Callable, Sequence

from scripts import kill_test
from scripts.kill_test.plan import Plan, Result
from scripts.kill_test.round import run

__all__ = ["main"]


def _report(result: Result, say: Callable[[str], None]) -> None:
    delays = sorted(result.delays) or [0.0]
    most = delays[int(0.99 * (len(delays) - 1))]
    median = statistics.median(delays) * 1000
    stall = max([0.0, *result.stalls])
    rows = [
        ("seed", str(result.seed)),
        ("kills", _summed(result.kills)),
        ("messages", _summed(result.answers)),
        *((name, str(count)) for name, count in sorted(result.counts.items())),
        ("sending took", f"{result.seconds:.1f} s, draining {result.drain_seconds:.1f} s"),
        ("until in the inbox", f"median {median:.0f} ms, 99 % in {most:.2f} s, longest {delays[-1]:.2f} s"),
        (
            "everything ran",
            f"{result.together:.1f} s; a message waited at most {stall:.2f} s of it at a stretch",
        ),
        ("violations", str(len(result.violations))),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"  {name:<{width}}  {value}")
    for violation in result.violations[:20]:
        say(f"  VIOLATION: {violation}")
    if result.kept is not None:
        say(f"  kept: {result.kept} (events.log, */state/daemon.log, r?/rendezvous.log)")


def _summed(counts: Counter[str]) -> str:
    parts = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{sum(counts.values())}: {parts}"


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(kill_test.__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--messages", type=int, default=2000, help="how many in all (2000)")
    parser.add_argument("--seed", type=int, help="of the first round; each further one adds 1 (random)")
    parser.add_argument("--rounds", type=int, default=1, help="how many runs (1)")
    parser.add_argument("--seconds", type=float, default=45.0, help="how long one sends, roughly (45)")
    parser.add_argument("--keep", action="store_true", help="keep the directory also when all is well")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """The exit status."""
    options = _arguments(words)
    first = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    wrong = []
    try:
        for seed in range(first, first + options.rounds):
            print(f"kill test: {options.messages} messages, seed {seed}", flush=True)
            plan = Plan(options.messages, seed, options.seconds, options.keep)
            result = run(plan, lambda text: print(text, flush=True))
            _report(result, lambda text: print(text, flush=True))
            if result.violations:
                wrong.append(seed)
    except KeyboardInterrupt:
        print("interrupted; nothing was left running")
        return 130
    except OSError as error:
        print(f"the kill test could not run: {error}")
        return 2
    if wrong:
        print(f"FAILED with seeds {wrong}: again with --seed {wrong[0]}")
        return 1
    print(f"passed: {options.rounds} x {options.messages} messages, nothing lost, doubled or out of order")
    return 0
