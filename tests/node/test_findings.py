from __future__ import annotations

import re
from pathlib import Path

from covey.base.schema import SEVERITIES
from covey.node.findings import CODES
from covey.testing.world import World
from tests.node.stage import Play, network

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_operations_page_explains_every_code_and_no_other() -> None:
    section = OPERATIONS.read_text().partition("| finding | severity | means |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)) == CODES


def test_findings_come_the_worst_first_and_go_when_mended(play: Play) -> None:
    async def scenario(world: World) -> None:
        (a,) = await network(world, "a")
        await world.until(lambda: not a.view().degraded)
        assert [(each.code, each.severity) for each in a.view().findings] == [("single-rendezvous", "note")]
        await world.crash("rendezvous")
        await world.until(lambda: bool(a.view().degraded))
        found = a.view().findings
        assert [(each.code, each.severity) for each in found] == [
            ("rendezvous-away", "error"),
            ("single-rendezvous", "note"),
        ]
        assert [SEVERITIES.index(each.severity) for each in found] == [0, 2]
        assert all(each.what and each.hint for each in found)
        await world.restart("rendezvous")
        await world.until(lambda: not a.view().degraded)

    play(scenario)
