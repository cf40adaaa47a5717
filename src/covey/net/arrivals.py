"""Trains that were read before it was their turn: who sends little is heard before who sends much.

A socket is one queue: a question that arrives behind four megabytes of a file waits for all of it. While somebody
waits for answers, the driver empties the socket into this store and takes from it by flow (session and path), as
fq_codel does with packets (RFC 8290, 4): a flow that had nothing here goes first, flows with more take turns. Order
within a flow is kept. It is bounded; what does not fit stays in the socket, which drops what does not fit there.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from covey.wire.datagram import flow_of

__all__ = ["ARRIVALS_BYTES", "Arrival", "Arrivals"]

ARRIVALS_BYTES: Final = 4 * 1024 * 1024
"""Bytes read ahead: about what one stream may have on its way."""
ARRIVALS_LIMIT: Final = 1024
"""Trains read ahead: a flood of tiny datagrams must not cost more memory than a full store."""


NEW_IN_A_ROW: Final = 8
"""Then it is an old flow's turn: anybody can make up a flow with every datagram, and must not stop the others so."""


class Arrival(NamedTuple):
    """One train, as `UdpPort.receive` gives it, and the port it came in by."""

    view: memoryview
    segment: int
    remote: tuple[str, int]
    port: int


class Arrivals:
    """`put` what was read, until `full`; `take` what is to be handled next."""

    __slots__ = ("_bytes", "_new", "_old", "_row", "_waiting", "count")

    def __init__(self) -> None:
        self._waiting: dict[bytes, deque[Arrival]] = {}
        self._new: deque[bytes] = deque()
        self._old: deque[bytes] = deque()
        self._row = 0
        """New flows that were taken from since an old one was."""
        self._bytes = 0
        self.count = 0
        """Trains that wait here."""

    @property
    def full(self) -> bool:
        return self._bytes >= ARRIVALS_BYTES or self.count >= ARRIVALS_LIMIT

    @property
    def sparse(self) -> bool:
        """The next train is of a flow that had nothing here before."""
        return bool(self._new)

    def put(self, view: memoryview, segment: int, remote: tuple[str, int], port: int) -> None:
        """Keeps a copy. The last datagram may be of another flow: GRO joins what is shorter to the train before it."""
        size = len(view)
        last = (size - 1) // segment * segment
        if last:
            flow = flow_of(view, last)
            if flow != flow_of(view, 0):
                self._add(flow, Arrival(memoryview(bytearray(view[last:])), size - last, remote, port))
                size = last
        self._add(flow_of(view, 0), Arrival(memoryview(bytearray(view[:size])), min(segment, size), remote, port))

    def take(self) -> Arrival | None:
        """The next train, None if there is none."""
        if self._new and (self._row < NEW_IN_A_ROW or not self._old):
            flow = self._new.popleft()
            self._row += 1
        elif self._old:
            flow = self._old.popleft()
            self._row = 0
        else:
            return None
        queue = self._waiting[flow]
        arrival = queue.popleft()
        if queue:
            self._old.append(flow)
        else:
            del self._waiting[flow]
        self._bytes -= len(arrival.view)
        self.count -= 1
        return arrival

    def _add(self, flow: bytes, arrival: Arrival) -> None:
        queue = self._waiting.get(flow)
        if queue is None:
            queue = self._waiting[flow] = deque()
            self._new.append(flow)
        queue.append(arrival)
        self._bytes += len(arrival.view)
        self.count += 1
