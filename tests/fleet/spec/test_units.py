"""Words with units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.fleet.spec.units import duration, memory, rate, say_duration, say_memory, share

GOOD = {
    "60s": (duration, "60s", 60.0),
    "1h30m": (duration, "1h30m", 5400.0),
    "300ms": (duration, "300ms", 0.3),
    "2min": (duration, "2min", 120.0),
    "seconds": (duration, 1.5, 1.5),
    "2Gi": (memory, "2Gi", 2 << 30),
    "2G": (memory, "2G", 2_000_000_000),
    "1.5 MiB": (memory, "1.5 MiB", 3 << 19),
    "bytes": (memory, 4096, 4096),
    "50/s": (rate, "50/s", 50.0),
    "3000/min": (rate, "3000/min", 50.0),
    "70%": (share, "70%", 0.7),
}


@pytest.mark.parametrize("name", GOOD)
def test_word_is_read(name: str) -> None:
    read, value, expected = GOOD[name]
    assert read(value) == expected


BAD = {
    "no unit": (duration, "60"),
    "spaces": (duration, "1 h"),
    "sign": (duration, "-5s"),
    "flag": (duration, True),
    "list": (duration, [1]),
    "nan": (duration, float("nan")),
    "digits": (duration, 10**400),
    "cows": (memory, "2cows"),
    "milli": (memory, "2m"),
    "per fortnight": (rate, "5/w"),
    "percent": (share, "70"),
    "other digits": (duration, "٣s"),
}


@pytest.mark.parametrize("name", BAD)
def test_word_is_refused(name: str) -> None:
    read, value = BAD[name]
    with pytest.raises(ValueError):
        read(value)


@given(st.integers(0, 10**7))
def test_what_is_said_is_read_again(count: int) -> None:
    assert duration(say_duration(float(count))) == count
    assert memory(say_memory(count)) == count
