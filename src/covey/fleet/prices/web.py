"""One GET of a price API: https (or this machine), no redirects, bounded in time and size, one kind of error."""

from __future__ import annotations

import contextlib
import http.client
import io
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Final

from covey.base.errors import UnreachableError, UsageError

__all__ = ["Get", "get", "stream"]

PAGE_LIMIT: Final = 64 << 20
"""Bytes of one page. A page of 5,000 SKUs of GCP has 10 MB."""

STREAM_LIMIT: Final = 4 << 30
"""Bytes of a streamed file. A region of the AWS price list has 0.3 GB."""

_SECONDS: Final = 60.0

Get = Callable[[str], bytes]
"""What reads a page; tests give their own."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def get(url: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The whole answer. Raises `UnreachableError`, `UsageError` for an address that may not be asked."""
    with _open(url, headers or {}) as answer:
        try:
            data: bytes = answer.read(PAGE_LIMIT + 1)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(url, error) from None
    if len(data) > PAGE_LIMIT:
        raise UnreachableError(f"{_shown(url)} answers more than {PAGE_LIMIT} bytes", code="price-api")
    return data


@contextlib.contextmanager
def stream(url: str) -> Iterator[Iterator[str]]:
    """The answer's lines, as they come. Raises as `get` does."""
    with _open(url, {}) as answer:
        yield _lines(url, answer)


def _lines(url: str, answer: IO[bytes]) -> Iterator[str]:
    count = 0
    try:
        for line in io.TextIOWrapper(answer, encoding="utf-8", errors="replace", newline=""):
            count += len(line)
            if count > STREAM_LIMIT:
                raise UnreachableError(f"{_shown(url)} answers more than {STREAM_LIMIT} bytes", code="price-api")
            yield line
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from None


@contextlib.contextmanager
def _open(url: str, headers: Mapping[str, str]) -> Iterator[Any]:
    parts = urllib.parse.urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise UsageError(f"{_shown(url)} is not an https:// address", code="price-api")
    request = urllib.request.Request(url, headers={"Accept": "*/*", **headers})  # noqa: S310 - looked at above
    try:
        answer = _opener.open(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise UnreachableError(f"{_shown(url)} answers with HTTP {error.code}", code="price-api") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(url, error) from None
    with answer:
        yield answer


def _unreachable(url: str, error: Exception) -> UnreachableError:
    return UnreachableError(
        f"{_shown(url)} does not answer: {error}",
        code="price-api",
        next_step="the prices that are known hold on, and are shown with their age",
    )


def _shown(url: str) -> str:
    """Without what may be secret in it."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
