"""What this node knows of its own network: who sees it where, and what its NAT does with its packets."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from ipaddress import ip_address
from typing import cast

from covey.base.schema import CandidateView, NatBehaviour, NatPorts, NetworkView, ObserverView
from covey.base.types import endpoint_text
from covey.node.announcement import Announcement
from covey.node.rendezvous_client import RendezvousClient
from covey.node.transport import Transport
from covey.wire.control import CandidateKind

__all__ = ["OwnNetwork", "word"]


class OwnNetwork:
    """`view()` is all of it, for people."""

    def __init__(self, transport: Transport, announcement: Announcement, clients: Sequence[RendezvousClient]) -> None:
        self._transport = transport
        self._announcement = announcement
        self._clients = clients

    def view(self) -> NetworkView:
        traits, candidates = self._announcement.traits, self._transport.endpoint.candidates().items
        observers = [view for view in map(_rendezvous, self._clients) if view is not None]
        seen = [client.observed[0] for client in self._clients if client.observed is not None]
        hosts = [each.endpoint[0] for each in candidates if each.kind is CandidateKind.HOST]
        return NetworkView(
            mapping=cast(NatBehaviour, word(traits.mapping)),
            filtering=cast(NatBehaviour, word(traits.filtering)),
            ports=cast(NatPorts, word(traits.ports)),
            step=traits.step,
            udp=True if observers else None,
            ipv6=any(ip_address(host).version == 6 and ip_address(host).is_global for host in hosts),
            public=list(dict.fromkeys(seen)),
            observers=observers,
            candidates=[
                CandidateView(word(each.kind), endpoint_text(each.endpoint), each.cost, each.label)  # type: ignore[arg-type]
                for each in candidates
            ],
            birthday=self._announcement.consents,
        )


def _rendezvous(client: RendezvousClient) -> ObserverView | None:
    if client.observed is None or client.endpoint is None:
        return None
    rtt_ms = client.view().rtt_ms
    return ObserverView("rendezvous", endpoint_text(client.endpoint), endpoint_text(client.observed), rtt_ms)


def word(value: IntEnum) -> str:
    return value.name.lower().replace("_", "-")
