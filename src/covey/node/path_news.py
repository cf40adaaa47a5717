"""Tells followers what changed about the ways of packets, each change once: to a trusted peer, and to the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from covey.base.events import NetworkChanged, PeerPath
from covey.base.types import Endpoint, Identity, endpoint_text
from covey.core.connection import Connection
from covey.core.why import nat_kind, path_reason
from covey.node.nat import OwnNetwork
from covey.node.transport import Transport

__all__ = ["NetworkNews", "PathNews"]

_SETTLED_SECONDS: Final = 11.0
"""A round of probes is over by then (`core/punch.py`), and with it what was only `probing`."""


class PathNews:
    """`look(connection)` whenever its paths changed; `forget` when there is no connection any more."""

    def __init__(
        self,
        transport: Transport,
        relay_at: Callable[[Endpoint], str],
        publish: Callable[[PeerPath, Identity], None],
    ) -> None:
        self._transport = transport
        self._relay_at = relay_at
        self._publish = publish
        self._told: dict[Identity, PeerPath] = {}
        self._settling: dict[Identity, asyncio.Task[None]] = {}

    def look(self, connection: Connection) -> None:
        session, now = connection.session, self._transport.host.now()
        if session is None:
            return
        path = session.active
        why = path_reason(now, connection, path)
        event = PeerPath(
            direct=not path.route.relayed,
            remote=endpoint_text(path.route.remote),
            reason=why,
            relay=self._relay_at(path.route.remote) if path.route.relayed else "",
            transport="websocket" if path.route.websocket else "udp",
            paths=sum(not each.suspect for each in session.paths),
        )
        peer = connection.peer
        if self._told.get(peer) != event:
            self._told[peer] = event
            self._publish(event, peer)
        if why == "probing" and peer not in self._settling:
            self._settling[peer] = self._transport.spawn(self._look_later(connection), "path news")

    def forget(self, peer: Identity) -> None:
        self._told.pop(peer, None)

    async def _look_later(self, connection: Connection) -> None:
        try:
            await asyncio.sleep(_SETTLED_SECONDS)
        finally:
            del self._settling[connection.peer]
        if not connection.closed:
            self.look(connection)


class NetworkNews:
    """`look(network)` whenever something may be known that was not."""

    def __init__(self, publish: Callable[[NetworkChanged], None]) -> None:
        self._publish = publish
        self._told: NetworkChanged | None = None

    def look(self, network: OwnNetwork) -> None:
        view = network.view()
        if view.measured is None:
            return
        before = self._told
        event = NetworkChanged(nat=nat_kind(network.traits), before="", udp=view.udp, public=view.public)
        if before is None or (event.nat, event.udp, event.public) != (before.nat, before.udp, before.public):
            self._told = event
            self._publish(msgspec.structs.replace(event, before=before.nat if before is not None else ""))
