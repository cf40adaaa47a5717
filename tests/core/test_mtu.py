from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.core import limits
from covey.core.mtu import BULK, GRAIN, HEADERS, LINKS, RAISE_LIMIT_SECONDS, RAISE_SECONDS, TALK, TRIES, MtuSearch

WINDOW = 10_000_000
ENOUGH = 1_000_000_000


class Line:
    """A path that carries bulk and loses what is larger than `real`, and some of the rest."""

    def __init__(self, real: int, family: int = 4, *, loss: float = 0.0, seed: int = 1) -> None:
        self.real, self.loss = real, loss
        self.random = random.Random(seed)
        self.search = MtuSearch(family)
        self.carried = 0
        self.now = 0.0

    def settle(self) -> list[int]:
        """Probes until the search rests; the sizes that were tried."""
        tried: list[int] = []
        while True:
            self.carried += ENOUGH
            size = self.search.next(self.now, self.carried, WINDOW)
            if size == 0:
                assert self.now < self.search.due < float("inf")
                return tried
            assert self.search.due == float("inf")
            tried.append(size)
            assert len(tried) < 100
            self.search.on_fate(size, arrived=size <= self.real and self.random.random() >= self.loss)
            assert self.search.size <= self.real

    def rest(self) -> None:
        self.now = self.search.due


@pytest.mark.parametrize(
    ("family", "link", "tried"),
    [
        (4, 1500, [1472, 8972, 1518, 1518, 1518]),
        (6, 1500, [1452, 8952, 1497, 1497, 1497]),
        (4, 1280, [1472, 1252, 1472, 1291, 1291, 1291]),
        (6, 1280, [1452, 1232, 1452, 1270, 1270, 1270]),
        (4, 9001, [1472, 8972, 65507, 9252, 9252, 9252]),
        (4, 8896, [1472, 8972, 1518, 8972, 2016, 8972, 2079, 4064, 4191, 8472, 8736, 8868]),
        (4, 65_536, [1472, 8972, 65507]),
        (6, 65_536, [1452, 8952, 65488]),
    ],
)
def test_search_tries_what_links_have_first(family: int, link: int, tried: list[int]) -> None:
    line = Line(link - HEADERS[family], family)
    assert line.settle() == tried
    assert line.search.size == max(size for size in tried if size <= line.real)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("link", LINKS)
def test_search_finds_every_link_exactly(link: int, family: int) -> None:
    line = Line(min(link - HEADERS[family], limits.MTU_LIMIT), family)
    line.settle()
    assert line.search.size == line.real


@given(real=st.integers(limits.INITIAL_MTU, 70_000), family=st.sampled_from([4, 6]))
def test_search_comes_close_to_any_size_with_few_probes(real: int, family: int) -> None:
    line = Line(real, family)
    tried = line.settle()
    found = line.search.size
    assert found <= real
    # What is just above a size that links have may belong to the next one: the fence asks one grain above it.
    assert found + 2 * max(found // GRAIN, 1) > min(real, limits.MTU_LIMIT)
    assert len(tried) <= 35
    # Never the same size more often than it takes to give it up.
    assert all(tried.count(size) <= TRIES for size in tried)


@given(
    real=st.integers(limits.INITIAL_MTU, 70_000),
    loss=st.sampled_from([0.1, 0.5, 1.0]),
    seed=st.integers(0, 2**32),
    doubts=st.lists(st.integers(0, 40), max_size=4),
)
def test_search_ends_and_never_exceeds_the_path_whatever_is_lost(
    real: int, loss: float, seed: int, doubts: list[int]
) -> None:
    line = Line(real, loss=loss, seed=seed)
    line.settle()
    for after in doubts:
        line.search.doubt()
        line.real = limits.INITIAL_MTU + after * 300
        line.settle()
        line.rest()
    # Luck that has turned: what was given up by mistake is found in time.
    line.loss = 0.0
    for _ in range(2):
        line.rest()
        line.settle()
    assert line.search.size + 2 * max(line.search.size // GRAIN, 1) > min(line.real, limits.MTU_LIMIT)


def test_random_loss_does_not_decide() -> None:
    """With 5 % of loss nearly every search ends as without."""
    found = []
    for seed in range(300):
        line = Line(1472, loss=0.05, seed=seed)
        line.settle()
        found.append(line.search.size)
    assert found.count(1472) >= 297


def test_search_waits_for_somebody_who_says_more_than_a_few_words() -> None:
    search = MtuSearch(4)
    assert search.next(5.0, TALK - 1, WINDOW) == 0
    assert 5.0 < search.due < 5.1
    assert search.next(5.1, TALK, WINDOW) == 1472


def test_jumbo_sizes_wait_for_bulk() -> None:
    search = MtuSearch(4)
    assert search.next(0.0, TALK, WINDOW) == 1472
    search.on_fate(1472, arrived=True)
    assert search.next(0.0, BULK - 1, WINDOW) == 0
    assert 0 < search.due < 0.1
    assert search.next(0.1, BULK, WINDOW) == 8972


def test_probe_takes_at_most_half_of_the_window() -> None:
    search = MtuSearch(4)
    assert search.next(0.0, TALK, 2 * 1252 - 1) == 0
    assert 0.0 < search.due < 0.1
    assert search.next(1.0, TALK, 2 * 1252) == 1252


def test_small_window_is_probed_with_what_fits() -> None:
    line = Line(8972)
    line.settle()
    line.search.doubt()
    assert line.search.next(0.0, ENOUGH, 4000) == 1252
    line.search.on_fate(1252, arrived=True)
    assert line.search.next(0.0, ENOUGH, 4000) == 1291
    line.search.on_fate(1291, arrived=True)
    assert line.search.next(0.0, ENOUGH, WINDOW) == 8972


def test_search_is_repeated_later_and_later_while_the_path_carries_bulk() -> None:
    line = Line(1472)
    line.settle()
    waits = []
    for _ in range(6):
        assert line.search.due > line.now
        waits.append(line.search.due - line.now)
        line.rest()
        assert line.search.next(line.now, line.search._paid, WINDOW) == 0  # idle: not worth it
        assert line.settle()[0] == 8972
    assert waits == [RAISE_SECONDS, 120.0, 240.0, 480.0, RAISE_LIMIT_SECONDS, RAISE_LIMIT_SECONDS]
    line.real = 9000
    line.rest()
    line.settle()
    assert line.search.size == 8972


@pytest.mark.parametrize("real", [1252, 1472, 8972, limits.MTU_LIMIT])
def test_doubt_that_was_wrong_costs_one_probe(real: int) -> None:
    line = Line(real)
    line.settle()
    assert line.search.doubt()
    assert line.search.size == limits.INITIAL_MTU
    assert line.search.due == 0.0
    assert line.settle() == [real]
    assert line.search.size == real


def test_doubt_that_was_right_searches_below() -> None:
    line = Line(8972)
    line.settle()
    line.real = 1400
    assert line.search.doubt()
    assert not line.search.doubt()
    tried = line.settle()
    assert tried[0] == 8972
    assert line.search.size == 1392
    line.rest()
    line.real = 8972
    line.settle()
    assert line.search.size == 8972


def test_fate_of_a_probe_from_before_a_doubt_counts_for_what_it_is() -> None:
    search = MtuSearch(4)
    assert search.next(0.0, TALK, WINDOW) == 1472
    search.on_fate(1472, arrived=True)
    assert search.next(0.0, BULK, WINDOW) == 8972
    search.doubt()
    search.on_fate(8972, arrived=True)
    assert search.size == 8972
