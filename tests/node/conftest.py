from __future__ import annotations

from pathlib import Path

import pytest

from covey.testing import Link, run
from covey.testing.world import World
from tests.node.stage import Play, Scenario, T, broken


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Runs `scenario(world)` in virtual time, with its files below `tmp_path`; its result.

    Whatever happened in it, what every node keeps is whole and consistent at its end.
    """

    def play(scenario: Scenario[T], *, seed: int = 1, link: Link | None = None, limit_s: float = 1800.0) -> T:
        async def main() -> T:
            async with World(tmp_path, seed=seed, link=link) as world:
                result = await scenario(world)
            assert broken(world) == []
            return result

        return run(main(), seed=seed, limit_virtual_s=limit_s)

    return play
