"""The log of a rendezvous: standard error, lines for people or, with `--json`, one JSON object a line.

Standard output is for the ticket alone. What is logged says how much, never who: identities and IP addresses
appear at level `debug` only. A line's figures are passed as `extra={"fields": {...}}`.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

__all__ = ["LEVELS", "configure"]

LEVELS: Final = ("debug", "info", "warning", "error")

_ABOUT_CLIENTS: Final = ("covey.node", "asyncio")
"""Loggers whose `info` is about single clients."""


def configure(level: str, *, json: bool) -> None:
    """Called once, before anything is logged."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if json else _Plain())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _ABOUT_CLIENTS:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", {})
    return fields if isinstance(fields, dict) else {}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=repr).decode()


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        said = [record.getMessage(), *(f"{name}={value}" for name, value in _fields(record).items())]
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        line = f"{time} {level}{' '.join(said)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
