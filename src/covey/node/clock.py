"""What time it is, on a machine whose clock may be wrong (PROTOCOL 9).

now = max(wall clock, what is certain). Certain is a time that an earlier run persisted, or the date of this version,
whichever is later; it goes on with the monotonic clock, which no program sets and which counts suspend. So a wall clock
that is set back, while we run or before a start, revives nothing that had expired.

A wall clock that is *ahead* of what is certain by some lead is used at once, because nothing expired may be accepted;
but it is *believed*, made certain and persisted, only after it has kept that lead while we ran for as long as the lead,
or for a day. A clock that shows 2050 for an hour so does damage for an hour, and not for ever: what is certain never
moved. One that is wrong for more than a day is believed; `trust_wall` is the owner's word against it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from covey.base.constants import CLOCK_SKEW_SECONDS, RELEASE_US
from covey.net.host import Host

__all__ = ["BELIEVE_SECONDS", "Clock", "date_text"]

BELIEVE_SECONDS: Final = 86_400.0
"""After so long of steady running any lead of the wall clock is believed."""

_STEP_US: Final = CLOCK_SKEW_SECONDS * 1_000_000
"""Smaller steps are what NTP does, and what every check tolerates anyway."""


class Clock:
    """`floor_us` is what an earlier run persisted, microseconds. Call `settle` about once a minute."""

    def __init__(self, host: Host, floor_us: int = 0, *, trust_wall: bool = False) -> None:
        self._host = host
        floor_us = host.wall_us() if trust_wall else floor_us
        self._certain_us = max(floor_us, RELEASE_US)
        self._at = self._since = host.now()
        self._lead_us = self._usual_us = self._present_lead_us

    def now_us(self) -> int:
        """Microseconds since the epoch, for everything that is checked."""
        return max(self._host.wall_us(), self.certain_us)

    @property
    def certain_us(self) -> int:
        """It is at least this late, microseconds."""
        return self._certain_us + round((self._host.now() - self._at) * 1e6)

    @property
    def behind_us(self) -> int:
        """How far the wall clock is behind what is certain, if that is more than skew; else 0."""
        lead_us = self._present_lead_us
        return -lead_us if lead_us < -_STEP_US else 0

    @property
    def jumped_us(self) -> int:
        """How far the wall clock jumped ahead while we ran, if that is not believed yet; else 0."""
        step_us = self._present_lead_us - max(self._usual_us, 0)
        return step_us if step_us > _STEP_US else 0

    def settle(self) -> int:
        """Looks at the wall clock, and believes it when it is time; what is certain, to be persisted."""
        now, lead_us = self._host.now(), self._present_lead_us
        self._certain_us, self._at = self.certain_us, now
        if abs(lead_us - self._lead_us) > _STEP_US:
            self._lead_us, self._since = lead_us, now
            self._usual_us = min(self._usual_us, lead_us)
        elif lead_us > 0 and now - self._since >= min(lead_us / 1e6, BELIEVE_SECONDS):
            self._certain_us += lead_us
            self._lead_us = self._usual_us = 0
            self._since = now
        return self._certain_us

    @property
    def _present_lead_us(self) -> int:
        return self._host.wall_us() - self.certain_us


def date_text(us: int) -> str:
    """`2026-01-31 12:00 UTC`; as far as Python's calendar goes."""
    limited = min(max(us, 0), int(datetime.max.replace(tzinfo=UTC).timestamp() - 1) * 1_000_000)
    return datetime.fromtimestamp(limited / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
