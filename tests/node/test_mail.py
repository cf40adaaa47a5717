"""What is promised to callers of `send`, in one process on the simulated network."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from covey.testing import run
from covey.testing.world import World


@pytest.mark.parametrize("steps", range(12))
def test_send_given_up_by_its_caller_leaves_nothing_lying_in_the_outbox(steps: int, tmp_path: Path) -> None:
    """A caller's time may be over (`Covey-Timeout`, `asyncio.timeout`) at any step of a send."""

    async def give_up() -> tuple[int, int, int]:
        async with World(tmp_path, seed=1) as world:
            await world.start_rendezvous()
            for name in ("a", "b"):
                await world.start_node(name)
            await world.befriend("a", "b")
            a, b = world.node("a"), world.node("b")
            sending = asyncio.ensure_future(a.send("b", "never mind", wait=30.0))
            for _ in range(steps):
                await asyncio.sleep(0)
            sending.cancel()
            await asyncio.wait((sending,))
            await asyncio.sleep(20.0)
            return a._agent.mail.outbox.counts().messages, a.view().outbox_queued, len(await b.inbox_list())

    on_disk, shown, arrived = run(give_up(), seed=1)
    assert (on_disk, shown) == (0, 0)
    assert arrived == 0 if steps == 0 else 1 if steps == 11 else arrived in (0, 1)
