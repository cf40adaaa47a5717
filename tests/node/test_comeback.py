from __future__ import annotations

from covey.node.comeback import AFTER_LIMIT, FOR_LIMIT, Comeback


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def half(size: int) -> bytes:
    return bytes([128] * size)


def test_pauses_grow_until_a_session_lasted() -> None:
    clock = Clock()
    comeback = Comeback(clock, half)
    pauses = []
    for _ in range(7):
        comeback.begin()
        pauses.append(comeback.pause())
    assert pauses == [0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0]
    comeback.begin()
    clock.now += 11.0
    assert comeback.pause() == 0.2


def test_restart_is_waited_for_and_then_looked_for_often_and_not_for_ever() -> None:
    clock = Clock()
    comeback = Comeback(clock, half)
    comeback.begin()
    assert comeback.patience is None
    comeback.restarting(3.0, 10.0)
    clock.now += 1000.0  # the session went on
    assert comeback.pause() == 3.0
    clock.now += 3.0
    for _ in range(8):
        comeback.begin()
        assert comeback.patience == 1.0
        clock.now += 1.0
        assert comeback.pause() == 0.25
        clock.now += 0.25
    assert comeback.patience is None
    comeback.restarting(0.0, 10.0)
    comeback.pause()
    assert comeback.patience == 1.0
    comeback.connected()
    assert comeback.patience is None


def test_who_restarts_again_and_again_is_asked_more_rarely() -> None:
    clock = Clock()
    comeback = Comeback(clock, half)
    pauses = []
    for _ in range(6):
        comeback.begin()
        comeback.connected()
        comeback.restarting(0.001, 0.001)
        pauses.append(comeback.pause())
    assert pauses == [0.2, 0.5, 1.0, 2.0, 5.0, 5.0]


def test_rendezvous_cannot_send_us_away_for_long() -> None:
    clock = Clock()
    comeback = Comeback(clock, half)
    comeback.restarting(1e6, 1e6)
    assert comeback.pause() == AFTER_LIMIT
    clock.now += AFTER_LIMIT + FOR_LIMIT
    assert comeback.patience is None
