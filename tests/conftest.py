"""What holds for every test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Seeds for simulated tests: `sim_seed`, `--sim-seed`, `--sim-seeds`; `lab`, a lab of namespaces.
pytest_plugins = ["covey.testing.plugin", "covey.lab.plugin"]

# No deadline and no slowness check: both measure the machine, and this one may be busy. pytest's timeout
# catches a hang. A failure prints the line that replays it.
settings.register_profile("covey", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("covey")

PROCESSES = ("cli", "daemon", "e2e")
"""Folders whose tests start real processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real processes share one worker: they watch the clock, and should not fight each other for the cores."""
    for item in items:
        if item.path.parent.name in PROCESSES:
            item.add_marker(pytest.mark.xdist_group("processes"))


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty directory whose path leaves room for a Unix socket's name, however deep `tmp_path` lies."""
    with tempfile.TemporaryDirectory(prefix="covey-") as directory:
        yield Path(directory)
