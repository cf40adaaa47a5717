"""Processes for tests, and their end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stage import Agent, Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A rendezvous and agents for one test."""
    found = Stage(tmp_path)
    try:
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Agent, Agent]]:
    """Two agents that trust each other, for all tests of a module: none of them stops or distrusts one."""
    found = Stage(tmp_path_factory.mktemp("pair"))
    try:
        yield found.trusting("aws", "azure")
    finally:
        found.end()
