from __future__ import annotations

import pytest

from covey.base import errors
from covey.base.errors import CoveyError
from covey.base.exit_codes import EXIT_CODES, exit_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CoveyError("x"), 1),
        (errors.StateError("x"), 1),
        (errors.VerifyError("x"), 1),
        (errors.CryptoError("x"), 1),
        (errors.ParseError("x"), 2),
        (errors.UsageError("x"), 2),
        (errors.UnreachableError("x", code="not-running"), 3),
        (errors.NotFoundError("x"), 4),
        (errors.RefusedError("x"), 5),
        (errors.UnreachableError("x"), 6),
        (errors.TimeoutError("x"), 7),
        (errors.TimeoutError("x", code="not-delivered"), 8),
        (errors.StorageError("x"), 9),
        (errors.LimitError("x"), 10),
    ],
)
def test_exit_code(error: CoveyError, code: int) -> None:
    assert exit_code(error) == code
    assert code in EXIT_CODES
