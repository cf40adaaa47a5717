"""How large a datagram one direction of a path carries: RFC 8899, packetization layer path MTU discovery.

Sizes are UDP payload in bytes, the relay's header included. Data always travels in datagrams of the size that was
confirmed last; what is tried is a padded PING, whose loss is not congestion and loses nothing. One probe is in flight
at a time, and the sizes that links really have come first::

    goal     the largest size of the stage: Ethernet at first, jumbo frames and loopback when the path carries bulk.
             It is hoped for again each time that something else has passed, until it was lost three times
    fence    just above a size that some link has: is the path exactly that? Nearly always, and three small probes
             save all others
    steps    the sizes that links have, upwards
    middle   halves what is left, until the rest is not worth a probe

A size lost three times does not pass. When the search is over it starts again after a while, because routes change:
after 60 s, then after twice as long, up to 10 min, and only if the path has carried enough since for it to pay.

`doubt` is black-hole detection: a size that was confirmed once may pass no more. Falling back costs one round trip of
small datagrams, since the former size is the next to be tried; so a single probe timeout is reason enough.
"""

from __future__ import annotations

from typing import Final

from covey.core import limits

__all__ = ["MtuSearch"]

LINKS: Final = (1280, 1400, 1420, 1460, 1492, 1500, 2044, 4092, 8500, 8896, 9000, 65_536)
"""MTUs that links have, bytes with IP header: IPv6's least, tunnels, WireGuard, Google Cloud, PPPoE, Ethernet,
InfiniBand, transit gateways of AWS, Google Cloud and Azure, jumbo frames (AWS has 9001), loopback."""
GOALS: Final = (1500, 9000, 65_536)
HEADERS: Final = {4: 20 + 8, 6: 40 + 8}
"""Bytes of IP and UDP header, by version of IP."""
TRIES: Final = 3
"""Losses of one size that prove that it is too large (MAX_PROBES of RFC 8899, 5.1.2): with 5 % of random loss one
search in 8000 is wrong, and the next one mends it."""
GRAIN: Final = 32
"""A gain of less than this share is not worth a probe."""
WINDOW_SHARE: Final = 2
"""A probe takes at most this share of the congestion window, or a lost one would hold back the data behind it."""
RAISE_SECONDS: Final = 60.0
RAISE_LIMIT_SECONDS: Final = 600.0
"""RFC 8899 has 600 s (5.1.1). Sooner at first: routes come back as they went."""
BULK: Final = 262_144
"""Bytes that a path must carry for a search beyond Ethernet, or another one, to pay: it costs some 14 kB."""
TALK: Final = 16_384
"""Bytes of bulk that a path must carry for the first search to pay. Handshakes, keepalives and talk do without."""
LOOK_SECONDS: Final = 0.005
"""How long a probe that may not leave yet is put off."""


class MtuSearch:
    """The search for one path. It begins at `limits.INITIAL_MTU`, which every path must carry.

    `next` when `due` has passed gives the size to probe, if one may leave; `on_fate` tells what became of it. `doubt`
    takes the size back. Nothing here is a timer: `due` is looked at when something is sent.
    """

    __slots__ = (
        "_failed",
        "_goal",
        "_goal_losses",
        "_hoping",
        "_losses",
        "_overhead",
        "_paid",
        "_resting",
        "_trying",
        "_unpaid",
        "_wait",
        "due",
        "size",
    )

    def __init__(self, family: int) -> None:
        self.size = limits.INITIAL_MTU
        """Confirmed: bytes of UDP payload that a full datagram has."""
        self.due = 0.0
        """When the next probe may leave, seconds; 0 for at once; infinity while one is in flight."""
        self._overhead = HEADERS[family]
        self._failed = limits.MTU_LIMIT + 1
        """The smallest size that is too large."""
        self._resting = self._unpaid = False
        """The search is over; the next probe is for a path that carries bulk."""
        self._paid = 0
        """What the path had carried when it was last found to carry bulk."""
        self._wait = RAISE_SECONDS
        self._trying = self._losses = 0
        self._goal, self._goal_losses = self._size_on(GOALS[0]), 0
        self._hoping = True
        """The goal is worth a probe: something has passed since it was lost last."""

    def next(self, now: float, carried: int, window: int) -> int:
        """The size to probe now, 0 for none. `carried`: bytes of bulk so far; `window`: of congestion control."""
        if carried < TALK:
            self.due = now + LOOK_SECONDS
            return 0
        size = self._candidate()
        while size == 0 and not self._resting:
            if not self._advance():
                self._resting = self._unpaid = True
                self.due = now + self._wait
                self._wait = min(2 * self._wait, RAISE_LIMIT_SECONDS)
                return 0
            size = self._candidate()
        if self._hoping and size * WINDOW_SHARE > window:
            # What is certain to fit comes first; whatever passes revives the hope.
            self._hoping = False
            size = self._candidate()
        if (self._unpaid and carried < self._paid + BULK) or size * WINDOW_SHARE > window:
            self.due = now + LOOK_SECONDS
            return 0
        if self._unpaid:
            self._paid, self._unpaid = carried, False
        if self._resting:
            self._resting = False
            self._failed = limits.MTU_LIMIT + 1
            self._aim(self._next_goal())
            return self.next(now, carried, window)
        if size != self._trying:
            self._trying, self._losses = size, 0
        self.due = float("inf")
        return size

    def on_fate(self, size: int, *, arrived: bool) -> None:
        """The probe of `size` bytes arrived, or did not."""
        self.due = 0.0
        if arrived:
            self._hoping = True
            self.size = max(self.size, size)
        elif size == self._goal:
            self._hoping = False
            self._goal_losses += 1
            if self._goal_losses >= TRIES:
                self._failed = min(self._failed, size)
        elif size == self._trying:
            self._losses += 1
            if self._losses >= TRIES:
                self._failed = min(self._failed, size)

    def doubt(self) -> bool:
        """What gets lost may have been too large: the initial size from now on. False if that is what it is."""
        before = self.size
        if before <= limits.INITIAL_MTU:
            return False
        self.size = limits.INITIAL_MTU
        self._resting = self._unpaid = False
        self._wait = RAISE_SECONDS
        self._aim(before)
        self.due = 0.0
        return True

    def _candidate(self) -> int:
        """The size to try next; 0 if the goal is reached or nothing below it is worth a probe."""
        size, goal = self.size, self._goal
        end = min(self._failed, goal + 1)
        if self._hoping and size < goal < end:
            return goal
        known = [self._size_on(link) for link in LINKS]
        steps = [step for step in known if size < step < end]
        grain = size // GRAIN
        if size in known and end - size > grain:
            return min([size + grain, *steps])
        if steps:
            return steps[0]
        return (size + end) // 2 if end - size > grain else 0

    def _advance(self) -> bool:
        """Aims at the next stage, if this one was a success and there is another."""
        goal = self._next_goal()
        if not self._goal <= self.size < goal or self._failed - self.size <= self.size // GRAIN:
            return False
        self._aim(goal)
        self._unpaid = goal > self._size_on(GOALS[0])
        return True

    def _aim(self, goal: int) -> None:
        self._goal = goal
        self._goal_losses = 0
        self._hoping = True

    def _next_goal(self) -> int:
        """What the largest datagram of the next stage is; the present size if there is none."""
        return next((goal for goal in map(self._size_on, GOALS) if goal > self.size), self.size)

    def _size_on(self, link: int) -> int:
        return min(link - self._overhead, limits.MTU_LIMIT)
