from __future__ import annotations

from random import Random

import pytest

from covey.testing.link import Link, LinkState


def carry(link: Link, count: int, size: int = 1000, now: float = 0.0) -> list[list[tuple[float, bytes]]]:
    state = LinkState(link, Random(1))
    return [state.carry(now, index.to_bytes(4, "big") + bytes(size - 4))[1] for index in range(count)]


def test_default_is_faithful() -> None:
    arrivals = carry(Link(latency_s=0.5), 100)
    assert [[(0.5, index.to_bytes(4, "big") + bytes(996))] for index in range(100)] == arrivals


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.5, 1.0])
def test_loss_is_the_share_lost(loss: float) -> None:
    lost = sum(not each for each in carry(Link(loss=loss), 10_000))
    assert abs(lost / 10_000 - loss) < 0.015


@pytest.mark.parametrize("duplicate", [0.0, 0.1, 1.0])
def test_duplicate_is_the_share_that_arrives_twice(duplicate: float) -> None:
    twice = sum(len(each) == 2 for each in carry(Link(duplicate=duplicate), 10_000))
    assert abs(twice / 10_000 - duplicate) < 0.015


def test_corrupt_turns_one_bit_in_its_share() -> None:
    turned = 0
    for index, [(_, data)] in enumerate(carry(Link(corrupt=0.2), 10_000, size=20)):
        original = index.to_bytes(4, "big") + bytes(16)
        bits = sum((one ^ two).bit_count() for one, two in zip(original, data, strict=True))
        assert bits <= 1
        turned += bits
    assert abs(turned / 10_000 - 0.2) < 0.015


def test_jitter_stays_in_bounds_and_reorders() -> None:
    times = [each[0][0] for each in carry(Link(latency_s=0.1, jitter_s=0.05), 1000)]
    assert 0.1 <= min(times) < 0.105 < 0.145 < max(times) <= 0.15
    assert times != sorted(times)


def test_ordered_jitter_delays_without_overtaking() -> None:
    state = LinkState(Link(latency_s=0.1, jitter_s=0.05, ordered=True), Random(1))
    times = [state.carry(index * 0.001, b"x")[1][0][0] for index in range(1000)]
    assert times == sorted(times)
    assert all(index * 0.001 + 0.1 <= time <= index * 0.001 + 0.15 for index, time in enumerate(times))


def test_rate_spaces_datagrams_and_the_queue_drops_its_tail() -> None:
    arrivals = carry(Link(latency_s=0.0, rate_bits_s=8e6, queue_bytes=10_000), 20)
    assert [each[0][0] for each in arrivals[:10]] == pytest.approx([0.001 * n for n in range(1, 11)])
    assert arrivals[10:] == [[]] * 10


def test_queue_empties_as_time_passes() -> None:
    state = LinkState(Link(latency_s=0.0, rate_bits_s=8e6, queue_bytes=10_000), Random(1))
    for _ in range(20):
        state.carry(0.0, bytes(1000))
    assert state.carry(0.0005, bytes(1000))[0] == "queue"
    assert state.carry(0.0011, bytes(1000)) == ("", [(pytest.approx(0.011), bytes(1000))])
    assert state.carry(1.0, bytes(1000))[1][0][0] == pytest.approx(1.001)


@pytest.mark.parametrize(("size", "reason"), [(1452, ""), (1453, "mtu")])
def test_mtu_is_the_largest_payload(size: int, reason: str) -> None:
    assert LinkState(Link(mtu=1452), Random(1)).carry(0.0, bytes(size))[0] == reason


def test_batch_makes_datagrams_arrive_together() -> None:
    arrivals = carry(Link(latency_s=0.0, rate_bits_s=8e6, batch_s=0.005), 10)
    assert [each[0][0] for each in arrivals] == pytest.approx([0.005] * 5 + [0.01] * 5)


@pytest.mark.parametrize("seed", range(3))
def test_luck_comes_from_the_seed(seed: int) -> None:
    link = Link(jitter_s=0.1, loss=0.3, duplicate=0.3, corrupt=0.3)
    one, two, other = (LinkState(link, Random(each)) for each in (seed, seed, seed + 100))
    runs = [[state.carry(0.0, bytes(100)) for _ in range(100)] for state in (one, two, other)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    "bad",
    [
        {"loss": 1.1},
        {"duplicate": -0.1},
        {"corrupt": 2.0},
        {"latency_s": -1.0},
        {"mtu": 0},
        {"rate_bits_s": 0.0},
    ],
)
def test_impossible_links_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"share|negative|positive"):
        Link(**bad)  # type: ignore[arg-type]
