"""Work for strangers that waits its turn: bounded, metered, and fair (PROTOCOL 15).

Packets of sessions are handled as they arrive; a handshake costs a hundred times as much and can be had by anybody. So
it is only put down here, and done for a few milliseconds at a time, after all that arrived was received and before what
is ready is sent. A clock that stands still within a call (the simulator's) says nothing about cost; then an estimate
does, and the next work is due that much later: a simulated core is as busy as a real one.

Lanes take turns, and in a lane its sources do. A lane that is full drops what the source with most in it asked last,
and of several such sources the one that asked most before: whoever asks rarely is served beside many who never stop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from covey.core import limits

__all__ = ["Backlog"]

T = TypeVar("T")

_SMOOTHING: Final = 8
"""One measurement in so many makes up the average cost."""


_DESERVING: Final = 0.5
"""With less credit a source is not worth the search for one that has even less."""


class _Source(Generic[T]):
    __slots__ = ("credit", "items")

    def __init__(self) -> None:
        self.items: dict[Hashable, T] = {}
        self.credit = 1.0


class _Lane(Generic[T]):
    """At most `limits.BACKLOG_LANE` items, whatever the number of sources. None of them is without items."""

    __slots__ = ("_sources", "size")

    def __init__(self) -> None:
        self.size = 0
        self._sources: OrderedDict[Hashable, _Source[T]] = OrderedDict()

    def put(self, item: T, key: Hashable, name: Hashable, credit: float) -> None:
        """The item, or the one that another source put last, is dropped if there is no room."""
        sources = self._sources
        source = sources.get(name)
        if source is not None and key in source.items:
            source.items[key] = item
            return
        if self.size >= limits.BACKLOG_LANE:
            if credit < _DESERVING:
                return
            greedy = max(sources, key=lambda each: (len(sources[each].items), -sources[each].credit))
            found = sources[greedy]
            if (len(found.items), -found.credit) <= (1 if source is None else len(source.items) + 1, -credit):
                return
            found.items.popitem()
            self.size -= 1
            if not found.items:
                del sources[greedy]
        if source is None:
            source = sources[name] = _Source()
        source.items[key] = item
        source.credit = credit
        self.size += 1

    def take(self) -> T:
        name, source = self._sources.popitem(last=False)
        item = source.items.pop(next(iter(source.items)))
        if source.items:
            self._sources[name] = source
        self.size -= 1
        return item


class Backlog(Generic[T]):
    """Call `put` for what arrives, and `run` when `deadline` has passed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lanes: OrderedDict[Hashable, _Lane[T]] = OrderedDict()
        self._cost = limits.HANDSHAKE_COST
        self._free_at = float("-inf")
        self._loaded_until = float("-inf")
        self._arrived = 0

    def __len__(self) -> int:
        return sum(lane.size for lane in self._lanes.values())

    def put(self, now: float, item: T, lane: Hashable, source: Hashable, credit: float = 1.0, *, key: Hashable) -> None:
        """Has `item` done in its turn, or drops something. There may be few lanes and any number of sources.

        It takes the place of what the same source asked with the same `key`: whoever asks again while he waits has
        given up the answer to what he asked before. `credit` is how little this source asked for lately, 0 to 1.
        """
        if lane not in self._lanes:
            self._lanes[lane] = _Lane()
        self._lanes[lane].put(item, key, source, credit)
        size = len(self)
        if size > limits.LOAD_ITEMS or size * self._cost > limits.LOAD_SECONDS:
            self._loaded_until = now + limits.LOAD_STICKY
        self._free_at = max(self._free_at, now)

    def arrived(self) -> None:
        """Something came from a stranger, work or not."""
        self._arrived += 1

    def charge(self, now: float, seconds: float) -> None:
        """Work of the same kind was done outside of `run`: what waits does so longer, and soon it is load."""
        self._free_at = min(max(self._free_at, now) + seconds, now + 2 * limits.LOAD_SECONDS)
        if self._free_at - now > limits.LOAD_SECONDS:
            self._loaded_until = now + limits.LOAD_STICKY

    def loaded(self, now: float) -> bool:
        """Whether more waits than is done soon, or did in the last second."""
        return now < self._loaded_until

    def deadline(self) -> float | None:
        """When `run` is due, seconds; None for never."""
        return self._free_at if self._lanes else None

    def run(self, now: float, work: Callable[[T], None]) -> None:
        """Does what waits, for `limits.WORK_SECONDS` at most. `work` does not raise.

        For less while much arrives: then there is probably more in the socket, packets of sessions among it.
        """
        if not self._lanes or now < self._free_at:
            return
        began = self._clock()
        spent, done = 0.0, 0
        budget = limits.WORK_SECONDS if self._arrived < limits.BUSY_ARRIVALS else limits.BUSY_WORK_SECONDS
        self._arrived = 0
        while self._lanes and spent < budget:
            work(self._take())
            done += 1
            spent = (self._clock() - began) or done * limits.HANDSHAKE_COST
        self._cost += (spent / done - self._cost) / _SMOOTHING
        self._free_at = now + spent

    def _take(self) -> T:
        name, lane = self._lanes.popitem(last=False)
        item = lane.take()
        if lane.size:
            self._lanes[name] = lane
        return item
