"""pytest plugin: the fixture `lab`, one for each test. Load it with `pytest_plugins = ["covey.lab.plugin"]`.

A machine without what a lab needs skips its tests and says what to install.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from covey.base.errors import StateError
from covey.lab import Lab

__all__ = ["lab"]


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An empty lab."""
    try:
        found = Lab()
    except StateError as error:
        pytest.skip(f"{error}: {error.next_step}")
    with found:
        yield found
