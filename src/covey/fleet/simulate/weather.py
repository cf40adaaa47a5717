"""What happens to a fleet from outside, drawn beforehand from a seed: spot agents are taken back, a cloud dies, prices
change, room is short.

Spot: each zone is struck at random, so many times per hour on average; then every spot agent in it has 30 s, and for
ten minutes the zone gives no new one. So an offering is struck 5 % of all hours at the default, and the offerings of a
zone are struck together.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import msgspec

from covey.base.errors import ParseError
from covey.fleet.simulate.market import Market
from covey.fleet.simulate.world import World

__all__ = ["PREEMPTIONS", "Kill", "Weather", "kills_of", "parse_kill"]

PREEMPTIONS = 0.05
"""Per spot agent and hour (FLEET section 4)."""
NOTICE = 30.0
"""Seconds between the notice and the end of a spot agent (Azure and GCP; AWS gives 120)."""
DROUGHT = 600.0
"""Seconds for which a zone that took agents back gives none."""


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """A cloud that dies: its control and all its agents at once."""

    cloud: str
    at: float
    lasts: float | None = None
    """Seconds until its control answers again, with no agents left; None: it stays dead."""


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """All of it for one run."""

    preemptions: float = PREEMPTIONS
    kills: tuple[Kill, ...] = ()
    capacity: dict[str, int] = {}
    """By pool, or by an offering's key: how many agents it holds at most."""

    def install(self, world: World, market: Market, seconds: int, seed: int) -> None:
        """Put everything that will happen on the world's calendar."""
        for change in market.changes:
            if change.at < seconds:
                world.at(change.at, lambda c=change: world.price(c.offering, c.price))  # type: ignore[misc]
        for name, room in self.capacity.items():
            for offering in market.offerings:
                if name in (offering.key, offering.pool):
                    world.room[name] = room
        zones = sorted({(o.pool, o.zone) for o in market.offerings if o.spot})
        for pool, zone in zones if self.preemptions > 0 else ():
            draw = random.Random(f"weather/{seed}/{pool}/{zone}")
            at = draw.expovariate(self.preemptions / 3600)
            while at < seconds:
                when = float(round(at))
                world.at(when, lambda p=pool, z=zone: world.strike(p, z, NOTICE, DROUGHT))  # type: ignore[misc]
                at += draw.expovariate(self.preemptions / 3600)
        for kill in self.kills:
            pools = tuple(dict.fromkeys(o.pool for o in market.offerings if o.cloud == kill.cloud))
            world.at(kill.at, lambda p=pools: world.kill(p))  # type: ignore[misc]
            if kill.lasts is not None:
                world.at(kill.at + kill.lasts, lambda p=pools: world.revive(p))  # type: ignore[misc]


KILL = re.compile(
    r"(?P<cloud>[A-Za-z0-9_.-]{1,64})@(?P<at>\d{1,3}:\d{2}(?::\d{2})?|\d{1,7}s?)(?:\+(?P<lasts>\d{1,6})(?P<unit>[smh]?))?"
)
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_kill(text: str) -> Kill:
    """`aws@12:00`, `aws@12:00+30m`, `aws@5400`: the time from the trace's first second."""
    found = KILL.fullmatch(text)
    if found is None:
        raise ParseError(f"{text[:60]!r} names no death of a cloud", next_step="write aws@12:00 or aws@12:00+30m")
    at = found["at"].removesuffix("s")
    seconds = 0
    for part in at.split(":"):
        seconds = seconds * 60 + int(part)
    if at.count(":") == 1:
        seconds *= 60
    lasts = int(found["lasts"]) * UNITS[found["unit"]] if found["lasts"] else None
    return Kill(cloud=found["cloud"], at=float(seconds), lasts=None if lasts is None else float(lasts))


def kills_of(texts: Sequence[str], market: Market) -> tuple[Kill, ...]:
    """Several, each of a cloud that the market has."""
    clouds = {offering.cloud for offering in market.offerings}
    kills = tuple(parse_kill(text) for text in texts)
    for kill in kills:
        if kill.cloud not in clouds:
            raise ParseError(
                f"no pool is in cloud {kill.cloud!r}", next_step=f"clouds here: {', '.join(sorted(clouds))}"
            )
    return kills
