"""A network in one process: seeded, on virtual time, as bad as the test wants it.

::

    loop = asyncio.get_running_loop()              # inside covey.testing.loop.run
    network = SimNetwork(loop, seed=7)
    network.default = Link(latency_s=0.02, loss=0.01)
    a, b = SimHost(network, "10.0.0.1"), SimHost(network, "10.0.0.2")
    network.set_link("10.0.0.1", "10.0.0.2", Link(rate_bits_s=10e6))
    network.partition(["10.0.0.1"]); ...; network.heal()

Networks nest: a `Nat` (`nat.py`) is the gateway of the network inside it and a receiver on the network outside.
Nothing else knows about addresses being rewritten.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, Protocol

from covey.testing.link import LOOPBACK, PERFECT, Link, LinkState

if TYPE_CHECKING:
    import asyncio

    from covey.testing.trace import Trace

__all__ = ["Endpoint", "Receiver", "SimNetwork"]

Endpoint = tuple[str, int]
"""IP address as text, and port."""


class Receiver(Protocol):
    """What stands behind an address: a host, or a NAT."""

    def inbound(self, source: Endpoint, target: Endpoint, payloads: Sequence[bytes]) -> None:
        """Datagrams from one sender that arrive at one instant, in order. `target` is an address of ours."""
        ...


class SimNetwork:
    """The public internet of a simulation, or a LAN.

    Everything may be changed while it runs; what is on the way keeps the arrival it was given. Randomness
    is derived from `seed`, one source for each direction of each pair.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: int | str, *, trace: Trace | None = None) -> None:
        self.loop = loop
        self.seed = seed
        self.trace = trace
        """Records `send`, `lost` (with the reason) and `arrive`, with addresses and sizes."""
        self.gateway: Receiver | None = None
        """Who takes what is sent to addresses that are not attached here, at once; None: it is lost."""
        self.names: dict[str, list[str]] = {}
        """What `Host.resolve` knows: host name -> IP addresses."""
        self._default = PERFECT
        self._links: dict[tuple[str, str], Link] = {}
        self._states: dict[tuple[str, str], LinkState] = {}
        self._receivers: dict[str, Receiver] = {}
        self._walls: list[tuple[frozenset[str], frozenset[str] | None, bool]] = []
        self._flight: list[tuple[float, int, Endpoint, Endpoint, bytes]] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._boots: dict[str, int] = {}

    def __len__(self) -> int:
        """Addresses attached now."""
        return len(self._receivers)

    @property
    def default(self) -> Link:
        """The line between two addresses for which `set_link` said nothing."""
        return self._default

    @default.setter
    def default(self, link: Link) -> None:
        self._default = link
        for (source, target), state in self._states.items():
            if source != target and (source, target) not in self._links:
                state.link = link

    def set_link(self, source: str, target: str, link: Link, *, both_ways: bool = True) -> None:
        """The line from IP `source` to IP `target`, and back unless told otherwise."""
        pairs = [(source, target), (target, source)] if both_ways else [(source, target)]
        for pair in pairs:
            self._links[pair] = link
            if pair in self._states:
                self._states[pair].link = link

    def share(self, link: Link, *pairs: tuple[str, str]) -> None:
        """Puts all `pairs` (source IP, target IP; one direction each) on one line: they share its rate and its queue.

        `set_link` of one of them changes the line for all.
        """
        line = LinkState(link, Random(f"line/{self.seed}/{pairs}"))
        for pair in pairs:
            self._links[pair] = link
            self._states[pair] = line

    def partition(
        self, group_a: Iterable[str], group_b: Iterable[str] | None = None, *, both_ways: bool = True
    ) -> None:
        """Nothing passes between the IPs of `group_a` and those of `group_b` (None: all others) until `heal`.

        What is on the way is lost too. One way means from a to b. Partitions add up.
        """
        self._walls.append((frozenset(group_a), None if group_b is None else frozenset(group_b), both_ways))

    def heal(self) -> None:
        """End every partition."""
        self._walls.clear()

    def attach(self, ip: str, receiver: Receiver) -> None:
        """From now on what is sent to `ip` goes to `receiver`. `ValueError` if the address is taken."""
        if ip in self._receivers:
            raise ValueError(f"{ip} is already attached")
        self._receivers[ip] = receiver

    def detach(self, ip: str) -> None:
        """From now on what is sent to `ip` vanishes; an address that is not attached is fine."""
        self._receivers.pop(ip, None)

    def outbound(self, source: Endpoint, target: Endpoint, payloads: Sequence[bytes]) -> None:
        """Datagrams that leave together. Never fails: what cannot be delivered is lost."""
        if self.trace is not None:
            self._record("send", source, target, payloads)
        if self._walls and self._cut(source[0], target[0]):
            self._lose("partition", source, target, payloads)
            return
        if self.gateway is not None and target[0] not in self._receivers:
            self.gateway.inbound(source, target, payloads)
            return
        state = self._state(source[0], target[0])
        now = self.loop.time()
        for payload in payloads:
            reason, arrivals = state.carry(now, payload)
            if reason:
                self._lose(reason, source, target, [payload])
            for time, arrived in arrivals:
                self._number += 1
                heapq.heappush(self._flight, (time, self._number, source, target, arrived))
        self._set_timer()

    def deliver(self, source: Endpoint, target: Endpoint, payloads: Sequence[bytes]) -> None:
        """These datagrams arrive now: at the end of a line, or from the gateway, which is on none."""
        receiver = self._receivers.get(target[0])
        if self._walls and self._cut(source[0], target[0]):
            self._lose("partition", source, target, payloads)
        elif receiver is None:
            self._lose("nobody", source, target, payloads)
        else:
            if self.trace is not None:
                self._record("arrive", source, target, payloads)
            receiver.inbound(source, target, payloads)

    def next_boot(self, ip: str) -> int:
        """How many hosts this address has had before; for `SimHost`, whose luck depends on it."""
        self._boots[ip] = self._boots.get(ip, -1) + 1
        return self._boots[ip]

    def _state(self, source: str, target: str) -> LinkState:
        state = self._states.get((source, target))
        if state is None:
            link = LOOPBACK if source == target else self._links.get((source, target), self._default)
            state = LinkState(link, Random(f"link/{self.seed}/{source}/{target}"))
            self._states[source, target] = state
        return state

    def _cut(self, source: str, target: str) -> bool:
        if source == target:
            return False
        for group_a, group_b, both_ways in self._walls:
            if source in group_a and _other_side(target, group_a, group_b):
                return True
            if both_ways and target in group_a and _other_side(source, group_a, group_b):
                return True
        return False

    def _set_timer(self) -> None:
        """One loop timer for the next arrival: our heap keeps order at one instant, the loop's does not."""
        if not self._flight:
            return
        time = self._flight[0][0]
        if self._timer is not None:
            if self._timer.when() <= time:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(time, self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        now = self.loop.time()
        while self._flight and self._flight[0][0] <= now:
            time, _, source, target, payload = heapq.heappop(self._flight)
            payloads = [payload]
            while self._flight and self._flight[0][0] == time and self._flight[0][2:4] == (source, target):
                payloads.append(heapq.heappop(self._flight)[4])
            self.deliver(source, target, payloads)
        self._set_timer()

    def _lose(self, reason: str, source: Endpoint, target: Endpoint, payloads: Sequence[bytes]) -> None:
        if self.trace is not None:
            self._record(f"lost {reason}", source, target, payloads)

    def _record(self, kind: str, source: Endpoint, target: Endpoint, payloads: Sequence[bytes]) -> None:
        assert self.trace is not None
        self.trace.record(kind, *source, *target, len(payloads), *map(len, payloads))


def _other_side(ip: str, group_a: frozenset[str], group_b: frozenset[str] | None) -> bool:
    return ip not in group_a if group_b is None else ip in group_b
