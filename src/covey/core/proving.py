"""Which routes may become paths of a session: they are challenged, and those that answer are proven.

A route is proven when a challenge of ours, of full size, was answered: our packets get there and the peer's answer
comes back. Routes come from the peer's candidates (probed in rounds, `punch.py`), from packets that arrived on a new
way, from another session, or from outside (`Paths.offer`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from covey.core import limits
from covey.core.events import RoundAhead
from covey.core.guessing import Guessing
from covey.core.path import Path, Route
from covey.core.punch import Challenge, PunchRound
from covey.wire import control, frames

if TYPE_CHECKING:
    from covey.core.paths import Paths
    from covey.core.session import Session, SessionOwner

__all__ = ["AMPLIFICATION", "Proving", "hosts_of"]

AMPLIFICATION: Final = 2
"""Bytes of our own challenge to an address that is not validated, per byte that came from it. With the answer to a
challenge of the peer's, as long as that, they are three (RFC 9000, 8.1)."""
_OFFER_TRIES: Final = 4
_OFFER_PAUSE: Final = 0.5
"""Challenges of a route that was offered, and seconds between them: a datagram may be lost."""
_OFFERS_LIMIT: Final = 16
_CHALLENGE_GAP: Final = 0.25
"""Seconds between two unprompted challenges of the same route."""
_REACHED_GAPS: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds after which a full challenge is repeated on a route that answered a small one."""
_REACHED_LIMIT: Final = 16
_FULL_PROBES: Final = 8
_HOLE_SECONDS: Final = 120.0
"""How long a path that died is probed again in every round: no candidate names the port that a hard NAT once gave."""
_HOLES_LIMIT: Final = 8
_HEAD_START_LIMIT: Final = 1.0
"""Most seconds that a round waits for the peer to hear of it."""
_COUNT_SECONDS: Final = 1.0
"""How long the round of another attempt waits until both sides know the last ports of NATs that count."""
_NOTHING: Final = control.Candidates()


class Proving:
    """Made by the `Paths` of a session. `Paths` asks `answered` and decides what a proven route is good for.

    Calls: `punch` when something changed; `challenge` and `challenge_unprompted`; `deadline` and `expire`.
    """

    __slots__ = (
        "_challenged",
        "_holes",
        "_offers",
        "_owner",
        "_paths",
        "_reached",
        "_round",
        "_session",
        "guessing",
        "narrow",
        "remote",
    )

    def __init__(self, paths: Paths, session: Session, owner: SessionOwner) -> None:
        self._paths = paths
        self._session = session
        self._owner = owner
        self._round = PunchRound()
        self._challenged: dict[Route, float] = {}
        self._offers: dict[Route, tuple[int, float]] = {}
        """Routes that may work: challenges left, and when the next is due."""
        self._reached: dict[Route, tuple[int, float]] = {}
        """Routes that answered a small challenge: how often a full one was repeated, and when the next is due."""
        self._holes: dict[Route, float] = {}
        """Direct paths that died, and when."""
        self.narrow = False
        """Small packets arrive on a route that no full datagram passes."""
        self.remote = _NOTHING
        """What the peer said last."""
        self.guessing = Guessing(self, session, owner)

    # --- challenges ------------------------------------------------------------------------------------------------

    def challenge(self, now: float, route: Route, size: int = limits.INITIAL_MTU) -> None:
        """Probes a route with fresh random bytes, padded to a datagram of `size`."""
        self._challenged[route] = now
        while len(self._challenged) > 4 * limits.PROBE_PAIRS:
            self._challenged.pop(next(iter(self._challenged)))
        data = self._owner.random(8)
        self._round.expect(data, route, now, size)
        self._session.sender.probe(route, frames.encode_path(frames.PATH_CHALLENGE, data), size)

    def probe(self, now: float, route: Route) -> None:
        """Challenges a route of which nobody knows whether it leads anywhere: with as few bytes as can be."""
        data = self._owner.random(8)
        self._round.expect(data, route, now, 0)
        self._session.sender.probe(route, frames.encode_path(frames.PATH_CHALLENGE, data), 0)

    def reached(self, now: float, route: Route) -> None:
        """The address is the peer's. Does a full datagram pass? Asked until it is a path, or clear that none does."""
        if route not in self._reached and len(self._reached) < _REACHED_LIMIT:
            self._reached[route] = (0, now + _REACHED_GAPS[0])
            self.challenge(now, route)

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

    def on_candidates(self, now: float, candidates: control.Candidates) -> None:
        elsewhere = hosts_of(candidates) != hosts_of(self.remote)
        self.remote = candidates
        self.narrow = False
        # A peer that keeps naming other addresses would have us send to all of them. Nothing is kept of strangers.
        if self.may_punch and self._owner.runs.round_allowed(now, self._session.peer):
            self.punch(elsewhere=elsewhere)

    def punch(self, *, told: bool = False, elsewhere: bool = True) -> None:
        """Something changed: a new round of probes towards the peer's candidates.

        `told`: the peer hears of it from us just now, over the relay. Both begin when it does. `elsewhere`: somebody is
        in another place, and not only at other ports.
        """
        if self.may_punch:
            rtt = self._paths.active.recovery.rtt
            after = min(rtt.smoothed / 2, _HEAD_START_LIMIT) if told and rtt.sampled else 0.0
            self._round.start_soon(self.pairs(), after, elsewhere=elsewhere)

    def take_over(self, before: Proving) -> None:
        """The session of `before` gives way to ours: what it knows of the peer, and a birthday run, go on here."""
        if not self.remote.items:
            self.remote = before.remote
        self._holes |= before._holes
        self.guessing.take_over(before.guessing)

    def proven(self, now: float, path: Path) -> None:
        """A route has become a path."""
        self.narrow = False
        self._reached.pop(path.route, None)
        self._holes.pop(path.route, None)
        self.guessing.proven(now, path)

    def lost(self, now: float, route: Route) -> None:
        """A path has died. If it comes back, then through the same hole."""
        if not route.relayed:
            self._holes[route] = now
            while len(self._holes) > _HOLES_LIMIT:
                self._holes.pop(next(iter(self._holes)))

    def pairs(self) -> list[Route]:
        """Every (own port, peer's candidate) of the same family that is not a path already, and paths that died."""
        routes = [route for route in self._holes if self._paths.by_route(route) is None]
        for candidate in self.remote.items:
            family = 6 if ":" in candidate.endpoint[0] else 4
            for index, own_family in self._owner.port_families():
                route = Route(index, candidate.endpoint)
                if own_family == family and self._paths.by_route(route) is None and route not in self._holes:
                    routes.append(route)
        return routes[: limits.PROBE_PAIRS]

    @property
    def probing(self) -> bool:
        """The peer's candidates are being probed now, or its ports guessed."""
        return self._round.running or self.guessing.running

    @property
    def round_started(self) -> float | None:
        return self._round.started

    def wanted(self, now: float) -> bool:
        """A direct path is worth looking for: there is none, and something to carry."""
        connection = self._session.connection
        if connection is None or not self.may_punch or not self._paths.active.route.relayed:
            return False
        return now <= connection.last_used + limits.ACTIVE_SECONDS or connection.waits_for_direct

    @property
    def may_punch(self) -> bool:
        """Both sides said where they are, and trust each other."""
        session, connection = self._session, self._session.connection
        return (
            session.verified
            and connection is not None
            and connection.direct
            and connection.session is session
            and bool(self.remote.items)
        )

    def _upgrade_at(self) -> float | None:
        """When to look once more for a way around the relay, while there is something to carry."""
        connection = self._session.connection
        if not self._paths.active.route.relayed or not self.may_punch or connection is None or self._round.running:
            return None
        at = self._round.retry_at
        if at is None or connection.waits_for_direct:
            return at
        return at if at <= connection.last_used + limits.ACTIVE_SECONDS else None

    # --- time ------------------------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When `expire` is due, seconds; infinity for never."""
        due = self.guessing.deadline()
        at = self._round.deadline()
        if at is not None and at < due:
            due = at
        if self._paths.active.route.circuit:
            at = self._upgrade_at()
            if at is not None and at < due:
                due = at
        if self._offers or self._reached:
            due = min(due, *(at for table in (self._offers, self._reached) for _, at in table.values()))
        return due

    def expire(self, now: float) -> None:
        """Probes what it is time to probe."""
        if self._offers:
            self._ask_offers(now)
        upgrade_at = self._upgrade_at()
        if upgrade_at is not None and now >= upgrade_at:
            self._owner.emit(RoundAhead())
            self.guessing.prepare()
            self._round.start_again(now, self.pairs(), _COUNT_SECONDS if self.guessing.counting else 0.0)
        round_at = self._round.deadline()
        if round_at is not None and now >= round_at:
            self._probe_pairs(now)
        for route in [route for route, (_, at) in self._reached.items() if now >= at]:
            self._reach_again(now, route)
        self.guessing.expire(now)

    def _probe_pairs(self, now: float) -> None:
        """What the schedule wants probed now.

        Most of it leads nowhere, and some perhaps to people who have nothing to do with it: small datagrams, but for
        the best candidates at the beginning of a round, where a full one saves a round trip.
        """
        before = self._round.started
        self._holes = {route: at for route, at in self._holes.items() if now < at + _HOLE_SECONDS}
        guessed: list[Route] = []

        def routes() -> list[Route]:
            # The predicted first: a NAT that counts gives the next port to whoever is sent to next.
            guessed.extend(self._guessed(now))
            return guessed + self.pairs()

        due = self._round.due(now, routes)
        begins = self._round.started != before
        for number, route in enumerate(due, -len(guessed)):
            if begins and 0 <= number < _FULL_PROBES:
                self.challenge(now, route)
            else:
                self.probe(now, route)
        if begins:
            self.guessing.consider(now)

    def _ask_offers(self, now: float) -> None:
        for route, (left, at) in list(self._offers.items()):
            if not left or self._paths.by_route(route) is not None:
                del self._offers[route]
            elif at <= now:
                self._offers[route] = (left - 1, now + _OFFER_PAUSE)
                self.challenge(now, route)

    def _guessed(self, now: float) -> list[Route]:
        return [route for route in self.guessing.routes(now) if self._paths.by_route(route) is None]

    def _reach_again(self, now: float, route: Route) -> None:
        times = self._reached[route][0] + 1
        if times > len(_REACHED_GAPS):
            del self._reached[route]
            self.narrow = True
            return
        gap = _REACHED_GAPS[times] if times < len(_REACHED_GAPS) else _REACHED_GAPS[-1]
        self._reached[route] = (times, now + gap)
        self.challenge(now, route)


def hosts_of(candidates: control.Candidates) -> set[str]:
    return {each.endpoint[0] for each in candidates.items}
