from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.beside import holding, run, running
from covey.bench.pair import Failed, Loopback

HERE = Loopback()


def test_program_that_runs_beside_ends_with_the_block(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    program = ["sh", "-c", f"trap 'touch {gone}; exit' TERM; echo it is up; while :; do sleep 0.01; done"]
    with running(HERE, "server", holding(program, pid_file=tmp_path / "pid")) as line:
        assert line == "it is up"
        os.kill(int((tmp_path / "pid").read_text()), 0)
        assert not gone.exists()
    assert gone.exists()


def test_silent_program_is_ready_when_its_commands_say_so(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    program = ["sh", "-c", f"touch {flag}; exec cat"]
    with running(HERE, "server", holding(program, ready=f"until [ -e {flag} ]; do :; done")) as line:
        assert line == "ready"


@pytest.mark.parametrize(
    "argv",
    [
        ["sh", "-c", "echo no such device >&2; exit 3"],
        holding(["true"], before="{ echo no such device >&2; false; }"),
        holding(["cat"], ready="echo no such device >&2; false"),
    ],
)
def test_program_that_does_not_start_says_why(argv: list[str]) -> None:
    with pytest.raises(Failed, match="no such device"), running(HERE, "server", argv):
        pytest.fail("it started")


def test_program_to_its_end_fails_with_its_own_words(tmp_path: Path) -> None:
    run(["sh", "-c", "touch done"], tmp_path)
    assert (tmp_path / "done").exists()
    with pytest.raises(Failed, match="not today"):
        run(["sh", "-c", "echo not today >&2; exit 1"], tmp_path)
