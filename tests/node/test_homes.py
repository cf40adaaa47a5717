from __future__ import annotations

import pytest

from covey.base.types import Identity
from covey.node.homes import choose_homes
from covey.testing import Link
from covey.testing.world import World
from tests.node.stage import Play

A, B, C, D = (Identity(bytes([number]) * 32) for number in range(1, 5))


@pytest.mark.parametrize(
    ("case", "homes", "there", "gone", "expected"),
    [
        ("nothing to choose", [A], {A: 0.1}, "", [A]),
        ("a second one is there", [A], {A: 0.1, B: 0.3}, "", [A, B]),
        ("none is known to be gone", [A, B], {}, "", [A, B]),
        ("one is gone", [A, B], {B: 0.1, C: 0.3}, "A", [B, C]),
        ("one is gone and nobody else is there", [A, B], {B: 0.1}, "A", [B, A]),
        ("another is 9 ms nearer", [A, B], {A: 0.010, B: 0.050, C: 0.041}, "", [A, B]),
        ("another is 10 ms nearer", [A, B], {A: 0.010, B: 0.050, C: 0.040}, "", [A, C]),
        ("two others are nearer", [A, B], {A: 0.1, B: 0.2, C: 0.01, D: 0.02}, "", [C, D]),
        ("one other is nearer than both", [A, B], {A: 0.1, B: 0.2, C: 0.01}, "", [A, C]),
        ("another is not measured yet", [A, B], {A: 0.1, B: 0.2, C: None}, "", [A, B]),
        ("a home is not measured yet", [A, B], {A: 0.1, B: None, C: 0.095}, "", [A, B]),
    ],
)
def test_homes_change_only_for_a_reason(
    case: str, homes: list[Identity], there: dict[Identity, float | None], gone: str, expected: list[Identity]
) -> None:
    assert choose_homes(homes, there, {A} if gone else set()) == expected, case


def test_choice_is_stable() -> None:
    there: dict[Identity, float | None] = {A: 0.030, B: 0.035, C: 0.028, D: 0.026}
    homes = choose_homes([A, B], there, set())
    assert choose_homes(homes, there, set()) == homes


def test_the_two_nearest_become_homes_and_stay(play: Play) -> None:
    async def scenario(world: World) -> None:
        servers = await world.start_several("far", "middle", "near")
        machine = world.place("a")
        for server, latency in zip(servers, (0.08, 0.04, 0.01), strict=True):
            world.network.set_link(machine.host.ip, server.host.ip, Link(latency_s=latency, jitter_s=0.002))
        await machine.start()
        nearest = {server.server.identity for server in servers[1:]}
        announcement = machine.node._running.announcement
        await world.until(lambda: set(announcement.homes) == nearest)
        assert world.network.loop.time() < 90.0
        changes = 0
        for _ in range(60):
            before = list(announcement.homes)
            await world.wait(60.0)
            changes += before != announcement.homes
        assert changes == 0

    play(scenario, limit_s=7200.0)
