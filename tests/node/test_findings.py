from __future__ import annotations

import re
from pathlib import Path

from covey.base.events import RendezvousChanged
from covey.base.schema import SEVERITIES
from covey.node import Node
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
        events = a.subscribe(["rendezvous.changed"])
        await world.restart("rendezvous")
        await world.until(lambda: not a.view().degraded)
        while not (isinstance(changed := await anext(events), RendezvousChanged) and changed.connected):
            pass
        assert (changed.connected, changed.rendezvous) == (1, 1)

    play(scenario)


def test_keys_that_cannot_renew_themselves_are_told_in_time(play: Play) -> None:
    async def scenario(world: World) -> None:
        (a,) = await network(world, "a")
        agent = a._running
        day_us = 86_400_000_000
        agent.transport.endpoint.credentials = agent.credentials.without_root()
        assert "operational-key-ends" not in codes(a)
        certain_us = agent.now_us()
        for days, severity in ((21, "warning"), (31, "error")):
            agent.now_us = lambda days=days: certain_us + days * day_us  # type: ignore[method-assign]
            assert codes(a)["operational-key-ends"] == severity

    play(scenario)


def test_inbox_that_nobody_reads_is_told_before_it_is_full(play: Play) -> None:
    async def scenario(world: World) -> None:
        (a,) = await network(world, "a")
        for unread, severity in ((80_000, None), (80_001, "warning"), (100_000, "error")):
            a._running.mail.unread = unread
            assert codes(a).get("inbox-filling") == severity

    play(scenario)


def codes(node: Node) -> dict[str, str]:
    return {each.code: each.severity for each in node.view().findings}
