"""One side's NAT gives every destination another port, at random, and the other side's lets in only who was sent to:
the two find each other as people with one birthday do (DESIGN 6.4, ADR 0020).

The *opening* side, whose NAT is hard, sends from 256 ports to the one port of the other side: that makes 256 holes in
its NAT. The *trying* side sends to random ports of that NAT, 100 a second, all from its one port. After n of them the
chance of a hit is 1 - (1 - 256/64,512)^n: half after 174, 98.3 % after 1,024, 99.97 % after 2,048.

Both send to somebody who may not want it, so it happens only between two that trust each other and both allow it, to
addresses of which a rendezvous says that the peer is there, one run at a time, and after one that found nothing not
again for an hour (`Runs`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, NamedTuple

from covey.base.types import Endpoint, Identity
from covey.core.path import Route
from covey.core.prediction import FIRST_PORT, PORT_COUNT
from covey.wire.control import Filtering, Mapping, NatTraits

__all__ = ["HARD", "Opening", "Part", "Places", "RandomPorts", "Runs", "Trying", "part_of"]

HARD: Final = frozenset((Mapping.ADDRESS_DEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT))
"""Mappings whose port towards us nobody has seen."""
_EASY: Final = frozenset((Mapping.NONE, Mapping.ENDPOINT_INDEPENDENT))
_STRICT: Final = frozenset((Filtering.UNKNOWN, Filtering.ADDRESS_AND_PORT_DEPENDENT))
"""Filters that let no port in that was not sent to; the others need no guessing."""

SOCKETS: Final = 256
_BATCH: Final = 32
"""Ports opened, or used again, at a time, ..."""
_BATCH_GAP: Final = 0.05
"""... and seconds between two times: all of them in 0.4 s, and no more than 64 probes wait in a sender."""
_REFRESH: Final = 5.0
"""Seconds after which every open port sends again: for what was lost, and NATs that forget within 20 s."""
_OPEN_SECONDS: Final = 24.0
"""How long the ports stay open: what the other side needs for all of its probes, and time to begin and to answer."""

PROBES: Final = 2048
"""1,024, and the one repeat (PROTOCOL 39)."""
_RATE: Final = 100.0
"""Probes a second."""
_BURST: Final = 8
"""Probes made up for at once if we were not called in time."""
_ANSWER_SECONDS: Final = 2.0
"""How long an answer to the last probe is waited for."""

_FAILED_SECONDS: Final = 3600.0
"""Between a run that found nothing and the next one with the same peer between the same networks."""
_FOUND_SECONDS: Final = 60.0
"""The same after one that found the peer, so that the address was its own."""
_ROUNDS: Final = 16.0
_ROUND_SECONDS: Final = 20.0
"""Rounds of probes that changes of a peer's candidates are good for at once, and seconds until there is one more."""
_MOVES: Final = 3
"""Times that the peer may bring forward its next run by saying that it is somewhere else."""


class Part(Enum):
    """What one side does in a run."""

    NONE = "none"
    """No guessing is needed, or too little is known."""
    OPENS = "opens"
    TRIES = "tries"
    HOPELESS = "hopeless"
    """Both NATs are hard: each would have to guess, at once, what the other one does."""


def part_of(own: NatTraits, remote: NatTraits) -> Part:
    """The two sides come to fitting answers, each from its own point of view."""
    if own.mapping in HARD and remote.mapping in HARD:
        return Part.HOPELESS
    if own.mapping in HARD and remote.mapping in _EASY and remote.filtering in _STRICT:
        return Part.OPENS
    if remote.mapping in HARD and own.mapping in _EASY and own.filtering in _STRICT:
        return Part.TRIES
    return Part.NONE


class RandomPorts:
    """All external ports in random order, none twice: a shuffle that remembers only what it moved."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._moved: dict[int, int] = {}
        self._left = PORT_COUNT

    def next(self) -> int:
        """Call it at most `PORT_COUNT` times."""
        at = int.from_bytes(self._random(8), "big") % self._left
        self._left -= 1
        chosen = self._moved.get(at, at)
        self._moved[at] = self._moved.pop(self._left, self._left)
        return FIRST_PORT + chosen


class Opening:
    """The opening side of a run: which ports are wanted, and which challenge `target` when.

    Ask `wanted` and `due` at every `deadline`; `lend` it the ports that were opened. It is `over` in the end.
    """

    def __init__(self, now: float, target: Endpoint) -> None:
        self.target = target
        self.ports: list[int] = []
        self.heard: set[int] = set()
        """Those on which the peer was heard."""
        self._asked = 0
        self._waiting: deque[int] = deque()
        self._next = now
        self._refresh = now + _REFRESH
        self._end = now + _OPEN_SECONDS

    def wanted(self, now: float) -> int:
        """How many more ports to open now."""
        if now < self._next or self._waiting or self._asked >= SOCKETS:
            return 0
        count = min(_BATCH, SOCKETS - self._asked)
        self._asked += count
        return count

    def lend(self, ports: Iterable[int]) -> None:
        """These were opened; fewer than wanted if the system gave no more."""
        fresh = list(ports)
        if not fresh:
            self._asked = SOCKETS  # the system is out of them
        self.ports += fresh
        self._waiting += fresh

    def due(self, now: float) -> list[Route]:
        """The routes to challenge now."""
        if now >= self._refresh:
            self._refresh = now + _REFRESH
            self._waiting = deque(self.ports)
        if now < self._next or not self._waiting:
            return []
        self._next = now + _BATCH_GAP
        return [Route(self._waiting.popleft(), self.target) for _ in range(min(_BATCH, len(self._waiting)))]

    def done(self, now: float) -> float:
        """How much of the run is behind us, 0 to 1."""
        return min(1 - (self._end - now) / _OPEN_SECONDS, 1.0)

    def over(self, now: float) -> bool:
        return now >= self._end

    def deadline(self) -> float:
        due = min(self._refresh, self._end)
        return min(due, self._next) if self._waiting or self._asked < SOCKETS else due


class Trying:
    """The trying side of a run: random ports of `host` from port `local`. `over` once the last answer cannot come."""

    def __init__(self, now: float, local: int, host: str, random: Callable[[int], bytes]) -> None:
        self.host = host
        self.tried = 0
        self._local = local
        self._ports = RandomPorts(random)
        self._next = now

    def due(self, now: float) -> list[Route]:
        """The routes to challenge now."""
        routes: list[Route] = []
        while now >= self._next and self.tried < PROBES and len(routes) < _BURST:
            routes.append(Route(self._local, (self.host, self._ports.next())))
            self.tried += 1
            self._next += 1 / _RATE
        if self._next <= now:
            self._next = now + 1 / _RATE
        return routes

    def done(self, now: float) -> float:
        """How much of the run is behind us, 0 to 1."""
        return self.tried / PROBES

    def over(self, now: float) -> bool:
        return self.tried >= PROBES and now >= self._next + _ANSWER_SECONDS

    def deadline(self) -> float:
        # Two at a time: half the timers.
        return self._next + (_ANSWER_SECONDS if self.tried >= PROBES else 1 / _RATE)


class Places(NamedTuple):
    """Where two agents are, as far as they say: a run in vain is worth repeating once that is another."""

    own: frozenset[str]
    remote: frozenset[str]


class _Failure(NamedTuple):
    until: float
    places: Places
    moves: int


class Runs:
    """The runs of an endpoint with all of its peers: one at a time, and when the next may begin."""

    def __init__(self) -> None:
        self.running: Identity | None = None
        """The peer of the one that runs, or was asked for."""
        self._failures: dict[Identity, _Failure] = {}
        self._found: dict[Identity, float] = {}
        self._rounds: dict[Identity, tuple[float, float]] = {}
        """By peer, what is left of its rounds, and when that was."""

    def round_allowed(self, now: float, peer: Identity) -> bool:
        """Whether a round of ordinary probes may begin because this peer says that it is somewhere else."""
        left, at = self._rounds.get(peer, (_ROUNDS, now))
        left = min(_ROUNDS, left + (now - at) / _ROUND_SECONDS)
        self._rounds[peer] = (left - 1 if left >= 1 else left, now)
        return left >= 1

    def next_at(self, peer: Identity, places: Places) -> float:
        """When a run with this peer may begin, seconds; perhaps in the past."""
        failure = self._failures.get(peer)
        if failure is None or places.own != failure.places.own:
            return self._found.get(peer, float("-inf"))
        if places.remote != failure.places.remote and failure.moves < _MOVES:
            return float("-inf")
        return failure.until

    def failed(self, now: float, peer: Identity) -> bool:
        """The last run with this peer was in vain, within the hour."""
        failure = self._failures.get(peer)
        return failure is not None and now < failure.until and self.running != peer

    def begin(self, now: float, peer: Identity, places: Places) -> None:
        """Counted as a failure until `end` says otherwise: nobody gains by ending it early."""
        self._failures = {each: failure for each, failure in self._failures.items() if now < failure.until}
        self._found = {each: until for each, until in self._found.items() if now < until}
        before = self._failures.get(peer)
        moves = before.moves + 1 if before is not None and before.places.own == places.own else 0
        self._failures[peer] = _Failure(now + _FAILED_SECONDS, places, moves)
        self.running = peer

    def release(self, peer: Identity) -> None:
        """What was asked for is not begun."""
        if self.running == peer:
            self.running = None

    def end(self, now: float, peer: Identity, *, found: bool, done: float = 1.0) -> None:
        """`done`: how much of it there was. Half of a run may be followed by another one in half an hour."""
        self.release(peer)
        failure = self._failures.get(peer)
        if failure is not None and not found:
            until = now + max(done * _FAILED_SECONDS, _FOUND_SECONDS)
            self._failures[peer] = failure._replace(until=min(until, failure.until))
        if found:
            self._failures.pop(peer, None)
            self._found[peer] = now + _FOUND_SECONDS
