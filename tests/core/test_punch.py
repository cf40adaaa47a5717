from __future__ import annotations

import pytest

from covey.core import limits
from covey.core.path import Route
from covey.core.punch import PunchRound

ROUTES = [Route(0, ("10.0.0.1", 1)), Route(0, ("10.0.0.2", 2))]


def times(punch: PunchRound, until: float) -> list[float]:
    """When pairs are probed, as a driver calls it: at every deadline."""
    found, now = [], 0.0
    while (at := punch.deadline()) is not None and max(at, now) <= until:
        now = max(at, now)
        if punch.due(now, lambda: ROUTES):
            found.append(now)
    return found


def test_round_follows_the_schedule() -> None:
    punch = PunchRound()
    assert punch.deadline() is None
    assert not punch.running
    punch.start_soon(ROUTES)
    assert punch.running
    assert times(punch, 100.0) == list(limits.PROBE_SCHEDULE)
    assert not punch.running
    assert punch.deadline() is None


def test_round_gives_the_routes_that_are_left() -> None:
    punch = PunchRound()
    punch.start_soon(ROUTES)
    assert punch.due(0.0, lambda: ROUTES) == ROUTES
    assert punch.due(0.01, lambda: ROUTES) == []
    assert punch.due(0.033, lambda: ROUTES[:1]) == ROUTES[:1]


def test_no_routes_are_no_round() -> None:
    punch = PunchRound()
    punch.start_soon([])
    assert not punch.running
    assert punch.deadline() is None


def test_running_round_goes_on_until_the_next_may_begin() -> None:
    """Never sooner than five seconds after the last one, and nothing is left out in between."""
    punch = PunchRound()
    punch.start_soon(ROUTES)
    punch.due(0.0, lambda: ROUTES)
    punch.start_soon(ROUTES)
    expected = [at for at in limits.PROBE_SCHEDULE if 0.0 < at < 5.0] + [5.0 + at for at in limits.PROBE_SCHEDULE]
    assert times(punch, 100.0) == pytest.approx(expected)


def test_round_later_than_five_seconds_begins_at_once() -> None:
    punch = PunchRound()
    punch.start_soon(ROUTES)
    times(punch, 10.0)
    punch.start_soon(ROUTES)
    deadline = punch.deadline()
    assert deadline is not None
    assert deadline <= 10.0
    assert punch.due(10.0, lambda: ROUTES) == ROUTES


def test_attempts_without_news_become_rarer() -> None:
    punch, now, gaps = PunchRound(), 0.0, []
    punch.start_soon(ROUTES)
    punch.due(now, lambda: ROUTES)
    for _ in range(8):
        at = punch.retry_at
        assert at is not None
        gaps.append(at - now)
        now = at
        punch.start_again(now, ROUTES)
        punch.due(now, lambda: ROUTES)
    assert gaps == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0]
    punch.start_soon(ROUTES)
    punch.due(now + 10, lambda: ROUTES)
    assert punch.retry_at == now + 70


def test_attempt_without_routes_still_moves_its_next_time() -> None:
    punch = PunchRound()
    punch.start_soon(ROUTES)
    punch.due(0.0, lambda: ROUTES)
    punch.start_again(60.0, [])
    assert punch.retry_at == 180.0


def test_challenge_is_answered_once() -> None:
    punch = PunchRound()
    punch.expect(b"12345678", ROUTES[0], 1.0, 1200)
    assert punch.answered(b"87654321") is None
    challenge = punch.answered(b"12345678")
    assert challenge is not None
    assert (challenge.route, challenge.asked, challenge.size) == (ROUTES[0], 1.0, 1200)
    assert punch.answered(b"12345678") is None


def test_challenge_that_was_not_answered_for_long_is_forgotten() -> None:
    punch = PunchRound()
    punch.expect(b"12345678", ROUTES[0], 1.0, 1200)
    punch.expect(b"23456789", ROUTES[0], 11.1, 1200)
    assert punch.answered(b"12345678") is None
    assert punch.answered(b"23456789") is not None


def test_round_that_the_peer_hears_of_begins_when_it_does() -> None:
    """Half a round trip of the relay later; what we hear of the peer's meanwhile does not make it sooner."""
    punch = PunchRound()
    punch.start_soon(ROUTES, after=0.04)
    assert punch.deadline() == 0.0
    assert punch.due(7.0, lambda: ROUTES) == []
    assert punch.deadline() == pytest.approx(7.04)
    punch.start_soon(ROUTES)
    assert punch.deadline() == pytest.approx(7.04)
    assert punch.due(7.04, lambda: ROUTES) == ROUTES


def test_challenges_that_wait_are_bounded() -> None:
    punch = PunchRound()
    for number in range(10_000):
        punch.expect(number.to_bytes(8, "big"), ROUTES[0], 0.0, 1200)
    assert len(punch._expected) == 1024
    assert punch.answered((9999).to_bytes(8, "big")) is not None
