"""Which paths of a session still carry data: what is suspect, dead, or asked again; and when that is to be looked at.

Death is judged on data (PROTOCOL 29): *suspect* when data waited too long for an acknowledgement, which moves it to the
best other path; *dead* when the path stays silent. Paths in reserve are challenged now and then while data flows
(`recheck.py`): one that does not answer is dead, too, and not found to be so when it is needed. When no path answers,
the session is stalled, and ends if that goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from covey.core import limits, recheck
from covey.core.events import LastPathSuspected

if TYPE_CHECKING:
    from covey.core.path import Path
    from covey.core.paths import Paths
    from covey.core.session import Session, SessionOwner

__all__ = ["Judging"]


class Judging:
    """Made by the `Paths` of a session, which it tells what to remove and when to move on.

    Calls: `deadline` and `expire`; `leave` a path that carries nothing, as is known already; `ask` one that is there.
    """

    __slots__ = ("_owner", "_paths", "_session", "_was_offline")

    def __init__(self, paths: Paths, session: Session, owner: SessionOwner) -> None:
        self._paths = paths
        self._session = session
        self._owner = owner
        self._was_offline = False

    def leave(self, now: float, path: Path) -> None:
        """Data on `path` gets no answer: it goes on over the best other path, if there is one."""
        news = not path.suspect
        if news:
            path.suspect = True
            path.suspect_since = now
            path.failures += 1
            path.doubt_mtu()
            self._paths.settle_bulk()
            # Perhaps it is we who moved: then no relay forwards what we send until it knows where we are.
            for each in self._paths.present:
                if each.route.relayed:
                    self._owner.relays_used.suspected(each.route.remote)
        self.ask(now, path)
        others = [other for other in self._paths.present if other is not path and not other.suspect]
        if not others:
            self._was_offline = True
            if news and self._session.connection is not None:
                self._owner.emit(LastPathSuspected(self._session.connection))
            return
        self._session.lost(path, path.abandon())
        if path is self._paths.active:
            self._paths.switch(others)
        self._paths.changed()

    def ask(self, now: float, path: Path) -> None:
        """Challenges a path that is there."""
        self._paths.proving.challenge(now, path.route)
        path.unanswered += 1
        path.recheck_at = now + recheck.pause(path)

    # --- time ------------------------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When `expire` is due, seconds; infinity for never."""
        due = float("inf")
        active = self._paths.active
        for path in self._paths.present:
            recovery, lane = path.recovery, path.lane
            if path is not active or path.suspect:
                at = path.recheck_at
                if at < due and (path.suspect or at <= self._kept_until):
                    due = at
            if path.narrow is not None or (lane is not None and lane.narrow is not None):
                due = min(due, self._narrow_at(path))
            if recovery.outstanding:
                probe_at = recovery.deadline()
                if probe_at is not None and probe_at < due:
                    due = probe_at
                since = recovery.oldest_unacked_at
                if since is not None:
                    due = min(due, since + self._patience(path))
            elif path.suspect and path is not active and not self._offline:
                due = min(due, path.suspect_since + self._patience(path))
            if lane is not None:
                probe_at = lane.recovery.deadline()
                if probe_at is not None and probe_at < due:
                    due = probe_at
        return min(due, self._paths.proving.deadline())

    def expire(self, now: float) -> None:
        """Judges every path, and probes what it is time to probe. May end or stall the session."""
        if self._was_offline and not self._offline:
            self._came_back(now)
        for path in list(self._paths.present):
            if path.lane is not None:
                self._expire_lane(now, path.lane)
            if now >= self._narrow_at(path):
                self._on_narrow(now, path)
            self._expire_path(now, path)
            if self._session.ended:
                return
        self._recheck(now)
        self._paths.proving.expire(now)

    def _came_back(self, now: float) -> None:
        """No path answered, and one does again: the others get their time to do so, too."""
        self._was_offline = False
        for path in self._paths.present:
            if path.suspect:
                path.suspect_since = now
                path.unanswered = 0
                self.ask(now, path)

    @property
    def _kept_until(self) -> float:
        """How long paths in reserve are kept warm, as far as we know now."""
        connection = self._session.connection
        if connection is None or connection.session is not self._session or not self._session.verified:
            return float("-inf")
        return connection.last_used + limits.ACTIVE_SECONDS

    def _recheck(self, now: float) -> None:
        """Challenges the paths that are in doubt or in reserve, when it is time; removes reserves that are dead."""
        kept_until = self._kept_until
        for path in list(self._paths.present):
            if path.recheck_at > now:
                continue
            if path.suspect:
                self.ask(now, path)
            elif path is not self._paths.active and path.recheck_at <= kept_until:
                if path.unanswered >= recheck.ANSWERS_MISSED:
                    self._paths.remove(path)
                else:
                    self.ask(now, path)

    def _narrow_at(self, path: Path) -> float:
        """When a path that seems to carry only small datagrams is suspect; infinity for never."""
        due = float("inf")
        for each in (path, path.lane):
            if each is not None and each.narrow is not None and each.narrow.suspicious:
                due = min(due, each.narrow.since + self._patience(path))
        return due

    def _on_narrow(self, now: float, path: Path) -> None:
        """First smaller datagrams, if they are large; then another path. Only a challenge of full size revives it."""
        path.narrow = None
        if path.lane is not None:
            path.lane.narrow = None
        if not path.doubt_mtu() and not path.suspect:
            self.leave(now, path)

    def _expire_lane(self, now: float, lane: Path) -> None:
        """What gets no answer on a lane is sent again on the path itself, which is judged by it, not the lane."""
        recovery = lane.recovery
        at = recovery.deadline()
        if at is not None and now >= at and not (self._owner.unread and recovery.awaits_reading(now)):
            lost = recovery.on_deadline(now)
            lane.weigh_sizes(now, [], lost)
            self._session.lost(lane, lost)
            if recovery.probes:
                recovery.probes = 0
                lane.failures += 1
                if lane.failures > 1:  # once may be a process that did not run
                    lane.suspect = True
                    lane.suspect_since = now
                self._session.lost(lane, recovery.abandon())

    def _expire_path(self, now: float, path: Path) -> None:
        recovery = path.recovery
        at = recovery.deadline()
        if at is not None and now >= at and not (self._owner.unread and recovery.awaits_reading(now)):
            lost = recovery.on_deadline(now)
            path.weigh_sizes(now, [], lost)
            self._session.lost(path, lost)
            if recovery.probes and recovery.outstanding_beyond(limits.INITIAL_MTU):
                # What asks for an answer now must pass where large datagrams no longer do.
                path.doubt_mtu()
            if recovery.probes and path is not self._paths.active and path is not self._paths.bulk:
                recovery.probes = 0
                self.ask(now, path)
        since = recovery.oldest_unacked_at
        if since is None or not recovery.outstanding:
            patience_ends = path.suspect_since + self._patience(path)
            if path.suspect and path is not self._paths.active and now >= patience_ends and not self._offline:
                self._paths.proving.lost(now, path.route)
                self._paths.remove(path)
            return
        if now < since + self._patience(path):
            return
        if recovery.outstanding_beyond(limits.INITIAL_MTU) and path.doubt_mtu():
            # Perhaps the path is fine, and only too narrow: data that follows closely keeps the probe timeout away.
            recovery.revive(now)
            self._session.wake()
            return
        if not path.suspect:
            self.leave(now, path)
            return
        if path is self._paths.active:
            self.leave(now, path)
        if path is not self._paths.active:
            self._paths.proving.lost(now, path.route)
            self._paths.remove(path)
        elif not self._paths.stalled:
            self._paths.stall(now)
        elif now >= since + limits.STALLED_SECONDS:
            self._session.end_idle(now, "no answer")

    def _patience(self, path: Path) -> float:
        """How long unacknowledged data may wait until the next judgement of its path (PROTOCOL 29)."""
        if self._paths.stalled:
            return limits.STALLED_SECONDS
        pto = path.recovery.rtt.pto()
        if path.suspect:
            # Of a core that cannot keep up the answers wait in its sockets: by its own delay it judges nobody dead.
            return max(3 * pto, limits.DEAD_SECONDS) + (limits.READING_SECONDS if self._owner.unread else 0.0)
        return max(2 * pto, limits.SUSPECT_SECONDS)

    @property
    def _offline(self) -> bool:
        """No path answers."""
        return all(path.suspect for path in self._paths.present)
