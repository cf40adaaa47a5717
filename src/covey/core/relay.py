"""Circuits of a relay: who is at the two ends of a number (PROTOCOL 21).

A relay reads nine bytes of a packet and forwards it unchanged: one circuit id serves both sides. A run of packets goes
out of the buffer it came in (`Outlet`), and waits in a queue (`relay_queue.py`) only if the socket is full. What is no
packet is looked at more closely (`relay_filter.py`), so that a flood of handshakes ends here and not at a client. It
knows its clients by their sessions, so "the bound address" of a side is where that session's packets come from; a
client that moves is followed as soon as its session has validated the new address. When a circuit closes, the sides
that are still there are told (GONE).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from covey.base.errors import LimitError, StateError
from covey.base.types import Endpoint, Identity
from covey.core.connection import Connection
from covey.core.path import WEBSOCKET_PORTS, Route
from covey.core.quota import Quota
from covey.core.rates import network
from covey.core.relay_filter import RelayFilter
from covey.core.relay_queue import QUANTUM, QUEUE_BYTES, Forward, RelayQueue
from covey.wire import control
from covey.wire.datagram import PACKET, RELAY_HEADER_SIZE
from covey.wire.relay import encode_gone

__all__ = ["Outlet", "RelayTable"]

CIRCUITS_PER_CLIENT: Final = 1024
"""Circuits that one client asked for. Those that others opened to it do not count: anybody may ask for anybody, so
counting them would let strangers take a client's circuits away."""
CIRCUITS_PER_NETWORK: Final = 2048
"""The same for all clients at one IPv4 address or in one IPv6 /64: identities cost nothing, addresses do."""
CIRCUITS_LIMIT: Final = 65_536
"""Circuits altogether, 1 kB each."""
IDLE_SECONDS: Final = 600.0
_SLACK: Final = 16
"""A client may send this fraction more than its quota."""


Outlet = Callable[[int, memoryview, int, Endpoint], bool]
"""`(port, run, segment, remote)`: sends a run of datagrams now, out of a buffer that is only lent. False: not now."""


Press = Callable[[int, int], None]
"""`(source, target)`, ports."""


class _Circuit:
    __slots__ = ("network", "sides", "used_at")

    def __init__(self, asker: Connection, other: Connection, network: bytes, now: float) -> None:
        self.sides = (asker, other)
        self.network = network
        """Where the asker was when it asked."""
        self.used_at = now


class RelayTable:
    """Opens circuits between clients, and says where a received run goes."""

    def __init__(self, outlet: Outlet | None = None, *, rate: int = 0, press: Press | None = None) -> None:
        """`rate`: bytes per second that are passed on for each client, as it was told; 0: no limit.

        `press(source, target)` is told of what came by a WebSocket, whose other end can be made to wait.
        """
        self._press = press
        self.rate = rate
        self._outlet = outlet
        self._circuits: dict[int, _Circuit] = {}
        self._by_pair: dict[tuple[Identity, Identity], int] = {}
        self._asked: Counter[Identity | bytes] = Counter()
        """Circuits by who asked for them: identity, and network."""
        self._filter = RelayFilter()
        self._of: dict[Connection, dict[int, None]] = {}
        self._queue = RelayQueue()
        self._quotas: dict[Identity, Quota] = {}
        """What each client may still send, if there is a limit."""
        self.forwarded_bytes = 0
        self.dropped_bytes = 0

    def __len__(self) -> int:
        return len(self._circuits)

    def open(self, now: float, first: Connection, second: Connection, number: int) -> int:
        """The circuit between two clients: the one they have, or `number` (32 random bits).

        LimitError if the asker (`first`), or its network, has too many. StateError if either is not there, or is
        reached through a relay itself.
        """
        pair = (min(first.peer, second.peer), max(first.peer, second.peer))
        known = self._by_pair.get(pair)
        if known is not None:
            circuit = self._circuits[known]
            if first in circuit.sides and second in circuit.sides:
                circuit.used_at = now
                return known
            self._close(known)
        here, there = _way(first), _way(second)
        if here is None or there is None:
            raise StateError("a circuit needs two ends", code="not-connected")
        at = network(here.remote)
        if (
            self._asked[first.peer] >= CIRCUITS_PER_CLIENT
            or self._asked[at] >= CIRCUITS_PER_NETWORK
            or len(self._circuits) >= CIRCUITS_LIMIT
        ):
            raise LimitError("too many circuits", code="too-many-circuits")
        while number in self._circuits or number == 0:
            number = (number + 1) & 0xFFFFFFFF
        self._circuits[number] = _Circuit(first, second, at, now)
        self._by_pair[pair] = number
        self._asked[first.peer] += 1
        self._asked[at] += 1
        for connection in (first, second):
            self._of.setdefault(connection, {})[number] = None
        return number

    def learn(self, client: Connection, transport_key: bytes) -> None:
        """A client has this transport key: handshakes for it may pass (PROTOCOL 15)."""
        self._filter.learn(client, transport_key)

    def receive(
        self, now: float, view: memoryview, segment: int, local: int, remote: Endpoint, start: int, stop: int
    ) -> bool:
        """Forwards the run [start, stop) of `view`, all of one circuit. False if it is none of ours."""
        number = int.from_bytes(view[start + 4 : start + RELAY_HEADER_SIZE], "big")
        circuit = self._circuits.get(number)
        if circuit is None:
            return False
        source = Route(local, remote)
        for here, there in (circuit.sides, circuit.sides[::-1]):
            if here.session is not None and any(path.route == source for path in here.session.paths):
                route = _way(there)
                if route is not None:
                    self._forward(now, number, circuit, here.peer, there, route, view, segment, start, stop)
                    if local >= WEBSOCKET_PORTS and self._press is not None:
                        self._press(local, route.local)
                return True
        return False

    @property
    def pending(self) -> bool:
        """Whether `next` has something."""
        return bool(self._queue)

    def next(self, now: float) -> Forward | None:
        """The next run to send."""
        queue = self._queue
        client = queue.turn()
        while self.rate and client is not None and (quota := self._quota(client)).refill(now) <= 0:
            queue.hold(client, quota.ready_at(now, 1))
            client = queue.turn()
        forward = queue.take()
        if client is None or forward is None:
            return None
        if self.rate:
            self._quota(client).spend(len(forward.data))
        self.forwarded_bytes += len(forward.data)
        return forward

    def deadline(self) -> float | None:
        """When `release` is due: a client that is held back may send again."""
        return self._queue.deadline()

    def release(self, now: float) -> None:
        """Those who may send again wait no longer."""
        self._queue.release(now)

    def forget(self, connection: Connection) -> None:
        """A client is gone: its circuits close."""
        self._filter.forget(connection)
        self.dropped_bytes += self._queue.forget(connection.peer)
        self._quotas.pop(connection.peer, None)
        for number in list(self._of.get(connection, ())):
            self._close(number)

    def expire(self, now: float) -> None:
        """Closes circuits that nobody has used for ten minutes."""
        for number, circuit in list(self._circuits.items()):
            if now - circuit.used_at > IDLE_SECONDS:
                self._close(number)

    def _forward(
        self,
        now: float,
        number: int,
        circuit: _Circuit,
        client: Identity,
        there: Connection,
        route: Route,
        view: memoryview,
        segment: int,
        start: int,
        stop: int,
    ) -> None:
        assert there.session is not None
        kinds = bytes(view[start + RELAY_HEADER_SIZE : stop : segment])
        if kinds.count(PACKET) == len(kinds):
            circuit.used_at = now
            self._pass_on(now, client, route, view[start:stop], segment)
            return
        self._filter.learn(there, there.session.certified_key)
        for position in range(start, stop, segment):
            datagram = view[position : min(position + segment, stop)]
            inner = datagram[RELAY_HEADER_SIZE:]
            if inner and self._filter.passes(now, number, there, inner):
                circuit.used_at = now
                self._pass_on(now, client, route, datagram, len(datagram))
            else:
                self.dropped_bytes += len(datagram)

    def _pass_on(self, now: float, client: Identity, route: Route, run: memoryview, segment: int) -> None:
        queue, size = self._queue, len(run)
        most: float = QUEUE_BYTES
        quota: Quota | None = None
        if self.rate:
            quota = self._quota(client)
            most = max(quota.burst, QUANTUM + 1024)
            if queue.has(client) or quota.refill(now) <= 0:
                self._wait(client, Forward(route, bytes(run), segment), most)
                return
        if self._outlet is not None and not queue and self._outlet(route.local, run, segment, route.remote):
            self.forwarded_bytes += size
            if quota is not None:
                quota.spend(size)
        else:
            self._wait(client, Forward(route, bytes(run), segment), most)

    def _wait(self, client: Identity, forward: Forward, most: float) -> None:
        if not self._queue.put(client, forward, most):
            self.dropped_bytes += len(forward.data)

    def _quota(self, client: Identity) -> Quota:
        quota = self._quotas.get(client)
        if quota is None:
            # A little more than it was told: clocks differ, and not all of what it sends is counted there.
            quota = self._quotas[client] = Quota(self.rate + self.rate // _SLACK)
        return quota

    def _close(self, number: int) -> None:
        circuit = self._circuits.pop(number)
        asker, other = (side.peer for side in circuit.sides)
        self._by_pair.pop((min(asker, other), max(asker, other)), None)
        for name in (asker, circuit.network):
            self._asked[name] -= 1
            if not self._asked[name]:
                del self._asked[name]
        for side in circuit.sides:
            numbers = self._of[side]
            del numbers[number]
            if not numbers:
                del self._of[side]
            session = side.session
            if session is not None and session.verified and session.epochs.epoch:
                session.send_control(control.GONE, encode_gone(number))


def _way(client: Connection) -> Route | None:
    """Where a client's datagrams go: where its session's do, unless it is relayed to us itself."""
    session = client.session
    if session is None:
        return None
    route = session.active.route
    if not route.circuit:
        return route
    return next((path.route for path in session.paths if not path.route.circuit and not path.suspect), None)
