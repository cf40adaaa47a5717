"""Measures what the network around this machine allows, starting from the ticket: for `covey netcheck`.

It takes sockets of its own, needs no identity and no session, and so works with the daemon running or not. Everything
is asked at once, and nothing is waited for longer than `LIMIT_SECONDS`. What it means is said by `prospects.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from covey.base.errors import CoveyError
from covey.base.types import identity_text, parse_endpoint
from covey.net import portmap
from covey.net.host import Host
from covey.net.mapping import is_loopback
from covey.node.reach import Reached, reach
from covey.node.survey import Server, Surroundings, survey
from covey.wire.ticket import Ticket, TicketEntry

__all__ = ["LIMIT_SECONDS", "Family", "Measured", "measure"]

LIMIT_SECONDS: Final = 3.5
"""Ours: whoever asks wants to know within five seconds, the start of the program included."""
_REACH_SECONDS: Final = 2.5
_HEAD_START_SECONDS: Final = 0.5
_RESOLVE_SECONDS: Final = 2.0
_ANYWHERE: Final = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Addresses that the way out would lead to (RFC 5737, RFC 3849). Nothing is sent there."""
_BINDS: Final = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - sockets to ask from


@dataclass
class Family:
    """What was found out over IPv4, or over IPv6."""

    source: str | None = None
    """Our own address towards a rendezvous; None: there is no way out, or no rendezvous has an address."""
    addressed: bool = False
    """A rendezvous has an address of this family."""
    asked: bool = False
    """And there is a way out to it."""
    elsewhere: bool = False
    """No rendezvous has one, but this machine could reach one that had."""
    surroundings: Surroundings = field(default_factory=Surroundings)


@dataclass(frozen=True)
class WebSocketTried:
    """What came of opening a WebSocket to one rendezvous."""

    identity: str
    milliseconds: float | None = None
    """None: it did not open."""
    problem: str = ""


@dataclass
class Measured:
    """What was found out. What is missing took too long, or there was nobody to ask."""

    rendezvous: list[Reached] = field(default_factory=list)
    unresolved: list[str] = field(default_factory=list)
    """Names of rendezvous that could not be looked up."""
    websockets: list[WebSocketTried] = field(default_factory=list)
    four: Family = field(default_factory=Family)
    six: Family = field(default_factory=Family)
    routers: dict[str, list[str]] | None = None
    """Of each default router the ways in which it maps ports; None: not asked."""
    seconds: float = 0.0


async def measure(host: Host, ticket: Ticket | None) -> Measured:
    """Asks everybody whom the ticket names. Raises nothing."""
    begun = host.now()
    found = Measured()
    if ticket is None:
        return found
    measured = asyncio.Event()
    parts = [_ask_rendezvous(host, ticket, found, measured), _look_around(host, ticket, found)]
    parts += [_open(host, entry, found, measured) for entry in ticket.entries if entry.websockets]
    await _within(LIMIT_SECONDS, parts)
    order = [identity_text(entry.identity) for entry in ticket.entries]
    found.rendezvous.sort(key=lambda each: order.index(each.identity))
    found.seconds = host.now() - begun
    return found


async def _ask_rendezvous(host: Host, ticket: Ticket, found: Measured, measured: asyncio.Event) -> None:
    async def ask(entry: TicketEntry) -> None:
        found.rendezvous.append(await reach(host, entry, _REACH_SECONDS))

    await asyncio.gather(*(ask(entry) for entry in ticket.entries))
    measured.set()


async def _open(host: Host, entry: TicketEntry, found: Measured, measured: asyncio.Event) -> None:
    """A WebSocket to the rendezvous, as an agent without UDP would: through a proxy, with its certificate verified."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_HEAD_START_SECONDS):
            await measured.wait()  # TLS takes so much CPU that a round trip measured meanwhile would show it
    identity, problem, begun = identity_text(entry.identity), "", host.now()
    for text in entry.websockets:
        try:
            async with asyncio.timeout(_REACH_SECONDS):
                (await host.websocket(parse_endpoint(text))).close()
        except CoveyError as error:
            problem = error.message
        except TimeoutError:
            problem = f"{text} does not answer"
        else:
            milliseconds = round((host.now() - begun) * 1000, 3)
            found.websockets.append(WebSocketTried(identity, milliseconds))
            return
    found.websockets.append(WebSocketTried(identity, None, problem))


async def _look_around(host: Host, ticket: Ticket, found: Measured) -> None:
    """What stands between us and the rendezvous, over each address family that leads to one."""
    servers: list[Server] = []
    resolving = [
        _resolve(host, entry, text, servers, found.unresolved) for entry in ticket.entries for text in entry.endpoints
    ]
    await _within(_RESOLVE_SECONDS, resolving)
    surveys = []
    for number, family in ((4, found.four), (6, found.six)):
        own = [server for server in servers if (6 if ":" in server.address[0] else 4) == number]
        family.addressed = bool(own)
        family.source = next((source for each in own if (source := host.source_address(each.address))), None)
        if not own:
            family.elsewhere = host.source_address((_ANYWHERE[number], 9)) is not None
        if family.source is not None:
            family.asked = True
            surveys.append(_survey(host, own, _BINDS[number], family))
    outside = any(not is_loopback(server.address[0]) for server in servers)
    await asyncio.gather(*surveys, *([_ask_routers(host, found)] if outside else []))


async def _survey(host: Host, servers: list[Server], bind: str, family: Family) -> None:
    def keep(found: Surroundings) -> None:
        family.surroundings = found

    keep(await survey(host, servers, bind, keep))


async def _ask_routers(host: Host, found: Measured) -> None:
    found.routers = await portmap.survey(host)


async def _resolve(host: Host, entry: TicketEntry, text: str, into: list[Server], unresolved: list[str]) -> None:
    name, number = parse_endpoint(text)
    unresolved.append(name)
    try:
        found = await host.resolve(name, number)
    except CoveyError:
        return
    unresolved.remove(name)
    into += [Server(entry.identity, address) for address in found]


async def _within(seconds: float, parts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs them all; those that are not done by then leave what they have found."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*tasks)
    except TimeoutError:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
