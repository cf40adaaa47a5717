"""How an error crosses a boundary: as an `ErrorView` and a number, and back into the class it was.

The number is the HTTP status of the local API. Each class has one of its own, so that a client gets the class back.
"""

from __future__ import annotations

from typing import Final

from covey.base import errors
from covey.base.errors import CoveyError
from covey.base.schema import ErrorView

__all__ = ["STATUS", "error_from", "error_status", "error_view"]

STATUS: Final[dict[type[CoveyError], int]] = {
    errors.ParseError: 400,
    errors.RefusedError: 403,
    errors.NotFoundError: 404,
    errors.StateError: 409,
    errors.UsageError: 422,
    errors.VerifyError: 424,
    errors.LimitError: 429,
    CoveyError: 500,
    errors.UnreachableError: 503,
    errors.TimeoutError: 504,
    errors.StorageError: 507,
}
"""By class; a subclass that is not listed has its parent's."""

_CLASS: Final = {status: cls for cls, status in STATUS.items()}


def error_view(error: BaseException) -> ErrorView:
    """What a user is told. The details of an unforeseen error stay in the log."""
    if isinstance(error, CoveyError):
        return ErrorView(error.code, error.message, error.next_step)
    return ErrorView(
        "internal", "something failed that was not foreseen; the daemon's log says why", "covey daemon logs"
    )


def error_status(error: BaseException) -> int:
    """The number of its class."""
    for cls in type(error).__mro__:
        if cls in STATUS:
            return STATUS[cls]
    return STATUS[CoveyError]


def error_from(status: int, view: ErrorView) -> CoveyError:
    """The error again, of its class."""
    return _CLASS.get(status, CoveyError)(view.message, code=view.code, next_step=view.next_step)
