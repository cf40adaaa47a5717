"""What two agents that trust each other cost when nobody says anything: an hour of a pair, by the byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from covey.testing import Link, SimHost, run
from covey.testing.nat import PORT_RESTRICTED, SYMMETRIC, NatKind
from covey.testing.world import World

HOUR: Final = 3600.0
HEADERS: Final = 28
"""Bytes of IPv4 and UDP around each datagram."""
KINDS: Final[dict[str, NatKind | None]] = {"in the open": None, "direct": PORT_RESTRICTED, "relayed": SYMMETRIC}


class Cost(NamedTuple):
    """Of one agent, in both directions."""

    datagrams: int
    payload: int

    @property
    def with_headers(self) -> int:
        return self.payload + HEADERS * self.datagrams

    def __str__(self) -> str:
        return f"{self.datagrams} datagrams, {self.payload} bytes, {self.with_headers} with headers"


async def hour(host: SimHost) -> Cost:
    before = replace(host.traffic)
    await asyncio.sleep(HOUR)
    after = host.traffic
    datagrams = after.sent + after.received - before.sent - before.received
    return Cost(datagrams, after.bytes - before.bytes)


@pytest.mark.parametrize("kind", KINDS)
def test_idle_pair_costs_little_and_then_nothing(
    kind: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Two homes. The second hour has no tunnel any more: what the first costs above it is the pair's."""

    async def scenario() -> None:
        async with World(tmp_path, seed=1, link=Link(latency_s=0.02)) as world:
            await world.start_several("r1", "r2")
            for name in ("a", "b"):
                box = KINDS[kind]
                if box is not None:
                    world.nat(name, box)
                await world.start_node(name, behind=name if box is not None else None)
            await world.befriend("a", "b")
            await world.wait(60.0)
            assert (await world.node("a").send("b", "the last word", wait=30.0)).result == "delivered"
            (peer,) = world.node("a").peers()
            (active,) = (path for path in peer.paths if path.active)
            assert (active.kind == "relay") == (kind == "relayed")

            first, second = [await hour(world.machines["a"].host) for _ in range(2)]
            pair = Cost(first.datagrams - second.datagrams, first.payload - second.payload)
            for name, cost in (("first hour", first), ("each further hour", second), ("the pair", pair)):
                record_property(name, str(cost))
                print(f"{kind}, {name}: {cost}")  # noqa: T201 - figures
            print(f"{kind}: {24e-6 * second.payload:.2f} MB a day, {24e-6 * second.with_headers:.2f} with headers")  # noqa: T201
            assert not any(peer.connected for peer in world.node("a").peers()), "the tunnel is free"
            assert 24 * second.payload <= 1_000_000
            assert pair.with_headers <= 60_000
            assert (await world.node("b").send("a", "the first packet wakes it", wait=5.0)).result == "delivered"

    run(scenario(), seed=1, limit_virtual_s=3 * HOUR)
