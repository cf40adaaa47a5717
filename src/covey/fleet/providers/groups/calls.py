"""Calls of a cloud's SDK: only the fleet's errors come out, and a right is proven by a call that changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from covey.fleet.errors import Denied, Permanent, ProviderError
from covey.fleet.providers.base import Right

__all__ = ["prove", "translated"]


class Translate(Protocol):
    """One error of an SDK in the fleet's words; `doing` completes "could not ..."."""

    def __call__(self, error: Exception, *, doing: str) -> ProviderError: ...


@contextmanager
def translated(translate: Translate, doing: str) -> Iterator[None]:
    """Let nothing but the fleet's errors out."""
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:
        raise translate(error, doing=doing) from error


def prove(name: str, call: Callable[[], Any], mapped: Callable[[str], AbstractContextManager[None]]) -> Right:
    """The right `name`, by a call that changes nothing."""
    try:
        with mapped(f"prove {name}"):
            call()
    except Denied as error:
        return Right(name=name, granted=False, detail=error.message, next_step=error.next_step)
    except Permanent as error:
        return Right(name=name, granted=True, detail=error.message)  # it got as far as its object: the right is there
    except ProviderError as error:
        return Right(name=name, granted=False, detail=error.message, next_step="again when the cloud answers")
    return Right(name=name, granted=True)
