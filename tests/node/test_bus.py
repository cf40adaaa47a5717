from __future__ import annotations

import asyncio
import gc

from covey.node.bus import Bus
from covey.testing import run


def test_follower_gets_every_event_from_its_call_on() -> None:
    async def scenario() -> None:
        bus = Bus()
        bus.publish("early", 1.0)
        first, second = bus.follow(), bus.follow()
        bus.publish("one", 2.0, count=3)
        bus.publish("two", 3.0)
        bus.close()
        wanted = [{"event": "one", "time": 2.0, "count": 3}, {"event": "two", "time": 3.0}]
        assert [event async for event in first] == wanted
        assert [event async for event in second] == wanted

    run(scenario())


def test_slow_follower_loses_the_oldest_and_is_told_how_many() -> None:
    async def scenario() -> None:
        bus = Bus()
        following = bus.follow()
        for number in range(1500):
            bus.publish("tick", float(number))
        lost = await anext(following)
        assert (lost["event"], lost["count"]) == ("events.lost", 476)
        assert (await anext(following))["time"] == 476.0
        bus.close()
        rest = [event["time"] async for event in following]
        assert rest == [float(number) for number in range(477, 1500)]

    run(scenario())


def test_follower_that_ends_is_forgotten() -> None:
    async def scenario() -> None:
        bus = Bus()
        following = bus.follow()
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(1.0)
        waiting.cancel()
        await asyncio.wait((waiting,))
        del following, waiting
        gc.collect()
        bus.publish("one", 1.0)
        assert len(bus._followers) == 0

    run(scenario())


def test_follower_that_never_asked_is_forgotten_too() -> None:
    async def scenario() -> None:
        bus = Bus()
        for _ in range(10):
            bus.follow()
        gc.collect()
        bus.publish("one", 1.0)
        assert len(bus._followers) == 0

    run(scenario())
