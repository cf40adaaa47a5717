from __future__ import annotations

import pytest

from covey.core.prediction import FIRST_PORT, PORT_COUNT, REACH, around, newest, walk


class Counter:
    """A NAT that counts: a new port for every destination."""

    def __init__(self, last: int, step: int, unseen: int) -> None:
        self.port, self.step = last, step
        for _ in range(unseen):
            self._count()

    def _count(self) -> int:
        self.port = FIRST_PORT + (self.port - FIRST_PORT + self.step) % PORT_COUNT
        return self.port

    def send(self, targets: list[int]) -> list[tuple[int, int]]:
        """(our port, the target) of each packet."""
        return [(self._count(), target) for target in targets]


@pytest.mark.parametrize(("step", "expected"), [(1, 5003), (2, 5003), (-1, 5000), (-3, 5000)])
def test_newest_port_is_the_farthest_in_the_direction_of_the_count(step: int, expected: int) -> None:
    assert newest([5001, 5003, 5000], step) == expected


def test_newest_port_may_be_one_that_began_anew() -> None:
    assert newest([65_534, 1025, 65_535], 1) == 1025
    assert newest([1025, 65_534, 1024], -1) == 65_534


@pytest.mark.parametrize("step", [1, -1, 2, 7, -300])
def test_ports_around_hold_what_the_next_mappings_and_the_last_ones_get(step: int) -> None:
    ports = around(30_000, step)
    assert len(ports) == 2 * REACH
    assert {30_000 + step * far for far in range(1, REACH + 1)} <= set(ports)
    assert {30_000 - step * far for far in range(1, REACH + 1)} <= set(ports)
    assert ports[0] == 30_000 + step


def test_ports_around_the_last_of_all_are_ports() -> None:
    for last in (1024, 1030, 65_535):
        ports = around(last, 1)
        assert len(ports) == 2 * REACH
        assert all(1024 <= port <= 65_535 for port in ports)


@pytest.mark.parametrize("step", [(1, 1), (2, -1), (-4, 1)])
@pytest.mark.parametrize("slow_unseen", range(0, 24, 4))
@pytest.mark.parametrize("fast_unseen", range(0, 20, 4))
def test_two_walks_meet_however_far_the_counters_moved(
    step: tuple[int, int], slow_unseen: int, fast_unseen: int
) -> None:
    slow, fast = Counter(20_000, step[0], slow_unseen), Counter(65_500, step[1], fast_unseen)
    there = slow.send(walk(65_500, step[1], pace=1))
    back = fast.send(walk(20_000, step[0], pace=2))
    met = set(there) & {(target, port) for port, target in back}
    assert there[slow_unseen + 2 * fast_unseen] in met


def test_two_walks_of_one_pace_would_pass_each_other() -> None:
    there = Counter(20_000, 1, 1).send(walk(40_000, 1, pace=1))
    back = Counter(40_000, 1, 2).send(walk(20_000, 1, pace=1))
    assert not set(there) & {(target, port) for port, target in back}
