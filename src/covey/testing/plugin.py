"""pytest plugin: seeds for simulated tests, and how to replay the one that failed.

A test that takes `sim_seed` runs once per seed: `--sim-seeds N` says how many (0 to N-1), a test may ask
for more or fewer with `@pytest.mark.sim_seeds(N)`, `--sim-seed S` runs the one seed S and nothing else. A
failure prints its seed and the command line that replays it. Load it with `pytest_plugins =
["covey.testing.plugin"]` in the top `conftest.py`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator
from typing import Final

import pytest

__all__ = ["replay_command"]

DEFAULT_SEEDS: Final = 3
"""Seeds for each simulated test unless told otherwise: few, since it runs often; `--sim-seeds` goes wide."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("covey simulator")
    group.addoption("--sim-seed", type=int, metavar="S", help="run simulated tests with this seed only")
    group.addoption("--sim-seeds", type=int, metavar="N", help="run simulated tests with the seeds 0 to N-1")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sim_seeds(n): how many seeds this simulated test runs by default")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sim_seed" not in metafunc.fixturenames:
        return
    seed: int | None = metafunc.config.getoption("--sim-seed")
    count: int | None = metafunc.config.getoption("--sim-seeds")
    marker = metafunc.definition.get_closest_marker("sim_seeds")
    if seed is not None:
        seeds = [seed]
    elif count is not None:
        seeds = list(range(count))
    else:
        seeds = list(range(marker.args[0] if marker is not None else DEFAULT_SEEDS))
    metafunc.parametrize("sim_seed", seeds, ids=[f"seed{each}" for each in seeds])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    seed = _seed(item)
    if seed is not None and report.failed:
        report.sections.append(("simulator", f"seed {seed}; replay with:\n    {replay_command(item, seed)}"))
    return report


def replay_command(item: pytest.Item, seed: int) -> str:
    """The exact command line that runs `item` again with `seed`, from pytest's root directory."""
    words = ["python", "-m", "pytest", item.nodeid, "--sim-seed", str(seed)]
    marked = item.config.getoption("-m")
    if marked:
        words += ["-m", marked]
    hash_seed = os.environ.get("PYTHONHASHSEED")
    prefix = f"PYTHONHASHSEED={shlex.quote(hash_seed)} " if hash_seed else ""
    return prefix + shlex.join(words)


def _seed(item: pytest.Item) -> int | None:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("sim_seed")
