from __future__ import annotations

import builtins
import re

import pytest

from covey.base import errors
from covey.base.errors import CoveyError

CLASSES = [getattr(errors, name) for name in errors.__all__]

BUILTINS = {  # the class a caller would guess
    "ParseError": ValueError,
    "VerifyError": ValueError,
    "CryptoError": errors.VerifyError,
    "UsageError": ValueError,
    "NotFoundError": LookupError,
    "RefusedError": PermissionError,
    "UnreachableError": ConnectionError,
    "TimeoutError": builtins.TimeoutError,
    "StorageError": OSError,
}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_error_carries_message_code_and_next_step(kind: type[CoveyError]) -> None:
    plain = kind("what happened")
    assert (str(plain), plain.message, plain.code, plain.next_step) == (
        "what happened",
        "what happened",
        kind.default_code,
        "",
    )
    full = kind("what happened", code="a-code", next_step="covey doctor")
    assert (full.code, full.next_step) == ("a-code", "covey doctor")
    assert isinstance(full, CoveyError)


@pytest.mark.parametrize("name", BUILTINS)
def test_error_is_the_class_a_caller_would_guess(name: str) -> None:
    assert issubclass(getattr(errors, name), BUILTINS[name])


def test_codes_are_unique_lower_case_words() -> None:
    codes = [kind.default_code for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


def test_every_error_is_public_and_in_the_printed_tree() -> None:
    defined = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, CoveyError)}
    assert defined == set(errors.__all__)
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in defined)
