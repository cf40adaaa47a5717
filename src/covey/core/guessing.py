"""Ports of the peer's NAT that nobody has seen: predicted if it counts, else looked for by a birthday run.

::

    opening side (hard NAT)                           trying side (easy NAT)
    the round of probes finds nothing
    VOUCH to the rendezvous: is it at HOST?           VOUCH to the rendezvous: is it at HOST?
    BIRTHDAY ask, own address            -->
                                         <--          BIRTHDAY go (or later); probes of random ports begin
    opens 256 ports, one probe from each
                         the first probe that meets a hole is answered: a path

Nothing is sent to an address before somebody other than the peer says that the peer is there (`vouch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from covey.base.types import Endpoint
from covey.core import limits
from covey.core.birthday import Opening, Part, Places, Trying, part_of
from covey.core.events import AddressInDoubt, PortsWanted
from covey.core.path import Path, Route
from covey.core.prediction import around, newest, walk
from covey.wire import control
from covey.wire.birthday import Birthday, Word
from covey.wire.control import CandidateKind, Candidates, Ports

if TYPE_CHECKING:
    from covey.core.proving import Proving
    from covey.core.session import Session, SessionOwner

__all__ = ["Guessing"]

_HEAD_START: Final = 0.5
"""Seconds that ordinary probes, and half a second more that predicted ones have before a birthday run is asked for."""
_ANSWER_SECONDS: Final = 10.0
"""How long the other side may take to say go."""
_AGAIN_SECONDS: Final = 15.0
"""Until it is asked again after a no, or no answer; twice as long each time."""
_PLACES: Final = 4
"""Addresses of a peer's that are guessed at: two rendezvous and two families. A client of a rendezvous has 50 questions
a second, and a peer that names 32 addresses must not use them up."""
_VOUCHED_SECONDS: Final = 60.0
"""How long somebody's word counts that the peer is there ..."""
_DOUBT_SECONDS: Final = 5.0
"""... and how long it is waited for until somebody is asked again: the peer may have asked later than we did."""


class Guessing:
    """Made by the `Proving` of a session, which calls `consider` when something changed, `deadline` and `expire`.

    `routes` are the predicted ones. What is sent in a birthday run goes through `Proving.probe` like everything else.
    """

    __slots__ = (
        "_asked_at",
        "_at",
        "_doubted",
        "_granted",
        "_not_before",
        "_owner",
        "_proving",
        "_refusals",
        "_run",
        "_session",
        "_walk_port",
        "_walked",
        "_wanted_by_peer",
    )

    def __init__(self, proving: Proving, session: Session, owner: SessionOwner) -> None:
        self._proving = proving
        self._session = session
        self._owner = owner
        self._run: Opening | Trying | None = None
        self._at = float("inf")
        """When `expire` has something to do, seconds."""
        self._not_before = float("-inf")
        self._refusals = 0
        self._asked_at: float | None = None
        """When we asked the other side to begin."""
        self._granted = False
        """It said go, and nobody has told us yet that it is where it says."""
        self._walked = False
        """There are mappings of an earlier walk: another one needs a port that has none."""
        self._walk_port: int | None = None
        self._wanted_by_peer = ""
        """Where the peer asked us to try ports, as long as nobody said that it is there."""
        self._doubted: dict[str, tuple[float, bool]] = {}
        """Addresses of the peer's: when it was asked whether it is there, and whether it is."""

    @property
    def running(self) -> bool:
        return self._run is not None or self._asked_at is not None

    @property
    def ports(self) -> Sequence[int]:
        """Those that were opened for the run, or for a walk."""
        if isinstance(self._run, Opening):
            return self._run.ports
        return () if self._walk_port is None else (self._walk_port,)

    @property
    def _place(self) -> str:
        """The address of the peer in the run."""
        return self._run.target[0] if isinstance(self._run, Opening) else self._run.host if self._run else ""

    def failed(self, now: float) -> bool:
        """The last birthday run with this peer found nothing, and there will not be another one soon."""
        return self._owner.runs.failed(now, self._session.peer)

    # --- prediction ------------------------------------------------------------------------------------------------

    def routes(self, now: float) -> list[Route]:
        """The predicted ones, in the order in which they must be sent to."""
        own, remote = self._candidates()
        traits = remote.traits
        if traits.ports is not Ports.SEQUENTIAL:
            return []
        part = part_of(own.traits, traits)
        both = part is Part.HOPELESS and own.traits.ports is Ports.SEQUENTIAL
        if not both and part is not Part.TRIES:
            return []
        found = []
        for host in _seen_at(remote):
            local = self._local(host)
            if local is None or not self._vouched(now, host):
                continue
            ports = [each.endpoint[1] for each in remote.items if _is_seen(each) and each.endpoint[0] == host]
            last = newest(ports, traits.step)
            if both:
                self._walked = True
                start = local if self._walk_port is None else self._walk_port
                found += [Route(start, (host, port)) for port in walk(last, traits.step, pace=self._pace())]
            else:
                found += [Route(local, (host, port)) for port in around(last, traits.step)]
        return found[: limits.PROBE_PAIRS]

    def prepare(self) -> None:
        """Another attempt begins soon. A walk that failed has left mappings, which would be used again, out of step."""
        connection = self._session.connection
        own, remote = self._candidates()
        if connection is None or not self._walked or part_of(own.traits, remote.traits) is not Part.HOPELESS:
            return
        if self._walk_port is not None:
            self._owner.close_ports((self._walk_port,))
            self._walk_port = None
        host = next(iter(_seen_at(remote)), "")
        self._owner.emit(PortsWanted(connection, 6 if ":" in host else 4, 1))

    @property
    def counting(self) -> bool:
        """One of the two NATs gives its ports in turn."""
        return any(side.traits.ports is Ports.SEQUENTIAL for side in self._candidates())

    def _pace(self) -> int:
        return 1 if self._owner.identity < self._session.peer else 2

    # --- birthday runs ---------------------------------------------------------------------------------------------

    def consider(self, now: float) -> None:
        """Something changed: is there a run to ask for, and when?"""
        if self._run is not None and not any(each.endpoint[0] == self._place for each in self._proving.remote.items):
            self._end(now, found=False)  # it says that it is there no more
        if self.running:
            return
        for host in self._hosts():
            self._vouched(now, host)  # both have to ask before either is told
        self._at = float("inf")
        if self._part() is not Part.OPENS or self._target() is None:
            return
        started = self._proving.round_started
        if started is None:
            return
        head_start = _HEAD_START * (2 if self._owner.candidates().traits.ports is Ports.SEQUENTIAL else 1)
        next_at = self._owner.runs.next_at(self._session.peer, self._places())
        self._at = max(started + head_start, self._not_before, next_at)

    def on_message(self, now: float, message: Birthday) -> None:
        """The peer asks us to try its ports, or answers us. What does not fit is ignored."""
        if message.word is Word.ASK:
            self._on_ask(now, message.host)
        elif self._asked_at is not None:
            if message.word is Word.GO:
                self._granted = True
                self._open(now)
            else:
                self._give_up(now)

    def vouch(self, now: float, host: str) -> None:
        """Somebody else sees the peer at this address."""
        if host not in self._doubted:
            return
        self._doubted[host] = (now, True)
        if host == self._wanted_by_peer:
            self._on_ask(now, host)
        if self._granted:
            self._open(now)
        if not self._proving.probing and self.routes(now):
            self._proving.punch()
        self.consider(now)

    def lend(self, now: float, ports: Sequence[int]) -> Sequence[int]:
        """Ports that were opened for us; those that we have no use for any more."""
        if not isinstance(self._run, Opening):
            if self._walked and self._walk_port is None and ports:
                self._walk_port = ports[0]
                return ports[1:]
            return ports
        self._run.lend(ports)
        self._advance(now)
        return ()

    def take_over(self, before: Guessing) -> None:
        """A newer session goes on with what this connection does."""
        if self.running or not before.running:
            return
        self._run, before._run = before._run, None
        self._asked_at, before._asked_at = before._asked_at, None
        self._at, before._at = before._at, float("inf")
        self._granted, self._doubted = before._granted, before._doubted

    def heard(self, route: Route) -> None:
        """The peer's probe came by this route."""
        if isinstance(self._run, Opening) and route.local in self._run.ports:
            self._run.heard.add(route.local)

    def proven(self, now: float, path: Path) -> None:
        """A direct path was found, by us or by ordinary probes."""
        run = self._run
        if path.route.local == self._walk_port:
            self._walk_port = None  # it is the path's from now on
        if run is None or path.route.relayed:
            return
        self.heard(path.route)
        self._end(now, found=path.route.remote[0] == self._place)

    def stop(self, now: float) -> None:
        """The session is over, or the peer is not trusted any more."""
        if isinstance(self._run, Opening):
            self._run.heard.clear()
        self._end(now, found=False)

    def deadline(self) -> float:
        return self._at

    def expire(self, now: float) -> None:
        if now < self._at:
            return
        if self._run is not None:
            self._advance(now)
        elif self._asked_at is not None:
            self._give_up(now)
        else:
            self._ask(now)

    # --- the opening side ------------------------------------------------------------------------------------------

    def _ask(self, now: float) -> None:
        self._at = float("inf")
        target, runs = self._target(), self._owner.runs
        seen = self._seen_for(target)
        if target is None or seen is None or not self._proving.wanted(now) or self._part() is not Part.OPENS:
            return
        if runs.running is not None:
            self._at = now + _HEAD_START
            return
        self._vouched(now, target[0])
        runs.running = self._session.peer
        self._asked_at = now
        self._at = now + _ANSWER_SECONDS
        self._say(Word.ASK, seen)

    def _open(self, now: float) -> None:
        target = self._target()
        if target is None:
            self._give_up(now)
        if target is None or not self._vouched(now, target[0]):
            return
        self._asked_at = None
        self._granted = False
        self._refusals = 0
        self._owner.runs.begin(now, self._session.peer, self._places())
        self._run = Opening(now, target)
        self._advance(now)

    def _give_up(self, now: float) -> None:
        """The other side does not want to now, or nobody saw it."""
        self._asked_at = None
        self._granted = False
        self._owner.runs.release(self._session.peer)
        self._not_before = now + min(_AGAIN_SECONDS * 2**self._refusals, limits.PROBE_ROUND_LIMIT_SECONDS)
        self._refusals += 1
        self.consider(now)

    def _target(self) -> Endpoint | None:
        """The one port of the easy side: where it was seen from outside or, in the open, where it is."""
        _, remote = self._candidates()
        kinds = (CandidateKind.REFLEXIVE, CandidateKind.MAPPED, CandidateKind.HOST)
        for kind in kinds:
            for each in remote.items:
                if each.kind is kind and self._local(each.endpoint[0]) is not None:
                    return each.endpoint
        return None

    def _seen_for(self, target: Endpoint | None) -> str | None:
        """Our own address, as others see it, of the family of `target`."""
        own, _ = self._candidates()
        if target is None:
            return None
        return next((host for host in _seen_at(own) if (":" in host) == (":" in target[0])), None)

    # --- the trying side -------------------------------------------------------------------------------------------

    def _on_ask(self, now: float, host: str) -> None:
        self._wanted_by_peer = ""
        runs, peer, local = self._owner.runs, self._session.peer, self._local(host)
        _, remote = self._candidates()
        if not self._proving.may_punch or self._part() is not Part.TRIES:
            return
        if local is None or host not in _seen_at(remote):
            return
        busy = self.running or runs.running is not None or not self._proving.wanted(now)
        if busy or runs.next_at(peer, self._places()) > now:
            self._say(Word.LATER, host)
        elif not self._vouched(now, host):
            self._wanted_by_peer = host
        else:
            runs.begin(now, peer, self._places())
            self._say(Word.GO, host)
            self._run = Trying(now, local, host, self._owner.random)
            self._advance(now)

    # --- both ------------------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        """One step of the run."""
        run = self._run
        assert run is not None
        if run.over(now) or not self._proving.wanted(now):
            self._end(now, found=False)
            return
        for route in run.due(now):
            self._proving.probe(now, route)
        if isinstance(run, Opening):
            count, connection = run.wanted(now), self._session.connection
            if count and connection is not None:
                self._owner.emit(PortsWanted(connection, 6 if ":" in run.target[0] else 4, count))
        self._at = run.deadline()

    def _end(self, now: float, *, found: bool) -> None:
        run, peer = self._run, self._session.peer
        self._run = None
        self._at = float("inf")
        self._wanted_by_peer = ""
        if run is not None:
            self._owner.runs.end(now, peer, found=found, done=run.done(now))
            if isinstance(run, Opening):
                # One on which the peer was heard too may be the one it took: it goes if no path needs it.
                self._owner.close_ports([port for port in run.ports if port not in run.heard])
        elif self._asked_at is not None:
            self._asked_at = None
            self._granted = False
            self._owner.runs.release(peer)

    def _part(self) -> Part:
        own, remote = self._candidates()
        if not (own.consents and remote.consents):
            return Part.NONE
        return part_of(own.traits, remote.traits)

    def _hosts(self) -> list[str]:
        """Where the peer has to be, before we or it may guess."""
        own, remote = self._candidates()
        part = part_of(own.traits, remote.traits)
        counting = [side.traits.ports is Ports.SEQUENTIAL for side in (own, remote)]
        if part is Part.NONE or (part is Part.HOPELESS and not all(counting)) or not self._proving.may_punch:
            return []
        if not any(counting) and not (own.consents and remote.consents):
            return []
        target = self._target() if part is Part.OPENS else None
        return _seen_at(remote) if target is None else [target[0]]

    def _candidates(self) -> tuple[Candidates, Candidates]:
        return self._owner.candidates(), self._proving.remote

    def _places(self) -> Places:
        own, remote = self._candidates()
        return Places(*(frozenset(each.endpoint[0] for each in side.items) for side in (own, remote)))

    def _local(self, host: str) -> int | None:
        family = 6 if ":" in host else 4
        return next((index for index, own in self._owner.port_families() if own == family), None)

    def _say(self, word: Word, host: str) -> None:
        self._session.send_control(control.BIRTHDAY, Birthday(word, host).encode())

    def _vouched(self, now: float, host: str) -> bool:
        """Whether the peer is known to be at this address; if not, somebody is asked."""
        at, seen = self._doubted.get(host, (float("-inf"), False))
        connection = self._session.connection
        if now < at + (_VOUCHED_SECONDS if seen else _DOUBT_SECONDS):
            return seen
        if connection is not None:
            self._doubted[host] = (now, False)
            while len(self._doubted) > control.CANDIDATES_LIMIT:
                self._doubted.pop(next(iter(self._doubted)))
            self._owner.emit(AddressInDoubt(connection, host))
        return False


def _is_seen(candidate: control.Candidate) -> bool:
    return candidate.kind is CandidateKind.REFLEXIVE


def _seen_at(side: Candidates) -> list[str]:
    """The addresses at which somebody saw this side, each once: the first few, for a rendezvous is asked of each."""
    return list(dict.fromkeys(each.endpoint[0] for each in side.items if _is_seen(each)))[:_PLACES]
