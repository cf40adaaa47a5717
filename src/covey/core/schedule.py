"""The one heap of deadlines: when which session wants to be looked at (PROTOCOL 26)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count

from covey.core.limits import REST_SECONDS
from covey.core.rtt import MAX_ACK_DELAY
from covey.core.session import Session

__all__ = ["Schedule"]

_SLACK = 64
"""Overtaken entries that may lie in the heap beyond four per session."""


class Schedule:
    """A session's deadline is asked for once per turn in which it was touched, not at every change.

    An entry may be earlier than what the session wants by now: then it is looked at in vain, once, and put back. A
    session that has nothing to do for a while is looked at for no other reason than to let it rest. An
    entry overtaken by an earlier one, or of a session that ended, is dropped when it is met.
    """

    __slots__ = ("_heap", "_sequence", "_touched")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Session]] = []
        self._sequence = count()
        self._touched: dict[Session, None] = {}

    def __len__(self) -> int:
        """Entries in the heap, the overtaken ones too."""
        return len(self._heap)

    @property
    def settled(self) -> bool:
        return not self._touched

    def touch(self, session: Session) -> None:
        """Something happened to it: its deadline may be another one."""
        self._touched[session] = None

    def settle(self, sessions: int, now: float) -> None:
        """Puts the deadlines of what was touched into the heap; there are `sessions` sessions altogether.

        A session that is looked at within 5 ms anyway is not asked again, unless it is in a hurry: what ordinary
        traffic moves (an acknowledgement, a probe timeout) is due no sooner. So a busy session is asked 200 times a
        second and not for every packet.
        """
        if not self._touched:
            return
        soon, rest_at = now + MAX_ACK_DELAY, now + REST_SECONDS
        for session in self._touched:
            scheduled = session.scheduled
            if session.ended or (scheduled is not None and scheduled <= soon and not session.in_hurry):
                continue
            due = session.deadline()
            if (due is None or due > rest_at) and not session.epochs.resting:
                due = rest_at
            if due is not None and (scheduled is None or due < scheduled):
                session.scheduled = due
                heapq.heappush(self._heap, (due, next(self._sequence), session))
        self._touched.clear()
        if len(self._heap) > _SLACK + 4 * sessions:
            self._heap = [entry for entry in self._heap if self._is_current(entry)]
            heapq.heapify(self._heap)

    def next(self) -> float | None:
        """The earliest deadline, seconds; None for none."""
        heap = self._heap
        while heap and not self._is_current(heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[Session]:
        """The sessions whose deadline has passed, each touched."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            entry = heapq.heappop(heap)
            if not self._is_current(entry):
                continue
            session = entry[2]
            session.scheduled = None
            self._touched[session] = None
            due = session.deadline()
            if due is not None and due <= now:
                yield session
            else:
                session.rest(now)

    @staticmethod
    def _is_current(entry: tuple[float, int, Session]) -> bool:
        at, _, session = entry
        return not session.ended and session.scheduled == at
