"""pytest plugin: the fixture `lab`, one for each test. Load it with `pytest_plugins = ["covey.lab.plugin"]`.

A machine without what a lab needs skips its tests and says what to install.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from covey.base.errors import StateError
from covey.lab import Lab

__all__ = ["lab"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """A test that asks for a kind of box whose program is not installed is skipped, too."""
    try:
        return (yield)
    except StateError as error:
        if error.code == "lab-unavailable":
            pytest.skip(f"{error}: {error.next_step}")
        raise


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An empty lab."""
    try:
        found = Lab()
    except StateError as error:
        pytest.skip(f"{error}: {error.next_step}")
    with found:
        yield found
