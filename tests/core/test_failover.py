"""How long an exchange of questions and answers stops when its path does, with bulk beside it: spread over seeds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from covey.core import limits, recheck
from covey.core.path import Route
from tests.core.failover import R1, R2, RELAYS, A, B, C, Exchange, World

WARM_S = 1.0
UPLINK_S = 3.0


def cut(world: World) -> None:
    world.direct = False


def black_hole(world: World) -> None:
    world.narrow = 200


def relay_dies(world: World) -> None:
    world.cut.add(world.session(world.a, world.b).active.route.remote)


def every_rendezvous_dies(world: World) -> None:
    world.cut.update(RELAYS)


def answers_vanish(world: World) -> None:
    before = world.wire.blocked
    world.wire.blocked = lambda source, target: before(source, target) or (source == B and target == A)


def first_moves(world: World) -> None:
    world.move(world.a, C, notice=False)


def second_moves(world: World) -> None:
    world.move(world.b, C, notice=False)


def first_moves_and_knows(world: World) -> None:
    world.move(world.a, C, notice=True)


FAILURES: dict[str, tuple[Callable[[World], None], bool, float]] = {
    "cut": (cut, True, WARM_S),
    "black hole": (black_hole, True, WARM_S),
    "relay": (relay_dies, False, WARM_S),
    "rendezvous": (every_rendezvous_dies, True, 0.2),
    "one way": (answers_vanish, True, WARM_S),
    "uplink of the first": (first_moves, True, UPLINK_S),
    "uplink of the second": (second_moves, True, UPLINK_S),
    "uplink, noticed": (first_moves_and_knows, True, WARM_S),
}


@pytest.mark.parametrize("name", FAILURES)
def test_gap_of_an_exchange_beside_bulk_is_short_and_nothing_is_lost_or_doubled(name: str) -> None:
    fail, direct, limit = FAILURES[name]
    gaps = []
    for seed in range(3):
        world = World(seed, direct=direct, delay=(0.01, 0.05)[seed % 2])
        exchange = Exchange(world)
        world.wire.run(3 + world.random.random())
        assert world.session(world.a, world.b).active.route.relayed is not direct
        exchange.reset()
        fail(world)
        world.wire.run(4)
        gaps += [exchange.gap, exchange.bulk_gap]
        exchange.finish()
    assert max(gaps) < limit, gaps


@pytest.mark.parametrize("delay", [0.0003, 0.01, 0.05])
def test_questions_that_grow_together_do_not_stay_in_a_black_hole(delay: float) -> None:
    """Single ones pass, and their acknowledgements; what is repeated shares a datagram with the next, and is lost."""
    gaps = []
    for seed in range(3):
        world = World(seed, delay=delay)
        exchange = Exchange(world, steady=True)
        world.wire.run(3 + world.random.random())
        exchange.reset()
        world.narrow = 172
        world.wire.run(6)
        gaps.append(exchange.gap)
        exchange.finish()
    assert max(gaps) < WARM_S, gaps


# --- paths in reserve -----------------------------------------------------------------------------------------------


def test_paths_in_reserve_are_challenged_while_data_flows_and_not_after() -> None:
    world = World(2)
    exchange = Exchange(world, rate=0, pause=0.5)
    world.wire.run(5)
    probes: list[float] = []

    def tap(source: tuple[str, int], target: tuple[str, int], datagram: bytes) -> bytes:
        if source == A and target in RELAYS and datagram[0] == 5 and datagram[9] == limits.PROBE_PATH:
            probes.append(world.wire.now)
        return datagram

    world.wire.tap = tap
    world.wire.run(4 * limits.WARM_SECONDS)
    # Ours and answers to the peer's, on both relays.
    assert 12 <= len(probes) <= 20
    exchange.finish()
    world.wire.run(limits.ACTIVE_SECONDS + limits.WARM_SECONDS)
    probes.clear()
    world.wire.run(300)
    assert not probes


def test_path_in_reserve_that_answers_no_more_is_gone_before_it_is_needed() -> None:
    world = World(3)
    Exchange(world, rate=0, pause=0.1)
    world.wire.run(5)
    world.cut.add(R1)
    world.wire.run(limits.WARM_SECONDS + recheck.ANSWERS_MISSED)
    for here, there in ((world.a, world.b), (world.b, world.a)):
        assert {path.route.remote for path in world.session(here, there).paths if path.route.relayed} == {R2}


def test_after_an_outage_of_everything_the_first_path_that_works_is_used_at_once() -> None:
    world = World(4)
    exchange = Exchange(world)
    world.wire.run(4)
    world.cut.update((A, B))
    world.wire.run(20)
    world.cut.clear()
    exchange.reset()
    healed = world.wire.now
    assert world.wire.run(5, until=lambda: exchange.answered_at > healed)
    assert world.wire.now - healed < 2.5
    exchange.finish()
    assert Route(0, B) in {path.route for path in world.session(world.a, world.b).paths}


def test_offered_route_is_asked_for_again_when_the_challenge_was_lost() -> None:
    lost: list[float] = []

    def tap(source: tuple[str, int], target: tuple[str, int], datagram: bytes) -> bytes | None:
        if source == A and target == B and len(lost) < 2:
            lost.append(world.wire.now)
            return None
        return datagram

    world = World(5, direct=False)
    world.direct, world.boxes = True, False
    world.wire.tap = tap
    world.a.endpoint.offer_routes(world.wire.now, world.connection, [Route(0, B)])
    world.wire.run(2)
    assert len(lost) == 2
    assert Route(0, B) in {path.route for path in world.session(world.a, world.b).paths}
