"""Which routes may become paths of a session: they are challenged, and those that answer are proven.

A route is proven when a challenge of ours, of full size, was answered: our packets get there and the peer's answer
comes back. Routes come from the peer's candidates (probed in rounds, `punch.py`), from packets that arrived on a new
way, from another session, or from outside (`Paths.offer`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from covey.core import limits
from covey.core.path import Route
from covey.core.punch import Challenge, PunchRound
from covey.wire import frames

if TYPE_CHECKING:
    from covey.core.paths import Paths
    from covey.core.session import Session, SessionOwner

__all__ = ["AMPLIFICATION", "Proving"]

AMPLIFICATION: Final = 2
"""Bytes of our own challenge to an address that is not validated, per byte that came from it. With the answer to a
challenge of the peer's, as long as that, they are three (RFC 9000, 8.1)."""
_OFFER_TRIES: Final = 4
_OFFER_PAUSE: Final = 0.5
"""Challenges of a route that was offered, and seconds between them: a datagram may be lost."""
_OFFERS_LIMIT: Final = 16
_CHALLENGE_GAP: Final = 0.25
"""Seconds between two unprompted challenges of the same route."""


class Proving:
    """Made by the `Paths` of a session. `Paths` asks `answered` and decides what a proven route is good for.

    Calls: `punch` when something changed; `challenge` and `challenge_unprompted`; `deadline` and `expire`.
    """

    __slots__ = ("_challenged", "_offers", "_owner", "_paths", "_round", "_session")

    def __init__(self, paths: Paths, session: Session, owner: SessionOwner) -> None:
        self._paths = paths
        self._session = session
        self._owner = owner
        self._round = PunchRound()
        self._challenged: dict[Route, float] = {}
        self._offers: dict[Route, tuple[int, float]] = {}
        """Routes that may work: challenges left, and when the next is due."""

    # --- challenges ------------------------------------------------------------------------------------------------

    def challenge(self, now: float, route: Route, size: int = limits.INITIAL_MTU) -> None:
        """Probes a route with fresh random bytes, padded to a datagram of `size`."""
        self._challenged[route] = now
        while len(self._challenged) > 4 * limits.PROBE_PAIRS:
            self._challenged.pop(next(iter(self._challenged)))
        data = self._owner.random(8)
        self._round.expect(data, route, now, size)
        self._session.sender.probe(route, frames.encode_path(frames.PATH_CHALLENGE, data), size)

    def challenge_unprompted(self, now: float, route: Route, allowance: int) -> None:
        """Challenges a route the peer was seen on, with at most `allowance` bytes."""
        if not self.challenged_lately(now, route):
            self.challenge(now, route, min(limits.INITIAL_MTU, allowance))

    def offer(self, now: float, route: Route) -> None:
        """A route that may work: challenged now, and a few times more if nothing answers."""
        if self._paths.by_route(route) is None and len(self._offers) < _OFFERS_LIMIT:
            self._offers.setdefault(route, (_OFFER_TRIES, now))
            self._ask_offers(now)

    def challenged_lately(self, now: float, route: Route) -> bool:
        return now - self._challenged.get(route, float("-inf")) <= _CHALLENGE_GAP

    def answered(self, data: bytes) -> Challenge | None:
        """The challenge that `data` answers, once; None if there was none."""
        return self._round.answered(data)

    # --- looking for direct paths ----------------------------------------------------------------------------------

    def punch(self) -> None:
        """Something changed: a new round of probes towards the peer's candidates."""
        if self._may_punch:
            self._round.start_soon(self.pairs())

    def pairs(self) -> list[Route]:
        """Every (own port, peer's candidate) of the same family that is not a path already."""
        routes = []
        for candidate in self._paths.remote_candidates:
            family = 6 if ":" in candidate.endpoint[0] else 4
            for index, own_family in self._owner.port_families():
                route = Route(index, candidate.endpoint)
                if own_family == family and self._paths.by_route(route) is None:
                    routes.append(route)
        return routes[: limits.PROBE_PAIRS]

    @property
    def probing(self) -> bool:
        """The peer's candidates are being probed now."""
        return self._round.running

    @property
    def _may_punch(self) -> bool:
        session, connection = self._session, self._session.connection
        return (
            session.verified
            and connection is not None
            and connection.direct
            and connection.session is session
            and bool(self._paths.remote_candidates)
        )

    def _upgrade_at(self) -> float | None:
        """When to look once more for a way around the relay, while there is something to carry."""
        connection = self._session.connection
        if not self._paths.active.route.relayed or not self._may_punch or connection is None or self._round.running:
            return None
        at = self._round.retry_at
        return at if at is not None and at <= connection.last_used + limits.ACTIVE_SECONDS else None

    # --- time ------------------------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `expire` is due, seconds."""
        at, upgrade_at = self._round.deadline(), self._upgrade_at()
        at = upgrade_at if at is None or (upgrade_at is not None and upgrade_at < at) else at
        if self._offers:
            offer_at = min(at for _, at in self._offers.values())
            return offer_at if at is None else min(at, offer_at)
        return at

    def expire(self, now: float) -> None:
        """Probes what it is time to probe."""
        if self._offers:
            self._ask_offers(now)
        upgrade_at = self._upgrade_at()
        if upgrade_at is not None and now >= upgrade_at:
            self._round.start_again(now, self.pairs())
        for route in self._round.due(now, self.pairs):
            self.challenge(now, route)

    def _ask_offers(self, now: float) -> None:
        for route, (left, at) in list(self._offers.items()):
            if not left or self._paths.by_route(route) is not None:
                del self._offers[route]
            elif at <= now:
                self._offers[route] = (left - 1, now + _OFFER_PAUSE)
                self.challenge(now, route)
