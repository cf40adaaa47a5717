from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_any_seed(sim_seed):
    assert sim_seed >= 0

@pytest.mark.sim_seeds(5)
def test_five_seeds(sim_seed):
    assert sim_seed != 3

@pytest.mark.parametrize("what", ["a b"])
def test_other_parameters(what, sim_seed):
    assert sim_seed < 100

def test_without_seed():
    pass
"""


@pytest.fixture
def inner(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p covey.testing.plugin -p no:cacheprovider\n")
    (tmp_path / "test_inner.py").write_text(TESTS)
    return tmp_path


def pytest_run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    path = ":".join(each for each in sys.path if each)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", *options],
        cwd=folder,
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_failure_prints_its_seed_and_the_command_that_replays_it(inner: Path) -> None:
    result = pytest_run(inner)
    assert result.returncode == 1
    assert "seed 3; replay with:" in result.stdout
    command = "python -m pytest 'test_inner.py::test_five_seeds[seed3]' --sim-seed 3"
    assert command in result.stdout
    assert "11 passed" in result.stdout
    again = pytest_run(inner, "test_inner.py::test_five_seeds[seed3]", "--sim-seed", "3")
    assert "1 failed" in again.stdout
    assert "passed" not in again.stdout.splitlines()[-1]


def test_sim_seed_runs_that_seed_only(inner: Path) -> None:
    result = pytest_run(inner, "--sim-seed", "42")
    assert result.returncode == 0
    assert "4 passed" in result.stdout
    assert "test_any_seed[seed42]" in result.stdout
    assert "test_other_parameters[seed42-a b]" in result.stdout


def test_sim_seeds_says_how_many(inner: Path) -> None:
    result = pytest_run(inner, "--sim-seeds", "2")
    assert result.returncode == 0
    assert "7 passed" in result.stdout
