from __future__ import annotations

import pytest

from covey.base.types import Identity
from covey.core import relay_queue
from covey.core.path import Route
from covey.core.relay_queue import QUANTUM, Forward, RelayQueue

ROUTE = Route(0, ("10.0.0.1", 4000))


def client(number: int) -> Identity:
    return Identity(bytes([number]) * 32)


def run(size: int, mark: int = 0) -> Forward:
    return Forward(ROUTE, bytes([mark]) * size, size)


def test_one_client_is_served_in_order() -> None:
    queue = RelayQueue()
    assert queue.take() is None
    for mark in range(5):
        assert queue.put(client(1), run(100, mark))
    assert [queue.take() for _ in range(5)] == [run(100, mark) for mark in range(5)]
    assert not queue
    assert queue.take() is None


def test_clients_share_by_bytes_and_not_by_runs() -> None:
    """One sends trains of 60,000 bytes, the other single datagrams of 1,000."""
    queue = RelayQueue()
    for _ in range(10):
        assert queue.put(client(1), run(60_000, 1))
    for _ in range(600):
        assert queue.put(client(2), run(1_000, 2))
    sent = {1: 0, 2: 0}
    while sum(sent.values()) < 1_000_000:
        forward = queue.take()
        assert forward is not None
        sent[forward.data[0]] += len(forward.data)
        assert abs(sent[1] - sent[2]) <= 3 * QUANTUM
    assert queue


def test_who_fills_the_queue_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_queue, "QUEUE_BYTES", 1_000_000)
    queue = RelayQueue()
    while queue.put(client(1), run(10_000)):
        pass
    held = 0
    while queue.put(client(2), run(10_000)):
        held += 10_000
    assert 400_000 < held < 500_000, "half of it, and no more"
    assert not queue.put(client(1), run(10_000))
    assert queue.put(client(3), run(10_000))


def test_queue_is_bounded_whoever_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_queue, "QUEUE_BYTES", 100_000)
    queue = RelayQueue()
    taken = 0
    for number in range(100):
        while queue.put(client(number), run(500)):
            taken += 1
    assert 100_000 < taken * 756 <= 200_000
    while queue.take() is not None:
        taken -= 1
    assert (taken, queue._size) == (0, 0)
    assert not queue._lines


def test_client_that_is_held_back_waits_alone_and_comes_back_in_order() -> None:
    queue = RelayQueue()
    for mark in (1, 2):
        assert queue.put(client(1), run(100, mark))
        assert queue.put(client(2), run(100, mark))
    assert queue.turn() == client(1)
    queue.hold(client(1), 5.0)
    assert queue.put(client(1), run(100, 3))
    assert queue.has(client(1))
    assert [queue.take() for _ in range(3)] == [run(100, 1), run(100, 2), None]
    assert not queue
    assert queue.deadline() == 5.0
    queue.release(4.9)
    assert not queue
    queue.release(5.0)
    assert queue.deadline() is None
    assert [queue.take() for _ in range(3)] == [run(100, mark) for mark in (1, 2, 3)]
    assert not queue.has(client(1))


@pytest.mark.parametrize("held", [False, True])
def test_what_a_client_left_behind_goes_with_it(held: bool) -> None:
    queue = RelayQueue()
    for _ in range(3):
        assert queue.put(client(1), run(100))
    assert queue.put(client(2), run(50))
    if held:
        queue.hold(client(1), 1.0)
    assert queue.forget(client(1)) == 300
    assert queue.forget(client(1)) == 0
    queue.release(9.0)
    assert [queue.take(), queue.take()] == [run(50), None]
    assert queue._size == 0


def test_one_client_has_only_so_much_waiting_where_that_is_said() -> None:
    queue = RelayQueue()
    assert queue.put(client(1), run(60_000), 1000), "one run always"
    assert not queue.put(client(1), run(100), 1000)
    assert queue.put(client(2), run(100), 1000)
