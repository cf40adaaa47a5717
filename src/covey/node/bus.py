"""Events for whoever follows this node: the local API's stream, the SDK, tests.

One ring holds the last `RING` events; a follower is a position in it and costs nothing while it waits. Whoever is too
slow, or comes back too late, gets a `Gap` that says so and goes on with the oldest event that is left.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Final, cast

import msgspec

from covey.base.errors import UsageError
from covey.base.events import AnyEvent, Event, Gap, RecentEvents, chosen_types, kind

__all__ = ["RING", "Bus", "Follower"]

RING: Final = 1024
"""Events that are remembered: at most about 400 kB. Ours."""

_ID: Final = re.compile(r"([0-9a-f]{1,16})-([0-9]{1,18})")


class Bus:
    """`publish` never waits and never fails; every follower gets every event from when it began to follow."""

    def __init__(self) -> None:
        self.run = "0"
        self._ring: list[Event] = []
        self._last = 0
        self._closings = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def begin(self, run: int) -> None:
        """A run of the node begins; `run` tells its ids from those of every other run."""
        self.run = f"{run:x}"
        self._ring.clear()
        self._last = 0

    def publish(self, event: Event, time: float) -> None:
        """Gives `event` its id and time and hands it to everybody."""
        self._last += 1
        dated = msgspec.structs.replace(event, id=self._id(self._last), time=time)
        if len(self._ring) < RING:
            self._ring.append(dated)
        else:
            self._ring[(self._last - 1) % RING] = dated
        self._wake()

    def follow(self, types: Iterable[str] = (), after: str | None = None) -> Follower:
        """The events of these `types` (see `chosen_types`) from now on or, with the id of one, after that one.

        What happens before the first `anext` is not missed. UsageError (`unknown-event`, `bad-event-id`).
        """
        return Follower(self, chosen_types(types), after)

    def recent(self, types: Iterable[str] = (), limit: int = RING) -> RecentEvents:
        """What is remembered, the oldest first, at most the newest `limit`."""
        chosen = chosen_types(types)
        remembered = [self.event(number) for number in range(self.oldest, self._last + 1)]
        found = [event for event in remembered if kind(event) in chosen]
        return RecentEvents(items=cast(list[AnyEvent], found[-limit:]), position=self._id(self._last))

    def close(self) -> None:
        """Those who follow now get what is left, and no more."""
        self._closings += 1
        self._wake()

    # for followers

    @property
    def closings(self) -> int:
        return self._closings

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is remembered; that of the next one if there is none."""
        return self._last - len(self._ring) + 1

    @property
    def last(self) -> int:
        """The number of the newest event, 0 if there was none."""
        return self._last

    def event(self, number: int) -> Event:
        """One that is remembered."""
        return self._ring[(number - 1) % RING]

    def locate(self, after: str) -> int | None:
        """The number in an id; None if it is from another run. UsageError (`bad-event-id`)."""
        match = _ID.fullmatch(after)
        if match is None:
            raise UsageError(f"{after[:40]!r} is not the id of an event", code="bad-event-id")
        number = int(match[2])
        return number if match[1] == self.run and number <= self._last else None

    def gap(self, reason: str, lost: int | None) -> Gap:
        """What stands for the events before the oldest one."""
        gap = Gap(reason=reason, lost=lost, id=self._id(self.oldest - 1))  # type: ignore[arg-type]
        return msgspec.structs.replace(gap, time=self.event(self.oldest).time) if self._ring else gap

    def position(self, number: int) -> str:
        """The id that goes on after event `number`."""
        return self._id(number)

    async def changed(self) -> None:
        """Until something is published or the bus is closed."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _id(self, number: int) -> str:
        return f"{self.run}-{number}"


class Follower:
    """An asynchronous iterator over events. `position` is the id after which it goes on."""

    def __init__(self, bus: Bus, types: frozenset[str], after: str | None) -> None:
        self._bus = bus
        self._types = types
        self._closings = bus.closings
        self._run = bus.run
        self._restarted = False
        self._resumed = after is not None
        found = bus.last if after is None else bus.locate(after)
        if found is None:
            self._restarted = True
            found = bus.oldest - 1
        self._number = found

    @property
    def position(self) -> str:
        return self._bus.position(self._number)

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> Event:
        bus = self._bus
        while True:
            if bus.closings != self._closings and bus.run != self._run:
                raise StopAsyncIteration
            if self._restarted:
                self._restarted = self._resumed = False
                return bus.gap("restarted", None)
            if self._number < bus.oldest - 1:
                lost, self._number = bus.oldest - 1 - self._number, bus.oldest - 1
                return bus.gap("too-old" if self._resumed else "too-slow", lost)
            self._resumed = False
            while self._number < bus.last:
                self._number += 1
                event = bus.event(self._number)
                if kind(event) in self._types:
                    return event
            if bus.closings != self._closings:
                raise StopAsyncIteration
            await bus.changed()
