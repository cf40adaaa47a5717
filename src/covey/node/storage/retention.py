"""How long is kept what nobody waits for."""

from __future__ import annotations

from typing import Final, NamedTuple

from covey.base.config import SETTINGS

__all__ = ["DEFAULT_RETENTION", "Retention"]

_DEFAULTS: Final = {setting.key: setting.default for setting in SETTINGS}


class Retention(NamedTuple):
    """Messages that were read (acknowledged) stay in the inbox until they are too old or too many.

    Unread messages stay until they are read. The memory of what was received, which keeps messages from coming twice,
    stays for ever (PROTOCOL 22).
    """

    read_days: int
    """Since they were received."""
    read_messages: int
    """The newest so many stay."""


DEFAULT_RETENTION: Final = Retention(int(_DEFAULTS["keep_read_days"] or 0), int(_DEFAULTS["keep_read_messages"] or 0))
