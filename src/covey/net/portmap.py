"""Asks the router to let peers in: a mapping for each of a node's ports, kept as long as the node runs.

For each address family there is one `_Keeper`. It asks the default router in all ways at once (PCP, NAT-PMP, UPnP) and
takes the best that answers within 250 ms, in that order, or after that the first; renews the mapping when half of its
time is over; starts anew when the router says that it lost its mappings, when the network changes, or when the router
does not answer any more; and gives the mapping back in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from covey.base.errors import CoveyError, ParseError, UnreachableError
from covey.base.types import Endpoint
from covey.net.asking import Asker
from covey.net.host import Host, UdpPort
from covey.net.mapping import Lease, MappingMethod, MethodName, is_loopback
from covey.net.port_control import EpochWatch, NatPmp, Pcp
from covey.net.upnp import Upnp
from covey.wire import nat_pmp, pcp

__all__ = ["PortMapper", "PortMapping", "survey"]

_log = logging.getLogger(__name__)

RACE_SECONDS: Final = 0.25
"""How long the best method has before the first that answers is taken (DESIGN 6; Tailscale's figure too)."""
_RENEW_LEAST: Final = 30.0
"""Seconds between two renewals at least, whatever a router grants."""
_RENEW_MOST: Final = 86_400.0
_TURN_SECONDS: Final = 5.0
"""The router is asked no sooner than this after the last time, however often something looks different."""
_RETRY_SECONDS: Final = 10.0
_RETRY_LIMIT_SECONDS: Final = 3600.0
"""Where no router helps, it is asked again after ten seconds, then ever less often, and when the network changes."""
_PERMANENT_SECONDS: Final = 600.0
"""How often a mapping without end is asked for again: the router may have restarted."""
_ANNOUNCE_PORT: Final = 5350
"""Where routers say that they restarted (RFC 6886, 3.2.1; RFC 6887, 14.1)."""
_ANNOUNCE_JITTER: Final = 5.0
"""Seconds: not everybody comes back in the same instant (RFC 6887, 14.1.3)."""
_SOMEWHERE_IPV6: Final = "2001:db8::1"
"""For the question which address of ours packets to the internet would leave from. Nothing is sent there."""


@dataclass(frozen=True, slots=True)
class PortMapping:
    """How it stands with one of our ports."""

    gateway: str
    """The router's address; "" if there is none."""
    internal: Endpoint
    method: MethodName | Literal[""] = ""
    """Once the port is mapped."""
    external: Endpoint | None = None
    """Where peers reach the port from the internet."""
    problem: str = ""
    """Why it is not mapped: `no-gateway`, `no-answer`, `not-authorized`, `double-nat`, `needs-upnp-extra`, ..."""


class PortMapper:
    """Keeps the ports in `locals_` mapped, from `start` to `close`.

    `nonce`: 12 random bytes that are the same at every start: a router that speaks PCP lets only whoever knows them
    renew or end the mapping that a killed process left behind.
    """

    def __init__(self, host: Host, locals_: Sequence[Endpoint], nonce: bytes, on_change: Callable[[], None]) -> None:
        self._host = host
        self._keepers = [_Keeper(host, local, nonce, on_change) for local in locals_ if not is_loopback(local[0])]
        self._tasks: list[asyncio.Task[None]] = []
        self._listener: UdpPort | None = None

    @property
    def mappings(self) -> list[PortMapping]:
        return [keeper.state for keeper in self._keepers]

    @property
    def started(self) -> bool:
        return bool(self._tasks)

    def start(self, spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]) -> bool:
        """Whether it was started before, or there is nothing to map. `spawn` makes its tasks."""
        if self._tasks or not self._keepers:
            return True
        self._tasks = [spawn(keeper.run(), "port mapping") for keeper in self._keepers]
        self._listen()
        return False

    def recheck(self) -> None:
        """The network may be another one, or the router has restarted: look again, 5 s after the last time."""
        if not self._tasks:
            return
        self._listen()
        for keeper in self._keepers:
            keeper.look()

    async def close(self) -> None:
        """Gives every mapping back, within half a second."""
        self.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(keeper.close() for keeper in self._keepers))

    def stop(self) -> None:
        """Does nothing more; what is mapped stays so until it ends by itself."""
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()

    def _listen(self) -> None:
        if self._listener is not None or not self._host.gateways():
            return
        self._listener = self._host.shared_udp(("0.0.0.0", _ANNOUNCE_PORT))  # noqa: S104 - what is told to everybody
        if self._listener is not None:
            self._listener.on_readable(self._announced)

    def _announced(self) -> None:
        assert self._listener is not None
        for _ in range(16):  # a flood of them holds nothing up
            arrived = self._listener.receive()
            if arrived is None:
                return
            train, segment, sender = arrived
            for keeper in self._keepers:
                keeper.announced(sender, bytes(train[:segment]))


class _Keeper:
    """One port."""

    def __init__(self, host: Host, local: Endpoint, nonce: bytes, on_change: Callable[[], None]) -> None:
        self._host = host
        self._local = local
        self._family = 6 if ":" in local[0] else 4
        self._on_change = on_change
        self._nonce = nonce
        self._watches: dict[str, EpochWatch] = {}
        self._methods: list[MappingMethod] = []
        self._method: MappingMethod | None = None
        self._lease: Lease | None = None
        self._failures = 0
        self._look = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None
        """A router said that it restarted."""
        self.state = PortMapping("", local, problem="no-gateway")

    async def run(self) -> None:
        while True:
            self._look.clear()
            pause = await self.turn()
            await asyncio.sleep(_TURN_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause - _TURN_SECONDS):
                    await self._look.wait()

    def look(self) -> None:
        self._failures = 0
        self._look.set()

    async def turn(self) -> float:
        """Makes or renews the mapping; how long nothing need be done then, seconds."""
        self._settle_network()
        if not self._methods:
            return self._failed("no-gateway")
        try:
            lease = await self._renew() or await self._race()
        except CoveyError as error:
            _log.debug("no port mapped by %s: %s (%s)", self.state.gateway, error.message, error.code)
            return self._failed(error.code)
        self._lease, self._failures = lease, 0
        self._tell(PortMapping(self.state.gateway, lease.internal, lease.method, lease.external))
        if not lease.seconds:
            return _PERMANENT_SECONDS
        return min(max(lease.seconds / 2, _RENEW_LEAST), _RENEW_MOST)

    def announced(self, sender: Endpoint, datagram: bytes) -> None:
        """A router told everybody how long it has had its mappings."""
        if self._lease is None or sender[0] != self.state.gateway:
            return
        for name, epoch in _told(datagram):
            watch = self._watches.get(name)
            lost = name == self._lease.method and watch is not None and watch.lost(self._host.now(), epoch)
            if lost and self._later is None:
                jitter = int.from_bytes(self._host.random(2), "big") / 65_536 * _ANNOUNCE_JITTER
                self._later = asyncio.get_running_loop().call_later(jitter, self._look_now)

    def _look_now(self) -> None:
        self._later = None
        self.look()

    async def close(self) -> None:
        lease, method = self._lease, self._method
        self._forget()
        if lease is not None and method is not None:
            with contextlib.suppress(CoveyError):
                await method.unmap(lease)

    def _settle_network(self) -> None:
        """The router and our address towards it, as they are now; where they are others, everything begins anew."""
        gateway = next((each for each in self._host.gateways() if (":" in each) == (self._family == 6)), "")
        source = self._source(gateway)
        if gateway and source and (gateway, source) == (self.state.gateway, self.state.internal[0]) and self._methods:
            return
        self._forget()
        internal = (source or self._local[0], self._local[1])
        known = bool(gateway and source)
        state = PortMapping(gateway if known else "", internal, problem="no-answer" if known else "no-gateway")
        if self.state.external is not None:
            self._tell(state)  # what the last router mapped leads nowhere now
        self.state = state
        if source is None or not known:
            return
        self._methods = _methods(Asker(self._host, source), gateway, source, self._nonce, self._watcher)

    def _source(self, gateway: str) -> str | None:
        if self._local[0] not in ("0.0.0.0", "::"):  # noqa: S104 - compared with
            return self._local[0]
        return _source(self._host, gateway) if gateway else None

    def _watcher(self, name: str) -> Callable[[int], None]:
        watch = self._watches[name] = EpochWatch()

        def told(epoch: int) -> None:
            watch.lost(self._host.now(), epoch)  # an answer about our mapping has just made or renewed it

        return told

    async def _renew(self) -> Lease | None:
        """With the method that made it; None if there is nothing to renew or that did not work."""
        lease, method = self._lease, self._method
        if lease is None or method is None:
            return None
        try:
            return await method.map(lease.internal, lease.external)
        except CoveyError:
            self._lease = self._method = None
            return None

    async def _race(self) -> Lease:
        """A new mapping by the best method that the router speaks. Raises what the last of them raised."""
        trouble: CoveyError = UnreachableError("the router maps no ports", code="no-answer")
        probes = {method: asyncio.create_task(method.probe()) for method in self._methods}
        until = asyncio.get_running_loop().time() + RACE_SECONDS
        try:
            while (method := await _best(probes, until)) is not None:
                try:
                    lease = await method.map(self.state.internal, None)
                except CoveyError as error:
                    trouble = error
                else:
                    self._method = method
                    return lease
        finally:
            for probe in probes.values():
                probe.cancel()
            await asyncio.gather(*probes.values(), return_exceptions=True)
        raise trouble

    def _failed(self, code: str) -> float:
        self._lease = self._method = None
        self._tell(PortMapping(self.state.gateway, self.state.internal, problem=code))
        pause: float = min(_RETRY_SECONDS * 2**self._failures, _RETRY_LIMIT_SECONDS)
        self._failures = min(self._failures + 1, 10)
        return pause

    def _tell(self, state: PortMapping) -> None:
        if state != self.state:
            self.state = state
            self._on_change()

    def _forget(self) -> None:
        self._methods, self._method, self._lease = [], None, None
        self._watches.clear()


def _methods(
    asker: Asker, gateway: str, source: str, nonce: bytes, watcher: Callable[[str], Callable[[int], None]]
) -> list[MappingMethod]:
    """What a router may speak, the best first."""
    methods: list[MappingMethod] = [Pcp(asker, gateway, source, nonce, watcher("pcp"))]
    if ":" not in gateway:
        methods += [NatPmp(asker, gateway, watcher("nat-pmp")), Upnp(asker, gateway)]
    return methods


def _source(host: Host, gateway: str) -> str | None:
    """The address of ours that a router may let in. IPv6: not the one that only the router's own network knows."""
    return host.source_address((_SOMEWHERE_IPV6 if ":" in gateway else gateway, pcp.PORT))


async def _best(probes: dict[MappingMethod, asyncio.Task[None]], until: float) -> MappingMethod | None:
    """The next method to try, which leaves `probes`, as do those that failed. None: there is none."""
    loop = asyncio.get_running_loop()
    while probes:
        for method, probe in list(probes.items()):
            if not probe.done():
                if loop.time() < until:
                    break  # a better one may still answer
                continue
            del probes[method]
            if probe.exception() is None:
                return method
        else:
            if not probes:
                return None
        left = until - loop.time()
        waiting = [probe for probe in probes.values() if not probe.done()]
        await asyncio.wait(waiting, timeout=left if left > 0 else None, return_when=asyncio.FIRST_COMPLETED)
    return None


def _told(datagram: bytes) -> list[tuple[str, int]]:
    """The epochs that a datagram to everybody tells, by method."""
    with contextlib.suppress(ParseError):
        answer = pcp.PcpAnswer.parse(datagram)
        return [("pcp", answer.epoch)] if answer.opcode == pcp.ANNOUNCE else []
    with contextlib.suppress(ParseError):
        told = nat_pmp.PmpAnswer.parse(datagram)
        return [("nat-pmp", told.epoch)] if told.opcode == nat_pmp.ADDRESS else []
    return []


async def survey(host: Host) -> dict[str, list[str]]:
    """For each default router the methods that it answers to, within a second. Maps nothing."""
    found: dict[str, list[str]] = {}
    for gateway in host.gateways():
        source = _source(host, gateway)
        if source is None:
            continue
        methods = _methods(Asker(host, source), gateway, source, bytes(pcp.NONCE_BYTES), lambda _: lambda _: None)
        answers = await asyncio.gather(*(method.probe() for method in methods), return_exceptions=True)
        found[gateway] = [method.name for method, answer in zip(methods, answers, strict=True) if answer is None]
    return found
