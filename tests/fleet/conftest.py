"""What holds for every test of the fleet: supervisords outlive controllers, and no test."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from covey.fleet.providers.local import processes


@pytest.fixture(autouse=True)
def no_supervisord_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ends what local pools below the test's own folders still run."""
    folders = [
        Path(request.getfixturevalue(name)) for name in ("tmp_path", "short_path") if name in request.fixturenames
    ]
    yield
    for folder in folders:
        for pid_file in folder.glob("**/pools/*/supervisord.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid_file.read_text()), signal.SIGKILL)
            for pid in processes.of_pool(str(pid_file.parent.absolute())):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
