"""What a provider's call may fail with. Every SDK's errors are mapped to these five, and the loop knows no others.

::

    ProviderError (CoveyError)
    ├── Capacity(scope, shape)   there is none of this shape here now: blocked for minutes, placed elsewhere at once
    ├── Quota(scope)             our own limit there is reached: blocked for minutes, whatever the shape
    ├── Denied                   we may not: the pool is unusable until somebody grants the right
    ├── Temporary(after)         throttled, timed out, unreachable: the same call again after `after` seconds
    └── Permanent                the call is wrong and will stay wrong: shown, never repeated unchanged

`Temporary` says nothing about whether the call took effect: observe first, then redo.
"""

from __future__ import annotations

from covey.base.errors import CoveyError

__all__ = ["Capacity", "Denied", "Permanent", "ProviderError", "Quota", "Temporary"]


class ProviderError(CoveyError):
    """A provider did not do what it was asked."""

    default_code = "provider"


class Capacity(ProviderError):
    """`scope` has no room for `shape` now."""

    default_code = "no-capacity"

    def __init__(self, message: str, *, scope: str, shape: str, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.scope = scope
        self.shape = shape


class Quota(ProviderError):
    """Our own limit in `scope` is reached."""

    default_code = "quota"

    def __init__(self, message: str, *, scope: str, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.scope = scope


class Denied(ProviderError):
    """We lack the right, or the credentials ended."""

    default_code = "denied"


class Temporary(ProviderError):
    """It may work later; whether it took effect is unknown."""

    default_code = "temporary"

    def __init__(self, message: str, *, after: float = 5.0, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.after = after


class Permanent(ProviderError):
    """It will not work unchanged."""

    default_code = "permanent"
