"""The relays that we use: whose they are, what they pass on for us, and what goes over them."""

from __future__ import annotations

from typing import Protocol

from covey.base.types import Endpoint as Address
from covey.base.types import Identity
from covey.core.connection import Connection
from covey.core.path import Route
from covey.core.quota import RATE_MIN, Quota
from covey.core.sessions import Sessions

__all__ = ["RelaysUsed"]


class RelaysUsedOwner(Protocol):
    """The endpoint."""

    sessions: Sessions
    now: float
    """When it was last called, seconds."""


class RelaysUsed:
    """`at` says whose relay is where. Commands come from the node, the rest from sessions that go over relays."""

    def __init__(self, owner: RelaysUsedOwner, at: dict[Address, Identity]) -> None:
        self._owner = owner
        self.at = at
        self._quotas: dict[Identity, Quota] = {}
        """Of those that said so."""

    def move(self, now: float, relay: Identity, local: int, remote: Address) -> None:
        """We reach a relay another way now: its circuits are proven that way, too."""
        for session in list(self._owner.sessions.by_index.values()):
            for route in [path.route for path in session.paths if path.route.relayed]:
                moved = Route(local, remote, route.circuit)
                if self.at.get(route.remote) == relay and route != moved and session.verified:
                    session.paths.offer(now, moved)

    def avoid(self, connection: Connection, relay: Address) -> bool:
        """Data goes another way than over this relay from now on. False if no other way is proven."""
        session = connection.session
        return session is None or session.paths.avoid(relay)

    def forget(self, relay: Address) -> None:
        """This relay has closed its circuits."""
        for session in list(self._owner.sessions.by_index.values()):
            session.paths.forget(self._owner.now, relay)

    def carrying(self, relay: Address) -> list[Connection]:
        """The live connections whose data goes over this relay."""
        return [
            connection
            for connection in self._owner.sessions.connections.values()
            if connection.session is not None
            and connection.session.active.route.relayed
            and connection.session.active.route.remote == relay
        ]

    def set_quota(self, relay: Identity, rate: int) -> None:
        """This relay passes so many bytes a second on for us; 0: as many as it can."""
        known = self._quotas.get(relay)
        if (0 if known is None else known.rate) == (max(rate, RATE_MIN) if rate else 0):
            return
        if rate:
            self._quotas[relay] = Quota(rate)
        else:
            self._quotas.pop(relay, None)
        for session in self._owner.sessions.by_index.values():
            for path in session.paths:
                path.quota = self.quota(path.route)

    def quota(self, route: Route) -> Quota | None:
        """What the relay of a route passes on for us; None: no limit that we know of."""
        if not route.circuit or not self._quotas:
            return None
        relay = self.at.get(route.remote)
        return None if relay is None else self._quotas.get(relay)

    def suspected(self, relay: Address) -> None:
        """Data through a relay gets no answer: perhaps it no longer knows where we are."""
        # A relay forwards only what comes from where it last heard of us: a packet of our own session with it tells it.
        for connection in self._owner.sessions.connections.values():
            session = connection.session
            if session is not None and not session.active.route.relayed and session.active.route.remote == relay:
                session.keep_alive()

    def circuit_gone(self, relay: Identity, circuit: int) -> None:
        """This peer, if it relays for us, has closed a circuit."""
        for session in list(self._owner.sessions.by_index.values()):
            for path in list(session.paths):
                route = path.route
                if route.circuit == circuit and self.at.get(route.remote) == relay:
                    session.paths.give_up(self._owner.now, path)
