from __future__ import annotations

import hashlib
import re

import pytest

from covey.crypto.safety import safety_half, safety_number

LOW, HIGH = bytes(32), b"\xff" * 32


def test_both_sides_see_the_same_number() -> None:
    assert safety_number(LOW, HIGH) == safety_number(HIGH, LOW)


def test_number_is_twelve_groups_the_lower_identity_first() -> None:
    number = safety_number(HIGH, LOW)
    assert re.fullmatch(r"\d{5}( \d{5}){11}", number)
    assert number == f"{safety_half(LOW)} {safety_half(HIGH)}"


def test_half_is_5200_rounds_and_six_groups() -> None:
    digest = b"covey safety 1\0"
    for _ in range(5200):
        digest = hashlib.sha256(digest + LOW).digest()
    groups = [int(digest[at : at + 5].hex(), 16) % 100_000 for at in range(0, 30, 5)]
    assert safety_half(LOW) == " ".join(f"{group:05}" for group in groups)


def test_halves_are_cached() -> None:
    safety_half(LOW)
    before = safety_half.cache_info().hits
    safety_number(LOW, LOW)
    assert safety_half.cache_info().hits == before + 2


def test_half_refuses_what_is_no_identity() -> None:
    with pytest.raises(ValueError, match="32"):
        safety_half(b"short")
