"""What this node knows of its own network: who sees it where, and what its NAT does with its packets."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import IntEnum
from ipaddress import ip_address
from typing import Final, NoReturn, cast

from covey.base.errors import CoveyError
from covey.base.schema import CandidateView, NatBehaviour, NatPorts, NetworkView, ObserverView
from covey.base.types import Endpoint, Identity, endpoint_text, parse_endpoint
from covey.core.path import Route
from covey.node.announcement import Announcement
from covey.node.rendezvous_client import RendezvousClient, may_see
from covey.node.survey import SERVERS_LIMIT, Server, Surroundings, newest_mapping, survey
from covey.node.transport import Transport
from covey.wire.control import Candidate, CandidateKind, Mapping, NatTraits, Ports

__all__ = ["OwnNetwork", "word"]

_AGAIN_SECONDS: Final = 6 * 3600.0
"""Until the next survey, if nothing changed: a NAT may be replaced without a sign."""
_DOUBT_SECONDS: Final = 5.0
"""Until the next one after one that left the mapping unknown; twice as long each time."""
_SHORTEST_GAP: Final = 5.0
"""Between two surveys, whatever changes."""
_SOURCE: Final = "survey"
_FRESH_SECONDS: Final = 10.0
"""What was asked so recently is not asked again for the next peer."""
_COUNT_SECONDS: Final = 0.1
_MIRRORED: Final = "mirror"
_PEERS: Final = "peers"
_PEERS_LIMIT: Final = 16
_SEEN_LIMIT: Final = 2
"""Peers whose word about our address is kept, and how many such addresses other peers are told."""
_ANY, _ANY6 = "0.0.0.0", "::"  # noqa: S104 - compared with; opened because the owner listens everywhere


class OwnNetwork:
    """Run `run()` as a task; it never ends by itself. `view()` is what is known, for people.

    A survey tells `announcement` the traits of the NAT, which tells peers. `look()` after something about rendezvous
    changed, `changed()` when this machine is in another network. `on_change` is called when the view changed.
    """

    def __init__(
        self,
        transport: Transport,
        announcement: Announcement,
        clients: Sequence[RendezvousClient],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._transport = transport
        self._announcement = announcement
        self._clients = clients
        self._on_change = on_change
        self._due = asyncio.Event()
        self._found: dict[int, Surroundings] = {}
        """By address family, 4 or 6."""
        self._measured: float | None = None
        self._in_doubt = True
        """Nothing was measured yet, or not in this network."""
        self._servers: dict[int, list[Server]] = {}
        """Those that were asked, by address family, the nearest first."""
        self._own: dict[int, Endpoint] = {}
        """Where a rendezvous sees ports of ours that have no session with it, by index."""
        self._peers: OrderedDict[Identity, tuple[Endpoint, Endpoint]] = OrderedDict()
        """Peers that see us, with where they are and where they see us."""
        self._freshened = float("-inf")
        self._counted = float("-inf")
        self._seen_offered = float("-inf")
        self._observed: dict[RendezvousClient, tuple[Endpoint | None, str | None]] = {}

    @property
    def traits(self) -> NatTraits:
        """What peers are told."""
        return self._announcement.traits

    async def run(self) -> NoReturn:
        pause = _DOUBT_SECONDS
        while True:
            self._due.clear()
            await self._survey()
            sure = any(found.traits.mapping is not Mapping.UNKNOWN for found in self._found.values())
            await asyncio.sleep(_SHORTEST_GAP)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_SECONDS if sure else pause):
                    await self._due.wait()
                    sure = True
            pause = _DOUBT_SECONDS if sure else min(2 * pause, _AGAIN_SECONDS)

    def listen_on_ipv6(self) -> None:
        """Whoever listens at every IPv4 address does so at every IPv6 address, too, once this machine has one: at the
        same port, if it is free."""
        transport = self._transport
        hosts = dict(port.local for _, port in reversed(transport.ports))
        if _ANY not in hosts or any(":" in host for host in hosts):
            return
        if not any(":" in address for address in transport.host.local_addresses()):
            return
        for number in (hosts[_ANY], 0):
            with contextlib.suppress(CoveyError):
                transport.bind((_ANY6, number))
                return

    def changed(self) -> None:
        """This machine's addresses are others, or what was measured may be wrong by now for another reason."""
        self.listen_on_ipv6()
        self._own.clear()
        self._peers.clear()
        self._announcement.offer(_MIRRORED, ())
        self._announcement.refresh_candidates()
        self._in_doubt = True
        self._freshened = float("-inf")
        self._counted = float("-inf")
        self._due.set()

    def freshen(self) -> None:
        """Somebody who trusts us is about to look for us: what we told is asked again, if it grows old.

        Where we are seen in an address family that no session with a rendezvous uses, and which port a NAT that counts
        gave last.
        """
        transport, now = self._transport, self._transport.host.now()
        if now - self._counted >= _COUNT_SECONDS:
            # Also for the next peer: meeting the last one has made dozens of mappings.
            self._counted = now
            for family, found in self._found.items():
                if found.traits.ports is Ports.SEQUENTIAL and self._servers.get(family):
                    transport.spawn(self._count_on(family), "newest mapping")
        if now - self._freshened < _FRESH_SECONDS:
            return
        self._freshened = now
        sessions = {":" in client.observed[0] for client in self._clients if client.observed is not None}
        for index, port in transport.ports:
            servers = self._servers.get(6 if ":" in port.local[0] else 4)
            if servers and (":" in port.local[0]) not in sessions:
                transport.endpoint.ask_where(servers[0].identity, Route(index, servers[0].address))
        transport.wake()

    def on_reflected(self, route: Route, seen: Endpoint) -> None:
        """A rendezvous saw one of our ports there."""
        if may_see(route.remote, seen):
            self._own[route.local] = seen
            self._announcement.offer(
                _MIRRORED, [Candidate(CandidateKind.REFLEXIVE, each) for each in dict.fromkeys(self._own.values())]
            )

    def on_seen(self, peer: Identity, route: Route, seen: Endpoint) -> None:
        """A trusted peer sees us there. It counts where no rendezvous says anything (PROTOCOL 24)."""
        if not may_see(route.remote, seen):
            return
        self._peers[peer] = (route.remote, seen)
        self._peers.move_to_end(peer)
        while len(self._peers) > _PEERS_LIMIT:
            self._peers.popitem(last=False)
        # One that says another place again and again must not make us speak with everybody each time.
        now = self._transport.host.now()
        if now - self._seen_offered >= _SHORTEST_GAP:
            self._seen_offered = now
            self._offer_seen()

    def forget(self, peer: Identity) -> None:
        """The connection with a peer is over, and so is what it saw."""
        if self._peers.pop(peer, None) is not None:
            self._offer_seen()

    def _offer_seen(self) -> None:
        told = {":" in client.observed[0] for client in self._clients if client.observed is not None}
        seen = [seen for _, seen in reversed(self._peers.values()) if (":" in seen[0]) not in told]
        found = [Candidate(CandidateKind.REFLEXIVE, each) for each in dict.fromkeys(seen)]
        self._announcement.offer(_PEERS, found[:_SEEN_LIMIT])

    async def _count_on(self, family: int) -> None:
        bind = next(port.local[0] for _, port in self._transport.ports if (":" in port.local[0]) == (family == 6))
        newest = await newest_mapping(self._transport.host, self._servers[family], bind)
        if newest is not None:
            self._found[family] = replace(self._found[family], newest=newest)
            self._offer_newest()

    def look(self) -> None:
        """A rendezvous came, went, or sees us elsewhere: perhaps our network is another one."""
        self._offer_seen()
        self._settle_traits()
        for client in self._clients:
            source = self._transport.host.source_address(client.endpoint) if client.endpoint is not None else None
            before, now = self._observed.get(client, (None, None)), (client.observed, source)
            self._observed[client] = now
            moved = any(
                old is not None and new is not None and old != new for old, new in zip(before, now, strict=True)
            )
            # What one said that does not answer now tells nothing of the network that we are in now.
            current = client.observed if client.connected else None
            if moved or (current is not None and not self._expected(current)):
                self.changed()

    def _expected(self, endpoint: Endpoint) -> bool:
        """What a rendezvous sees fits what was measured, or nothing was yet."""
        if self._measured is None:
            return True
        hosts = {each.seen[0] for found in self._found.values() for each in found.observations}
        return endpoint[0] in hosts

    async def _survey(self) -> None:
        """Of each address family that we have a port of, at the same time."""
        servers = [server for client in self._clients for server in await self._addresses_of(client)]
        works = []
        for family, bind in {
            (6 if ":" in port.local[0] else 4): port.local[0] for _, port in self._transport.ports
        }.items():
            asked = [server for server in servers if (":" in server.address[0]) == (family == 6)]
            if asked:
                self._servers[family] = asked[:SERVERS_LIMIT]
                works.append(self._survey_family(family, asked[:SERVERS_LIMIT], bind))
        if works:
            await asyncio.gather(*works)
            self._freshened = float("-inf")
            self._counted = float("-inf")
            self.freshen()
            self._in_doubt = False
            self._measured = self._transport.host.wall_us() / 1e6
            self._on_change()

    async def _survey_family(self, family: int, servers: Sequence[Server], bind: str) -> None:
        in_doubt = self._in_doubt

        def report(found: Surroundings) -> None:
            # While we know nothing everything is news; otherwise only what is certain.
            if in_doubt and found.udp:
                self._take(family, found)

        self._take(family, await survey(self._transport.host, servers, bind, report))

    def _take(self, family: int, found: Surroundings) -> None:
        self._found[family] = found
        rtt = {each.observer: each.rtt for each in found.observations}
        self._servers[family].sort(key=lambda server: rtt.get(server.address, float("inf")))
        self._settle_traits()
        self._offer_newest()

    def _offer_newest(self) -> None:
        newest = [each.newest for each in self._found.values() if each.traits.ports is Ports.SEQUENTIAL]
        found = [Candidate(CandidateKind.REFLEXIVE, seen) for seen in newest if seen is not None]
        self._announcement.offer(_SOURCE, found)

    def _settle_traits(self) -> None:
        """Tells peers what stands before us, if that is news."""
        answered = [family for family, found in self._found.items() if found.udp]
        if answered:
            # Where there is a NAT it is in the way of IPv4; what a firewall does with IPv6 counts where IPv4 is not.
            traits = self._found[min(answered)].traits
        elif self._found and any(client.by_websocket for client in self._clients):
            traits = NatTraits(Mapping.BLOCKED)
        else:
            traits = NatTraits()
        if traits != self._announcement.traits:
            self._announcement.traits = traits
            self._announcement.refresh_candidates()

    async def _addresses_of(self, client: RendezvousClient) -> list[Server]:
        """One address of each family."""
        found: dict[bool, Server] = {}
        if client.endpoint is not None and not client.by_websocket:
            found[":" in client.endpoint[0]] = Server(client.identity, client.endpoint)
        for text in client.places:
            with contextlib.suppress(CoveyError):
                for address in await self._transport.host.resolve(*parse_endpoint(text)):
                    found.setdefault(":" in address[0], Server(client.identity, address))
        return list(found.values())

    # --- for people ------------------------------------------------------------------------------------------------

    def view(self) -> NetworkView:
        traits, candidates = self._announcement.traits, self._transport.endpoint.candidates().items
        observers = [view for view in map(_of_session, self._clients) if view is not None]
        for found in self._found.values():
            observers += [
                ObserverView(
                    each.kind, endpoint_text(each.observer), endpoint_text(each.seen), round(each.rtt * 1e3, 3)
                )
                for each in found.observations
                if each.kind == "second-port"
                or endpoint_text(each.observer) not in {view.endpoint for view in observers}
            ]
        peers = [
            ObserverView("peer", endpoint_text(remote), endpoint_text(seen)) for remote, seen in self._peers.values()
        ]
        public = [parse_endpoint(observer.seen)[0] for observer in observers]
        hosts = [ip_address(each.endpoint[0]) for each in candidates if each.kind is CandidateKind.HOST]
        answered = [found.udp for found in self._found.values()]
        return NetworkView(
            mapping=cast(NatBehaviour, word(traits.mapping)),
            filtering=cast(NatBehaviour, word(traits.filtering)),
            ports=cast(NatPorts, word(traits.ports)),
            step=traits.step,
            udp=bool(observers) or any(answered) if observers or answered else None,
            hairpin=next((found.hairpin for found in self._found.values() if found.hairpin is not None), None),
            ipv6=any(host.version == 6 and host.is_global for host in hosts),
            public=list(dict.fromkeys(public)),
            observers=observers + peers,
            candidates=[
                CandidateView(word(each.kind), endpoint_text(each.endpoint), each.cost, each.label)  # type: ignore[arg-type]
                for each in candidates
            ],
            birthday=self._announcement.consents,
            measured=self._measured,
        )


def _of_session(client: RendezvousClient) -> ObserverView | None:
    if client.observed is None or client.endpoint is None:
        return None
    rtt_ms = client.view().rtt_ms
    return ObserverView("rendezvous", endpoint_text(client.endpoint), endpoint_text(client.observed), rtt_ms)


def word(value: IntEnum) -> str:
    return value.name.lower().replace("_", "-")
