"""When a session has to give way to a new one, and when its peer's word is over (PROTOCOL 9, 19).

A session lives on what its handshake proved. So the handshake is run again while it works, and the new session takes
over before the old one goes:

==================================== =============== ==================================
reason                               who starts      when
==================================== =============== ==================================
age                                  its initiator   after 11 to 12 hours
age, and its initiator did not       its responder   after 12 to 13 hours
our certificate is not the present   we              soon, ten sessions a second
the peer's keys were superseded      we              at once
epochs or path ids run out           whoever sees it at once
==================================== =============== ==================================

Not sooner than 30 s after the session began, since two handshakes within 15 s count as crossing; and again every few
minutes while it fails. What the peer proved holds as long as its certificate and delegation said *then*: that time is
measured on the clock that never jumps. A superseded peer has 15 s to prove itself anew, a revoked one has none.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Final, Literal

from covey.core import limits
from covey.core.session import Session

__all__ = ["Renewals"]

_SLACK: Final = 64
"""Overtaken entries that may lie in the heap beyond four per session."""


class _Term:
    __slots__ = ("at", "doubted", "ends_at", "renew_at")

    def __init__(self, renew_at: float, ends_at: float) -> None:
        self.renew_at = renew_at
        self.ends_at = ends_at
        self.at = 0.0
        """Which entry of the heap is the one that counts."""
        self.doubted = False


class Renewals:
    """Decides, the endpoint acts: `watch` a verified session, `forget` it when it ends, and ask `due`."""

    def __init__(self, random: Callable[[int], bytes], lifetimes: limits.Lifetimes) -> None:
        self._random = random
        self._lifetimes = lifetimes
        self._terms: dict[Session, _Term] = {}
        self._heap: list[tuple[float, int, Session]] = []
        self._sequence = count()

    def __len__(self) -> int:
        """Sessions that are watched."""
        return len(self._terms)

    def watch(self, now: float, session: Session, holds: float) -> None:
        """A verified session, whose peer's certificate and delegation hold for `holds` more seconds."""
        jitter = limits.RENEW_JITTER_SECONDS * self._share()
        age = self._lifetimes.renew_seconds + (-jitter if session.initiator else jitter)
        self._terms[session] = term = _Term(session.created + age, now + holds)
        self._put(session, term)

    def forget(self, session: Session) -> None:
        self._terms.pop(session, None)

    def want(self, session: Session) -> None:
        """It is worn: a new one as soon as may be."""
        self._want(session, session.created)

    def want_all(self, now: float, sessions: Iterable[Session]) -> None:
        """They show a certificate of ours that is not the present one. Spread, so that nobody is flooded
        with handshakes, ourselves included.
        """
        sessions = list(sessions)
        spread = max(limits.RENEW_SPREAD_SECONDS, len(sessions) / limits.RENEW_RATE)
        for session in sessions:
            self._want(session, now + spread * self._share())

    def doubt(self, session: Session, *, revoked: bool) -> None:
        """The peer's keys are known to be superseded, or its identity to be revoked. Takes effect at the next `due`."""
        term = self._terms.get(session)
        if term is not None and not term.doubted:
            term.doubted = True
            term.renew_at = float("-inf")
            if revoked:
                term.ends_at = float("-inf")
            self._put(session, term)

    def refused(self, session: Session) -> None:
        """The peer answered our new handshake and failed. That matters if it had to prove itself."""
        term = self._terms.get(session)
        if term is not None and term.doubted:
            term.ends_at = float("-inf")
            self._put(session, term)

    def deadline(self) -> float | None:
        """When `due` has something to say, seconds; None for never."""
        heap = self._heap
        while heap and not self._counts(heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[tuple[Session, Literal["renew", "end"]]]:
        """What has to happen now: a new handshake beside this session, or its end."""
        while (at := self.deadline()) is not None and at <= now:
            session = heapq.heappop(self._heap)[2]
            term = self._terms[session]
            if term.ends_at <= now:
                del self._terms[session]
                yield session, "end"
                continue
            if term.doubted:
                term.ends_at = min(term.ends_at, now + limits.DOUBT_SECONDS)
            term.renew_at = now + limits.RENEW_RETRY_SECONDS * (1 + self._share())
            self._put(session, term)
            yield session, "renew"

    def _want(self, session: Session, at: float) -> None:
        term = self._terms.get(session)
        if term is None:
            return
        at = max(at, session.created + limits.RENEW_GAP_SECONDS)
        if at < term.renew_at:
            term.renew_at = at
            self._put(session, term)

    def _put(self, session: Session, term: _Term) -> None:
        term.at = min(term.renew_at, term.ends_at)
        heapq.heappush(self._heap, (term.at, next(self._sequence), session))
        if len(self._heap) > _SLACK + 4 * len(self._terms):
            self._heap = [entry for entry in self._heap if self._counts(entry)]
            heapq.heapify(self._heap)

    def _counts(self, entry: tuple[float, int, Session]) -> bool:
        term = self._terms.get(entry[2])
        return term is not None and term.at == entry[0]

    def _share(self) -> float:
        """Between 0 and 1."""
        return int.from_bytes(self._random(2), "big") / 65_536
