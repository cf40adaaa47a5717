"""Words with units: "60s", "2Gi", "50/s", "70%". Pure; every reader raises `ValueError` with nothing but the fact."""

from __future__ import annotations

import math
import re
from typing import Final

__all__ = ["duration", "memory", "rate", "say_duration", "say_memory", "share"]

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final[dict[str, int]] = {
    "": 1,
    "B": 1,
    **{unit: 1024 ** (power + 1) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"))},
    **{f"{unit}B": 1024 ** (power + 1) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"))},
    **{unit: 1000 ** (power + 1) for power, unit in enumerate(("k", "M", "G", "T"))},
    **{f"{unit}B": 1000 ** (power + 1) for power, unit in enumerate(("k", "M", "G", "T"))},
}
_NUMBER: Final = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_DURATION = re.compile(rf"({_NUMBER})(ms|min|s|m|h|d)")
_DURATIONS = re.compile(rf"(?:{_NUMBER}(?:ms|min|s|m|h|d))+")
_MEMORY = re.compile(rf"({_NUMBER}) ?([A-Za-z]{{0,3}})")
_RATE = re.compile(rf"({_NUMBER}) ?/ ?(s|m|min|h|d)")
_SHARE = re.compile(rf"({_NUMBER}) ?%")


def duration(value: object) -> float:
    """Seconds of "60s", "1h30m", "300ms", or of a plain number of seconds."""
    if isinstance(value, str):
        if not _DURATIONS.fullmatch(value):
            raise ValueError(value)
        return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(value))
    return _plain(value)


def memory(value: object) -> int:
    """Bytes of "2Gi", "512Mi", "2G", or of a plain number of bytes. Kubernetes' units: Gi is 1024^3, G is 1000^3."""
    if isinstance(value, str):
        found = _MEMORY.fullmatch(value)
        if not found or found[2] not in _BYTES:
            raise ValueError(value)
        return round(float(found[1]) * _BYTES[found[2]])
    return round(_plain(value))


def rate(value: object) -> float:
    """Per second, of "50/s", "3000/min", or of a plain number."""
    if isinstance(value, str):
        found = _RATE.fullmatch(value)
        if not found:
            raise ValueError(value)
        return float(found[1]) / _SECONDS[found[2]]
    return _plain(value)


def share(value: object) -> float:
    """0.7 of "70%", or of 0.7."""
    if isinstance(value, str):
        found = _SHARE.fullmatch(value)
        if not found:
            raise ValueError(value)
        return float(found[1]) / 100
    return _plain(value)


def say_duration(seconds: float) -> str:
    """The shortest exact word for a duration: 90 is "90s", 120 is "2m", 0.3 is "300ms"."""
    if seconds and seconds < 1:
        return f"{_decimal(seconds * 1000)}ms"
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{_decimal(seconds / _SECONDS[unit])}{unit}"
    return f"{_decimal(seconds)}s"


def say_memory(count: int) -> str:
    """The shortest exact word for a size: 2147483648 is "2Gi"."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if count and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return str(count)


def _decimal(value: float) -> str:
    """Without an exponent, which would not be read again."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _plain(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)  # noqa: TRY004 - one error, whatever is wrong
    try:
        number = float(value)
    except OverflowError:  # of an int with hundreds of digits
        raise ValueError(value) from None
    if not math.isfinite(number):
        raise ValueError(value)
    return number
