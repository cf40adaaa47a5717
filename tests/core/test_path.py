from __future__ import annotations

import pytest

from covey.core import limits
from covey.core.cubic import Cubic
from covey.core.path import Path, Route

REMOTE = ("10.0.0.2", 4000)


def test_route_of_a_relay_costs_eight_bytes() -> None:
    assert (Route(0, REMOTE, 7).outer, Route(0, REMOTE, 7).relayed) == (8, True)
    assert (Route(0, REMOTE).outer, Route(0, REMOTE).relayed) == (0, False)


def test_path_begins_with_the_size_every_path_must_carry() -> None:
    path = Path(3, Route(0, REMOTE), 5.0, Cubic(limits.INITIAL_MTU))
    assert (path.id, path.counter, path.mtu, path.suspect) == (3, 0, limits.INITIAL_MTU, False)
    assert path.last_sent == 5.0


@pytest.mark.parametrize(
    ("passes", "tried", "found"),
    [
        (1200, [1280, 1280, 1280], 1200),
        (1280, [1280, 1400, 1400, 1400], 1280),
        (1400, [1280, 1400, 1452, 1452, 1452], 1400),
        (9000, [1280, 1400, 1452], 1452),
    ],
)
def test_path_climbs_the_ladder_and_gives_up_after_three_tries(passes: int, tried: list[int], found: int) -> None:
    path = Path(0, Route(0, REMOTE), 0.0, Cubic(limits.INITIAL_MTU))
    sizes = []
    while (size := path.next_mtu_probe()) is not None:
        sizes.append(size)
        path.mtu_probe = size
        path.on_mtu_probe(size, arrived=size <= passes)
        assert path.mtu_probe == 0
    assert sizes == tried
    assert path.mtu == path.recovery.congestion.datagram == found


def test_path_does_not_shrink_for_an_old_probe() -> None:
    path = Path(0, Route(0, REMOTE), 0.0, Cubic(limits.INITIAL_MTU))
    path.on_mtu_probe(1400, arrived=True)
    path.on_mtu_probe(1280, arrived=True)
    assert path.mtu == 1400


def test_path_shrinks_when_its_datagrams_may_be_too_large() -> None:
    path = Path(0, Route(0, REMOTE), 0.0, Cubic(limits.INITIAL_MTU))
    path.shrink(1.0)
    assert path.mtu_probe_at == 0.0
    path.on_mtu_probe(1452, arrived=True)
    path.shrink(10.0)
    assert path.mtu == path.recovery.congestion.datagram == limits.INITIAL_MTU
    assert path.mtu_probe_at == 10.0 + limits.MTU_RETRY_SECONDS
