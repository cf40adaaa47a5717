from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.memory import RunningDaemon, running_daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RunningDaemon]:
    """A daemon over a node in memory."""
    with running_daemon(tmp_path) as running:
        yield running
