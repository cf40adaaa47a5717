"""Real sockets, a real kernel's TCP, one line: shares, which a busy machine hardly changes, and no rates."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.sites import delayed
from covey.bench.pair import Failed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def line() -> None:
    try:
        with delayed(1000):
            pass
    except Failed as failed:
        pytest.skip(str(failed))


def measured(*arguments: str) -> tuple[float, float]:
    """Jain's index, use of the line."""
    argv = [sys.executable, "-m", "benchmarks.fairness", "--mbit", "10", *arguments]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"[\d.]+", done.stdout.splitlines()[-1].partition(" ")[2])
    _, _, index, use = map(float, found)
    return index, use


@pytest.mark.slow
@pytest.mark.usefixtures("line")
@pytest.mark.parametrize("pair", ["covey-cubic/covey-cubic", "covey-bbr/covey-bbr", "covey-bbr/tcp-cubic"])
def test_flows_on_one_line_share_it(pair: str) -> None:
    """Not CUBIC beside an unpaced TCP, which loses more than its share whoever paces beside it (docs/adr/0015)."""
    index, use = measured("--seconds", "40", pair)
    assert use > 0.8
    assert index >= 0.9
