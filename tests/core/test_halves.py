"""Halves of connection ids: stable, then never again, and bounded."""

from __future__ import annotations

import pytest

from covey.base.types import Identity
from covey.core import limits
from covey.core.halves import Halves

A, B, C = (Identity(bytes([number]) * 32) for number in (1, 2, 3))


def test_half_is_stable_until_its_connection_ends() -> None:
    halves = Halves(bytes(32))
    first = halves.of(A)
    assert len(first) == 8
    assert halves.of(A) == first
    halves.end(A)
    assert halves.of(A) != first


def test_half_of_one_peer_says_nothing_about_another() -> None:
    halves = Halves(bytes(32))
    before = halves.of(B)
    assert halves.of(A) != before
    halves.end(A)
    assert halves.of(B) == before


def test_half_depends_on_the_secret_of_the_process() -> None:
    assert Halves(bytes(32)).of(A) != Halves(bytes(31) + b"1").of(A)


def test_half_never_returns_although_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOGS_LIMIT", 2)
    halves = Halves(bytes(32))
    seen = {peer: {halves.of(peer)} for peer in (A, B, C)}
    for _ in range(20):
        for peer in (A, B, C):
            halves.end(peer)
            half = halves.of(peer)
            assert half not in seen[peer]
            seen[peer].add(half)
            assert len(halves) <= 2
