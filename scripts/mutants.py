"""Seeded faults in the core, to see that the scripts find them: `make mutants`.

    python -m scripts.mutants [NAME ...] [--examples 1000]

Each mutant is one small mistake in a copy of the sources; the scripts of `tests.core.script_search` are played against
it until one fails. Prints how many that took. Exit status 1 if a mutant lives, or if its text is no longer in the
sources (then write it anew: whoever changed those lines knows what could go wrong in them). A mistake that another
mechanism makes good in the end (no probe after a timeout, a moved peer that is not followed at once) is none to a model
that waits; those have tests of their own.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SECONDS = 540


class Mutant(NamedTuple):
    """One mistake: `new` in place of `old`."""

    name: str
    module: str
    """Below `covey/core`, without `.py`."""
    old: str
    new: str


MUTANTS = (
    # --- what was lost is sent again
    Mutant("lost-fin", "connection", "stream.fin_sent = False", "pass"),
    Mutant("lost-reset", "connection", "stream.reset_queued = True\n                self.queue_control()", "pass"),
    Mutant("lost-stop", "connection", "stream.stop_queued = True\n                self.queue_control()", "pass"),
    Mutant(
        "lost-limit",
        "connection",
        "        else:\n            self._dirty(kind, number)",
        "        else:\n            pass",
    ),
    Mutant("lost-crypto", "crypto_stream", "self.outgoing.on_lost(offset, size)", "pass"),
    Mutant("no-turn-after-loss", "connection", "if stream.has_data:\n            self.queue(stream)\n\n", "\n"),
    Mutant("lost-with-its-path", "session", "self.lost(path, path.abandon())", "path.abandon()"),
    # --- what an acknowledgement or a loss covers
    Mutant("part-offset", "recovery", "self.offset + start * self.chunk", "self.offset"),
    Mutant("cut-early", "recovery", "kept.append(run.part(start, low))", "kept.append(run.part(start, low - 1))"),
    Mutant("cut-late", "recovery", "end = min(high + 1, stop)", "end = min(high + 2, stop)"),
    Mutant(
        "loss-skips-one", "recovery", "run = run.part(by_count, run.count)", "run = run.part(by_count + 1, run.count)"
    ),
    Mutant("lost-though-acked", "send_buffer", "offset = max(offset, self.acked)", "pass"),
    Mutant("acked-beyond", "send_buffer", "self.acked = max(self.acked, beyond)", "self.acked = beyond + 1"),
    Mutant("in-flight-leaks", "recovery", "self.congestion.on_discarded(sum(run.bytes for run in runs))", "pass"),
    # --- what arrived
    Mutant("no-duplicate-check", "receiver", "received is not None and not received.fresh(counter)", "False"),
    Mutant("counters-merge", "received", "highs[at - 1] == counter - 1", "highs[at - 1] >= counter - 2"),
    Mutant("overlap", "receive_buffer", "data = data[self.next - offset :]", "data = data[self.next - offset + 1 :]"),
    Mutant(
        "ranges-remove",
        "ranges",
        "low = bisect_right(self._stops, start)",
        "low = bisect_left(self._stops, start + 1) + 1",
    ),
    Mutant("early-overlap", "receive_buffer", "data = data[stops[at] - offset :]", "pass"),
    Mutant("early-run", "receive_buffer", "skip = self.next - self._starts.pop(0)", "skip = 0 * self._starts.pop(0)"),
    Mutant("early-forgotten", "receive_buffer", "self._starts[0] <= self.next", "self._starts[0] < self.next"),
    Mutant("read-once", "stream", "self.announced = False\n        self.connection", "self.connection"),
    # --- credit
    Mutant(
        "no-max-data",
        "connection",
        "self._max_receive = self._consumed + self._window\n            self._dirty(frames.MAX_DATA, 0)",
        "self._max_receive = self._consumed + self._window",
    ),
    Mutant("no-max-streams", "connection", "self._dirty(frames.MAX_STREAMS, 0)\n", "pass\n"),
    Mutant("reset-leaks-credit", "connection", "self.credit(stream, final - stream._counted)", "pass"),
    Mutant("stop-leaks-credit", "stream", "self.connection.credit(self, skipped)", "pass"),
    Mutant(
        "repeats-counted",
        "sender",
        "if not repeat:\n                    connection.count_sent(size)",
        "if True:\n                    connection.count_sent(size)",
    ),
    # --- ends
    Mutant(
        "fin-early",
        "sender",
        "and stream.reset_code is None and offset + size == outgoing.end",
        "and stream.reset_code is None",
    ),
    Mutant(
        "fin-acked-alone",
        "stream",
        "return self.fin_acked and self.outgoing.acked == self.outgoing.end",
        "return self.fin_acked",
    ),
    # --- keys, paths, sessions
    Mutant(
        "responder-never-switches", "epochs", "if self._next_send is not None:\n            self._switch(now)", "pass"
    ),
    Mutant("counter-again", "sender", "path.counter += count", "path.counter += count - 1"),
)


def mutated(source: str, mutant: Mutant) -> str | None:
    """With the mistake at every place where the text stands; None if it stands nowhere."""
    return source.replace(mutant.old, mutant.new) if mutant.old in source else None


def hunt(mutant: Mutant, copy: Path, examples: int) -> tuple[bool, str]:
    """Whether the scripts find it in `copy`, and what to say of it. Leaves the copy as it was."""
    path = copy / "src/covey/core" / f"{mutant.module}.py"
    original = path.read_text()
    changed = mutated(original, mutant)
    if changed is None:
        return False, "its text is no longer there"
    path.write_text(changed)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.core.script_search", "--mutant", "--examples", str(examples)],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": f"{copy / 'src'}:{copy}", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    finally:
        path.write_text(original)
    counted = re.match(r"(\d+) scripts", done.stdout)
    if counted is None:
        return False, f"the scripts do not run: {done.stderr.strip().splitlines()[-1:]}"
    if done.returncode == 0:
        return False, f"lives after {counted[1]} scripts"
    symptom = done.stdout.rsplit("\n# ", 1)[-1].strip().splitlines()[0]
    return True, f"{counted[1]:>5} scripts   {symptom[:110]}"


def main() -> int:
    parser = argparse.ArgumentParser(description="See that the scripts find seeded faults.")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--examples", type=int, default=1000)
    arguments = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not arguments.names or mutant.name in arguments.names]
    alive = 0
    with tempfile.TemporaryDirectory(prefix="covey-mutants-") as directory:
        copy = Path(directory)
        for part in ("src", "tests/core"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for mutant in chosen:
            killed, words = hunt(mutant, copy, arguments.examples)
            alive += not killed
            print(f"{mutant.name:<26} {'' if killed else 'NOT FOUND: '}{words}", flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} found")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
