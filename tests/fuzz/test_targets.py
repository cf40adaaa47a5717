"""The corpus, and a few changes of each of its inputs, against every target: some seconds of what `make fuzz` does."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.seeds import CORPUS, seeds
from tests.fuzz.targets import TARGETS, bounded

CHANGES = {"peer": 8, "stranger": 20, "stream-request": 20}
"""Changed copies of each input; 100 where it is not said: these cost a session or a socket each."""
CORPUS_BYTES = 300_000
ROOT = Path(__file__).parents[2]


def changed(data: bytes, source: random.Random) -> bytes:
    raw = bytearray(data or b"\0")
    for _ in range(source.choice((1, 1, 2, 5))):
        at = source.randrange(len(raw))
        match source.randrange(5):
            case 0:
                raw[at] ^= 1 << source.randrange(8)
            case 1:
                raw[at] = source.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del raw[at : at + source.randrange(1, 9)]
            case 3:
                raw[at:at] = source.randbytes(source.randrange(1, 9))
            case _:
                raw += raw[at : at + 64]
        raw = raw or bytearray(1)
    return bytes(raw)


@pytest.mark.parametrize("name", TARGETS)
def test_corpus_and_what_lies_near_it_do_no_harm(name: str) -> None:
    source = random.Random(name)
    target = TARGETS[name]
    inputs = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    assert inputs
    target(b"")
    for data in inputs:
        bounded(target, data)
        for _ in range(CHANGES.get(name, 100)):
            near = changed(data, source)
            try:
                target(near)
            except BaseException:
                sys.stderr.write(f"{name}: {near.hex()}\n")
                raise


def test_corpus_has_inputs_for_every_target_and_stays_small() -> None:
    assert set(seeds()) == set(TARGETS)
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(TARGETS)
    assert all(path.name.startswith(("seed-", "found-")) for path in files)
    assert sum(path.stat().st_size for path in files) < CORPUS_BYTES


def test_guided_fuzzing_runs(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", "packet", "-runs=500", str(tmp_path), str(CORPUS / "packet")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 500 runs" in done.stderr
