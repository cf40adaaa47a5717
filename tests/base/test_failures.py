from __future__ import annotations

import pytest

from covey.base import errors
from covey.base.errors import CoveyError
from covey.base.failures import STATUS, error_from, error_status, error_view


def test_status_is_one_to_one() -> None:
    assert sorted(set(STATUS.values())) == sorted(STATUS.values())


@pytest.mark.parametrize("cls", STATUS, ids=lambda cls: cls.__name__)
def test_error_comes_back_as_what_it_was(cls: type[CoveyError]) -> None:
    error = cls("it went wrong", code="some-code", next_step="do this")
    again = error_from(error_status(error), error_view(error))
    assert (type(again), again.message, again.code, again.next_step) == (cls, "it went wrong", "some-code", "do this")


def test_subclass_has_the_status_of_its_parent() -> None:
    assert error_status(errors.CryptoError("x")) == STATUS[errors.VerifyError]


def test_unforeseen_error_tells_nothing_of_itself() -> None:
    view = error_view(ZeroDivisionError("a secret"))
    assert (view.code, error_status(ZeroDivisionError())) == ("internal", 500)
    assert "secret" not in view.message


def test_unknown_status_is_an_error_still() -> None:
    assert type(error_from(599, error_view(CoveyError("x")))) is CoveyError
