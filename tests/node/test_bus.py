from __future__ import annotations

import asyncio

import pytest

from covey.base.errors import UsageError
from covey.base.events import Event, Gap, MessageReceived, NameChanged, RecentEvents, TrustChanged
from covey.node.bus import RING, Bus
from covey.testing import run


def tick(number: int) -> MessageReceived:
    return MessageReceived(count=number)


def counts(events: list[Event]) -> list[int]:
    return [event.count for event in events if isinstance(event, MessageReceived)]


def test_follower_gets_every_event_from_its_call_on() -> None:
    async def scenario() -> None:
        bus = Bus()
        bus.begin(255)
        bus.publish(tick(1), 1.0)
        first, second = bus.follow(), bus.follow()
        bus.publish(tick(2), 2.0)
        bus.publish(NameChanged(name="b", before="a"), 3.0)
        bus.close()
        wanted = [MessageReceived(id="ff-2", time=2.0, count=2), NameChanged(id="ff-3", time=3.0, name="b", before="a")]
        assert [event async for event in first] == wanted
        assert [event async for event in second] == wanted

    run(scenario())


def test_follower_waits_for_what_comes() -> None:
    async def scenario() -> None:
        bus = Bus()
        following = bus.follow()
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(1.0)
        bus.publish(tick(1), 1.0)
        assert counts([await waiting]) == [1]

    run(scenario())


def test_slow_follower_loses_the_oldest_and_is_told_how_many() -> None:
    async def scenario() -> None:
        bus = Bus()
        following = bus.follow()
        for number in range(1, 1501):
            bus.publish(tick(number), float(number))
        gap = await anext(following)
        assert isinstance(gap, Gap)
        assert (gap.reason, gap.lost, gap.id) == ("too-slow", 476, "0-476")
        bus.close()
        rest = [event async for event in following]
        assert counts(rest) == list(range(477, 1501))
        resumed = bus.follow(after=gap.id)
        assert counts([await anext(resumed)]) == [477], "the gap's id goes on where the gap ends"

    run(scenario())


def test_follower_comes_back_exactly_where_it_was() -> None:
    async def scenario() -> None:
        bus = Bus()
        for number in range(1, 11):
            bus.publish(tick(number), 1.0)
        for after in range(11):
            again = bus.follow(after=f"0-{after}")
            assert again.position == f"0-{after}"
            bus_end = [counts([await anext(again)])[0] for _ in range(10 - after)]
            assert bus_end == list(range(after + 1, 11))

    run(scenario())


@pytest.mark.parametrize(("after", "reason", "lost"), [("0-3", "too-old", 7), ("1-3", "restarted", None)])
def test_follower_that_comes_back_too_late_is_told(after: str, reason: str, lost: int | None) -> None:
    async def scenario() -> None:
        bus = Bus()
        for number in range(1, RING + 11):
            bus.publish(tick(number), 1.0)
        following = bus.follow(after=after)
        gap = await anext(following)
        assert isinstance(gap, Gap)
        assert (gap.reason, gap.lost) == (reason, lost)
        assert counts([await anext(following)]) == [11]

    run(scenario())


def test_id_of_the_future_is_one_of_another_run() -> None:
    async def scenario() -> None:
        bus = Bus()
        gap = await anext(bus.follow(after="0-1"))
        assert isinstance(gap, Gap)
        assert (gap.reason, gap.lost, gap.id) == ("restarted", None, "0-0")

    run(scenario())


@pytest.mark.parametrize("after", ["", "1", "x-1", "1-", "1-x", "1-1-1", "g" * 17 + "-1", "1-" + "9" * 19])
def test_id_that_is_none_is_refused(after: str) -> None:
    with pytest.raises(UsageError) as caught:
        Bus().follow(after=after)
    assert caught.value.code == "bad-event-id"


def test_follower_of_some_types_gets_no_other_and_still_its_gaps() -> None:
    async def scenario() -> None:
        bus = Bus()
        following = bus.follow(["trust.changed"])
        bus.publish(tick(1), 1.0)
        bus.publish(TrustChanged(state="trusted", reason=""), 2.0)
        assert isinstance(await anext(following), TrustChanged)
        for number in range(RING + 1):
            bus.publish(tick(number), 1.0)
        assert isinstance(await anext(following), Gap)

    run(scenario())


def test_recent_is_what_is_remembered() -> None:
    bus = Bus()
    assert bus.recent() == RecentEvents([], "0-0")
    for number in range(1, RING + 3):
        bus.publish(tick(number), 1.0)
    assert counts(bus.recent().items) == list(range(3, RING + 3))
    assert counts(bus.recent(limit=2).items) == [RING + 1, RING + 2]
    assert bus.recent(["trust.*"]) == RecentEvents([], f"0-{RING + 2}")


def test_follower_that_ends_is_forgotten() -> None:
    async def scenario() -> None:
        bus = Bus()
        following = bus.follow()
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(1.0)
        assert len(bus._waiters) == 1
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert len(bus._waiters) == 0

    run(scenario())


def test_follower_of_one_run_ends_with_it() -> None:
    async def scenario() -> None:
        bus = Bus()
        bus.begin(1)
        old = bus.follow()
        bus.publish(tick(1), 1.0)
        bus.close()
        bus.begin(2)
        bus.publish(tick(2), 2.0)
        new = bus.follow()
        bus.publish(tick(3), 3.0)
        bus.close()
        assert counts([event async for event in new]) == [3]
        assert [event async for event in old] == []

    run(scenario())
