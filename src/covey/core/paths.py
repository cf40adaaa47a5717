"""The paths of one session, and which one carries the data.

A route becomes a path when it is proven (`proving.py`). One path is active, the best by `choice.py`; when it gets no
answers any more (`judging.py`), data goes on over the best other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from covey.base.types import Endpoint
from covey.core import choice, limits
from covey.core.events import PathsChanged, Ponged, SeenByPeer
from covey.core.judging import Judging
from covey.core.path import Path, Route
from covey.core.proving import AMPLIFICATION, Proving, hosts_of
from covey.wire import control, frames
from covey.wire.datagram import PACKET_OVERHEAD

if TYPE_CHECKING:
    from covey.core.session import Session, SessionOwner

__all__ = ["Paths"]

_ROUTES_REMEMBERED: Final = 8


class Paths:
    """Made by a session for itself. Iterating gives every `Path`.

    Calls: `arrived` for every authenticated train, `on_path_frame`, `on_candidates`, `exchange` when the node allows
    direct paths; `judging.deadline` and `judging.expire`.
    """

    __slots__ = (
        "_left",
        "_next_id",
        "_owner",
        "_questioned_at",
        "_seen_told",
        "_session",
        "active",
        "arrivals",
        "bulk",
        "candidates_sent",
        "judging",
        "present",
        "proving",
        "remote_candidates",
        "remote_consents",
        "remote_traits",
        "stalled",
    )

    def __init__(self, session: Session, owner: SessionOwner, route: Route, now: float) -> None:
        self.active = Path(0, route, now, owner.new_congestion())
        self.bulk: Path | None = None
        """The path that carries bulk, if it is another one."""
        self.active.quota = owner.relays_used.quota(route)
        self.stalled = False
        """Nothing answers on any path."""
        self.remote_candidates: tuple[control.Candidate, ...] = ()
        self.remote_traits = control.NatTraits()
        self.remote_consents = False
        """The peer lets us look for its port by trying many (birthday probing)."""
        self.candidates_sent = control.Candidates()
        self._seen_told: Endpoint | None = None
        """Where we told the peer that we see it."""
        self._session = session
        self._owner = owner
        self.present: list[Path] = [self.active]
        """Every path; the same list as long as the session lives."""
        self._next_id = 1
        self.proving = Proving(self, session, owner)
        self.judging = Judging(self, session, owner)
        self.arrivals: dict[int, Route] = {}
        """Where the newest packet of each of the peer's paths came from."""
        self._questioned_at = now
        self._left: list[Route] = []
        """Where one of them came from before."""

    def __iter__(self) -> Iterator[Path]:
        return iter(self.present)

    def __len__(self) -> int:
        return len(self.present)

    def by_id(self, number: int) -> Path | None:
        if number == self.active.id:
            return self.active
        for path in self.present:
            if path.id == number:
                return path
            if path.lane is not None and path.lane.id == number:
                return path.lane
        return None

    def lane(self, now: float, path: Path) -> Path | None:
        """The lane of a path of this session; None for a while after it gave no answer."""
        lane = path.lane or path.open_lane(now, self._owner.new_congestion())
        return None if lane.suspect and now < lane.suspect_since + limits.DEAD_SECONDS else lane

    def by_route(self, route: Route) -> Path | None:
        for path in self.present:
            if path.route == route:
                return path
        return None

    def overlap(self) -> float:
        """Three PTOs of the slowest path, seconds: how long packets of before may still be on their way."""
        return 3 * max(path.recovery.rtt.pto() for path in self.present)

    @property
    def relay_in_reserve(self) -> bool:
        """Whether a relayed path that answers as far as we know could take over from the active one."""
        return any(path.route.relayed and not path.suspect and path is not self.active for path in self.present)

    # --- what arrives ----------------------------------------------------------------------------------------------

    def confirmed_on(self, route: Route) -> None:
        """The first packet of an initiator came by `route`: path 0 is that route, whichever way message 1 came.

        Nothing was sent on it before (PROTOCOL 11: message 1 moves no endpoint).
        """
        self.active.route = route
        self.active.quota = self._owner.relays_used.quota(route)

    def arrived(self, now: float, route: Route, path_id: int, size: int, *, newest: bool) -> None:
        """`size` bytes of a train that begins with an authenticated packet came by `route`.

        `newest`: no later packet of the same path arrived before it.
        """
        if self.stalled:
            self.stalled = False
            self.active.recovery.revive(now)
            if self._session.connection is not None:
                self._session.connection.stalled_at = None
        if newest and path_id != limits.PROBE_PATH:
            path_id &= ~limits.LANE
            before = self.arrivals.get(path_id, route)
            self.arrivals[path_id] = route
            if before != route:
                self._left = [*self._left[1 - _ROUTES_REMEMBERED :], before]
        path = self.active if route == self.active.route else self.by_route(route)
        if path is not None:
            path.received_bytes += size
            if path is not self.active:
                if self._moved_to(route):
                    self._follow(path)
                elif newest and path_id != limits.PROBE_PATH:
                    self._question_active(now)
        elif path_id != limits.PROBE_PATH:
            # A route we do not send on: the peer moved. A probe of its own calls for a challenge in `on_path_frame`.
            self.proving.challenge_unprompted(now, route, AMPLIFICATION * size)

    def _question_active(self, now: float) -> None:
        """The peer sends on another path than we do. Perhaps ours is dead: who only acknowledges would never know."""
        if now >= self._questioned_at + limits.SUSPECT_SECONDS and not self.active.recovery.outstanding:
            self._questioned_at = now
            self._session.keep_alive()

    def on_path_frame(self, now: float, route: Route, kind: int, data: bytes, size: int) -> None:
        """A challenge or an answer in a packet of `size` bytes of plaintext that came by `route`."""
        if kind == frames.PATH_CHALLENGE:
            # As long as the challenge, never longer: no amplification, and the size is proven both ways.
            datagram = size + PACKET_OVERHEAD + route.outer
            self.proving.guessing.heard(route)
            self._session.sender.probe(route, frames.encode_path(frames.PATH_RESPONSE, data), datagram)
            connection = self._session.connection
            if connection is not None and connection.direct and self.by_route(route) is None:
                self.proving.challenge_unprompted(now, route, AMPLIFICATION * datagram)
            return
        ping = self._session.sender.answered_ping(data)
        if ping is not None:
            if self._session.connection is not None:
                self._owner.emit(Ponged(self._session.connection, ping[0], now - ping[1]))
            return
        # The answer proves the pair it was asked on, whichever way it came back.
        expected = self.proving.answered(data)
        if expected is not None:
            self._proven(now, expected.route, now - expected.asked, expected.size)

    def on_candidates(self, now: float, candidates: control.Candidates) -> None:
        self.remote_candidates = candidates.items
        self.remote_traits = candidates.traits
        self.remote_consents = candidates.consents
        self.proving.on_candidates(now, candidates)
        self.describe()

    # --- other relays ----------------------------------------------------------------------------------------------

    def offer(self, now: float, route: Route) -> None:
        """A route that may work: proven now, it is there when the active one fails."""
        self.proving.offer(now, route)

    def avoid(self, relay: Endpoint) -> bool:
        """Data goes another way than over this relay from now on. False if no other is proven."""
        if not _is_by(self.active, relay):
            return True
        others = [path for path in self.present if not path.suspect and not _is_by(path, relay)]
        if not others:
            return False
        self.switch(others)
        self.changed()
        return True

    def forget(self, now: float, relay: Endpoint) -> None:
        """This relay has closed its circuits."""
        for path in self.present[:]:
            if _is_by(path, relay):
                self.give_up(now, path)

    def give_up(self, now: float, path: Path) -> None:
        """The relay of this path says that its circuit is closed: nobody has to find out by losing data."""
        if path is self.active:
            self.judging.leave(now, path)
        if path is not self.active:
            self.remove(path)
        elif not self.stalled:
            self.stall(now)

    def stall(self, now: float) -> None:
        """Nothing answers on any path."""
        self.stalled = True
        self._owner.sessions.stalled(self._session, now)

    def lose_port(self, now: float, port: int) -> None:
        """A connection of ours ended, and every path over it."""
        for path in sorted(self.present, key=lambda path: path is self.active):
            if path.route.local == port and not self._session.ended:
                self.give_up(now, path)

    def network_changed(self, now: float) -> None:
        """Our own addresses did: every path is asked whether it still works, and how large its datagrams may be."""
        for path in self.present:
            path.doubt_mtu()
            self.judging.ask(now, path)
        self._session.keep_alive()
        self.proving.punch()

    # --- looking for direct paths ----------------------------------------------------------------------------------

    def exchange(self) -> None:
        """Sends our candidates and uses the peer's, if both are wanted. Addresses wait for post-quantum keys."""
        if not self._speaks_of_addresses:
            return
        own = self._owner.candidates()
        if own != self.candidates_sent:
            elsewhere = hosts_of(own) != hosts_of(self.candidates_sent)
            self.candidates_sent = own
            self._session.send_control(control.CANDIDATES, own.encode())
            self.proving.punch(told=True, elsewhere=elsewhere)
        else:
            self.proving.punch()
        self._tell_seen()
        self._session.wake()

    def on_seen(self, endpoint: Endpoint) -> None:
        """The peer says that our packets come to it from there."""
        connection = self._session.connection
        if connection is not None and connection.direct and not self.active.route.relayed:
            self._owner.emit(SeenByPeer(connection, self.active.route, endpoint))

    def _tell_seen(self) -> None:
        """The peer hears where a direct path of ours leads to it, once for each place: perhaps nobody else tells it."""
        route = self.active.route
        if route.relayed or route.websocket or "%" in route.remote[0] or route.remote == self._seen_told:
            return
        if self._speaks_of_addresses:
            self._seen_told = route.remote
            self._session.send_control(control.SEEN, control.encode_seen(route.remote))

    @property
    def _speaks_of_addresses(self) -> bool:
        """With a trusted peer, in the session in use, and once its keys are post-quantum ones."""
        session, connection = self._session, self._session.connection
        if connection is None or not connection.direct or connection.session is not session:
            return False
        return session.verified and session.epochs.epoch > 0

    # --- choosing --------------------------------------------------------------------------------------------------

    def _proven(self, now: float, route: Route, rtt: float, size: int) -> None:
        """A challenge of `size` bytes on `route` was answered."""
        path = self.by_route(route)
        if path is not None:
            path.answered(now, rtt)
            if path.suspect and path.failures < limits.PATH_FAILURES:
                self._revive(now, path)
            else:
                self.reconsider()
        elif size < limits.INITIAL_MTU:
            self.proving.reached(now, route)  # the address is the peer's; now, does a full datagram pass?
        elif self._next_id < self._session.epochs.lifetimes.path_ids:
            self._add(now, route, rtt)

    def _revive(self, now: float, path: Path) -> None:
        """A suspect path answers again."""
        path.suspect = False
        path.recovery.revive(now)
        if path is not self.active and choice.better(path, self.active, self._order):
            self._activate(path)
            self.changed()

    def reconsider(self) -> None:
        """Perhaps another path than the active one is better by now."""
        active = self.active
        self.settle_bulk()
        if active.recovery.congestion.in_flight > limits.STANDING_BYTES:
            return  # its round trip measures the queue of our own making
        best = choice.best([active, *(path for path in self.present if not path.suspect)], self._order)
        if best is not active:
            self._activate(best)
            self.changed()

    def inherit(self, now: float, routes: Iterable[Route]) -> None:
        """Another session of the same connection had paths on these routes: proves them for this one, too."""
        for route in routes:
            self.proving.offer(now, route)

    def _add(self, now: float, route: Route, rtt: float) -> None:
        if len(self.present) >= limits.PATHS_LIMIT:
            if not (self.active.suspect or self._moved_to(route)):
                return
            oldest = next(path for path in self.present if path is not self.active)
            self._session.lost(oldest, oldest.abandon())
            self.present.remove(oldest)
        path = Path(self._next_id, route, now, self._owner.new_congestion())
        path.quota = self._owner.relays_used.quota(route)
        self._next_id += 1
        if self._next_id > self._session.epochs.lifetimes.path_ids - limits.PATH_IDS_LEFT:
            self._owner.sessions.worn(self._session)
        path.recovery.on_round_trip(rtt)
        self.present.append(path)
        self.describe()
        self.proving.proven(now, path)
        if self._moved_to(route):
            self._follow(path)
        elif choice.better(path, self.active, self._order):
            self._activate(path)
        elif self.active.suspect:
            self.judging.leave(now, self.active)
        self.changed()

    def _moved_to(self, route: Route) -> bool:
        """Whether the peer's packets come by `route` now, and by our active route no more.

        A path of the peer's is bound to its route. If it comes by another one, the peer or its NAT changed, and what
        we send to where it came from before leads nowhere.
        """
        routes = self.arrivals.values()
        active = self.active.route
        return active in self._left and active not in routes and route in routes

    def _follow(self, path: Path) -> None:
        left = self.active
        self._activate(path)
        self.remove(left)

    def switch(self, others: Sequence[Path]) -> None:
        """The best of `others` carries the data from now on."""
        self._activate(choice.best(others, self._order))

    def _activate(self, path: Path) -> None:
        left, self.active = self.active, path
        if left.suspect and left is not path:
            self._session.lost(left, left.abandon())  # what got no answer there goes this way now
        self._session.wake()

    def remove(self, path: Path) -> None:
        self._session.lost(path, path.abandon())
        self.present.remove(path)
        self.proving.punch()
        self.changed()

    @property
    def _order(self) -> tuple[str, ...]:
        """Ways that a rule prefers."""
        connection = self._session.connection
        return () if connection is None else connection.rule.order

    def settle_bulk(self) -> None:
        """Bulk goes by a way of its own, if a rule names one and there is such a path."""
        connection = self._session.connection
        ways = () if connection is None else connection.rule.bulk
        if not ways:
            self.bulk = None
            return
        candidates = [
            path for path in (self.bulk, self.active, *self.present) if path is not None and path in self.present
        ]
        fit = [path for path in candidates if not path.suspect and any(choice.matches(path, way) for way in ways)]
        fit = [path for path in fit if connection is not None and connection.may_use(path)]
        chosen = choice.best(fit, ways) if fit else None
        self.bulk = None if chosen is self.active else chosen
        self._session.wake()

    def describe(self) -> None:
        """The peer said what its addresses are."""
        declared = {
            each.endpoint: each for each in self.remote_candidates if each.kind is control.CandidateKind.INTERCONNECT
        }
        for path in self.present:
            candidate = None if path.route.relayed else declared.get(path.route.remote)
            path.interconnect = None if candidate is None else candidate.label
            path.cost = 0 if candidate is None else candidate.cost
        self.reconsider()

    def changed(self) -> None:
        self.settle_bulk()
        self._tell_seen()
        if self._session.connection is not None:
            self._owner.emit(PathsChanged(self._session.connection))


def _is_by(path: Path, relay: Endpoint) -> bool:
    return path.route.relayed and path.route.remote == relay
