"""Fuzzes what foreign bytes reach, guided by coverage (atheris, libFuzzer): `make fuzz`, `make fuzz-long`.

    python -m tests.fuzz [TARGET ...] [--seconds 10]       each target for so long, one after the other
    python -m tests.fuzz --replay FILE TARGET              one input, as a crash is looked at

Starts from `corpus/`, keeps what it learns in `build/fuzz/corpus/`, leaves inputs that fail in `build/fuzz/` and ends
with exit status 1 if there are any. An input fails that raises, takes 10 seconds, or needs more than 600 MB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
BUILD = ROOT / "build/fuzz"
INPUT_BYTES = 4_096
PROGRAM_BYTES = 512
"""Of inputs that are programs for a whole endpoint: longer ones are slower, and shorter ones find as much."""
RSS_MB = 600
INPUT_SECONDS = 10
GRACE_SECONDS = 120


def fuzz(name: str, seconds: int) -> bool:
    """True if nothing failed."""
    learnt = BUILD / "corpus" / name
    learnt.mkdir(parents=True, exist_ok=True)
    size = PROGRAM_BYTES if name in ("peer", "stranger") else INPUT_BYTES
    limits = [f"-max_len={size}", f"-rss_limit_mb={RSS_MB}", f"-timeout={INPUT_SECONDS}"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.guided", name, f"-max_total_time={seconds}", *limits),
            *("-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={BUILD / name}-"),
            *(str(learnt), str(CORPUS / name)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + GRACE_SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    counted = [line.split()[-1] for line in said.splitlines() if "number_of_executed_units" in line]
    sys.stdout.write(
        f"{name:<18} {counted[0] if counted else '?':>9} inputs{'' if done.returncode == 0 else '  FAILS'}\n"
    )
    if done.returncode != 0:
        sys.stdout.write("\n".join(said.splitlines()[-40:]) + "\n")
    sys.stdout.flush()
    return done.returncode == 0


def main() -> int:
    from tests.fuzz.targets import TARGETS, bounded

    parser = argparse.ArgumentParser(description="Fuzz what foreign bytes reach.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=10, help="for each target")
    parser.add_argument("--replay", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}")
    if arguments.replay is not None:
        for name in arguments.targets:
            bounded(TARGETS[name], arguments.replay.read_bytes())
        return 0
    failed = sum(not fuzz(name, arguments.seconds) for name in arguments.targets or TARGETS)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
