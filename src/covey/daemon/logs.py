"""The daemon's log: one JSON object per line, rotated, without secrets.

Our own events come from structlog, those of libraries from `logging`; both pass the same processors and end
in one handler: the profile's log file, or standard error when the daemon runs in the foreground.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def _absent(module: str) -> Iterator[None]:
    """Within the block, `module` cannot be imported unless it already was."""
    loaded = module in sys.modules
    if not loaded:
        sys.modules[module] = None  # type: ignore[assignment]  # what the import system defines for this purpose
    try:
        yield
    finally:
        if not loaded:
            del sys.modules[module]


# structlog loads Rich where it is installed: 3 MB, for console tracebacks that show local variables
with _absent("rich"):
    import structlog

__all__ = ["configure", "get_logger", "without_secrets"]

ROTATE_BYTES = 10 * 1024 * 1024
"""A log file is moved aside at this size. Ours."""

KEPT_FILES = 3
"""How many old files are kept."""

SECRET_WORDS = ("secret", "token", "password", "psk", "private", "body", "data", "payload", "key")
"""A field whose name contains one of these words (between underscores) is never written."""


def get_logger(name: str) -> Any:
    """The structlog logger of a module. Import it from here, so that structlog is loaded without Rich."""
    return structlog.get_logger(name)


def configure(log_file: Path | None, level: str = "info") -> None:
    """Send everything to `log_file`, or to standard error if it is None. Called once, before anything is
    logged."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        without_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler: logging.Handler
    if log_file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        logging.raiseExceptions = False  # on a full disk there is nowhere to say that a line could not be written
        handler = logging.handlers.RotatingFileHandler(
            log_file, maxBytes=ROTATE_BYTES, backupCount=KEPT_FILES, encoding="utf-8"
        )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False, default=repr),
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def without_secrets(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: what has a secret's name is not written, whatever it holds."""
    for name in event:
        if any(word in SECRET_WORDS for word in name.lower().split("_")):
            event[name] = "(not logged)"
    return event
