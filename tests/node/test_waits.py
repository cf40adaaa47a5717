from __future__ import annotations

import asyncio

from covey.base.types import Identity
from covey.node.waits import Waits
from covey.testing import run

ADA, BOB = Identity(b"a" * 32), Identity(b"b" * 32)


def test_wait_ends_when_its_condition_holds_or_its_time_is_over() -> None:
    async def scenario() -> None:
        loop, waits = asyncio.get_running_loop(), Waits()
        known: set[Identity] = set()

        async def wait(identity: Identity) -> float:
            await waits.until(identity, lambda: identity in known, 10.0)
            return loop.time() - begun

        begun = loop.time()
        ada, bob, again = (asyncio.ensure_future(wait(each)) for each in (ADA, BOB, ADA))
        await asyncio.sleep(1.0)
        waits.look(ADA)  # nothing yet
        known.add(BOB)
        await asyncio.sleep(1.0)
        known.add(ADA)
        waits.look(ADA)
        assert (await ada, await again, await bob) == (2.0, 2.0, 10.0)
        assert await wait(ADA) == 10.0
        assert waits._waiting == {}

    run(scenario(), seed=1)
