"""Has the router let peers in (`net/portmap.py`), from when somebody outside this machine can be told of it."""

from __future__ import annotations

from collections.abc import Sequence

from covey.base.schema import PortMappingView
from covey.base.types import Endpoint, endpoint_text
from covey.net.mapping import is_loopback
from covey.net.portmap import PortMapper
from covey.node.announcement import Announcement
from covey.node.rendezvous_client import RendezvousClient
from covey.node.storage.settings import PORT_MAPPING_NONCE, Settings
from covey.node.transport import Transport
from covey.wire import pcp
from covey.wire.control import Candidate, CandidateKind

__all__ = ["PortMapping"]


class PortMapping:
    """`begin` when the node's ports are bound, then `look` whenever a rendezvous came, went or sees us elsewhere."""

    def __init__(
        self,
        transport: Transport,
        announcement: Announcement,
        clients: Sequence[RendezvousClient],
        settings: Settings,
        *,
        enabled: bool,
    ) -> None:
        self._enabled = enabled
        self._transport = transport
        self._announcement = announcement
        self._clients = clients
        self._seen: tuple[Endpoint | None, ...] = ()
        nonce = settings.get(PORT_MAPPING_NONCE)
        if nonce is None or len(nonce) != pcp.NONCE_BYTES:
            nonce = transport.host.random(pcp.NONCE_BYTES)
            settings.set(PORT_MAPPING_NONCE, nonce)
        self._nonce = nonce
        self._mapper: PortMapper | None = None

    def begin(self) -> None:
        """The ports that are bound now are those to map."""
        if self._enabled:
            ports = [port.local for _, port in self._transport.ports]
            self._mapper = PortMapper(self._transport.host, ports, self._nonce, self._changed)

    def look(self) -> None:
        """No router is asked for anything before a rendezvous of the network is reached that is not this machine."""
        away = [client.endpoint for client in self._clients if client.connected and client.endpoint is not None]
        if self._mapper is None or all(is_loopback(host) for host, _ in away):
            return
        seen = tuple(client.observed for client in self._clients)
        if self._mapper.start(self._transport.spawn) and seen != self._seen:
            self._mapper.recheck()
        self._seen = seen

    def recheck(self) -> None:
        """This machine's own addresses or routes are others now."""
        if self._mapper is not None:
            self._mapper.recheck()

    def view(self) -> list[PortMappingView]:
        """Each port, and how it stands with it."""
        if self._mapper is None or not self._mapper.started:
            return []
        return [
            PortMappingView(
                gateway=each.gateway,
                internal=endpoint_text(each.internal),
                method=each.method,
                external=endpoint_text(each.external) if each.external else "",
                problem=each.problem,
            )
            for each in self._mapper.mappings
        ]

    async def close(self) -> None:
        """Gives back what was mapped, within half a second."""
        if self._mapper is not None:
            await self._mapper.close()

    def stop(self) -> None:
        """Lets go at once; what is mapped ends by itself."""
        if self._mapper is not None:
            self._mapper.stop()

    def _changed(self) -> None:
        assert self._mapper is not None
        found = [each.external for each in self._mapper.mappings if each.external is not None]
        self._announcement.offer("port mapping", [Candidate(CandidateKind.MAPPED, each) for each in found])
