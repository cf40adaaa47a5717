"""The daemon's local API, from the outside: HTTP over its Unix socket, blocking, standard library only.

Errors come back as the class they had in the daemon (`base.failures`). A daemon
that is not there is `UnreachableError` `not-running`.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from covey.base import errors
from covey.base.errors import CoveyError
from covey.base.failures import error_from as error_of_view
from covey.base.paths import Home, check_private
from covey.base.schema import ErrorView

__all__ = [
    "Client",
    "error_from",
    "not_running",
    "path_with",
    "path_with_query",
]

GRACE_SECONDS = 2.0
"""The daemon is told how long we wait; its own `timeout` answer gets this much longer to arrive."""

CONNECT_SECONDS = 5.0
"""A daemon that does not even accept in this time hangs."""

T = TypeVar("T")


class Client:
    """One keep-alive connection to the daemon of a profile. Use as a context manager, or call `close`."""

    def __init__(self, home: Home, *, timeout: float) -> None:
        self._home = home
        self._timeout = timeout
        self._connection: _UnixConnection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, answer: type[T], **query: object) -> T:
        """GET; `query` values None are left out."""
        return self._request("GET", path_with_query(path, **query), None, answer)

    def post(self, path: str, answer: type[T], **body: object) -> T:
        """POST a JSON object; fields that are None are left out."""
        return self._request("POST", path, _object(body), answer)

    def put(self, path: str, answer: type[T], **body: object) -> T:
        """PUT a JSON object; fields that are None are left out."""
        return self._request("PUT", path, _object(body), answer)

    def delete(self, path: str, answer: type[T], **body: object) -> T:
        """DELETE with a JSON object; fields that are None are left out."""
        return self._request("DELETE", path, _object(body), answer)

    def stream(self, path: str, last: str | None) -> Iterator[bytes]:
        """The lines of a stream of server-sent events, until it ends; `last` is its `Last-Event-ID`.

        `UnreachableError` `daemon-gone` if it breaks, or is silent for longer than the timeout.
        """
        connection = self._connected()
        try:
            connection.request("GET", path, headers={} if last is None else {"Last-Event-ID": last})
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise error_from(response.status, response.read())
            while line := response.readline():
                yield line
        except (OSError, http.client.HTTPException) as error:
            raise _gone(error) from error
        finally:
            self.close()

    def _request(self, method: str, path: str, body: bytes | None, answer: type[T]) -> T:
        connection = self._connected()
        headers = {"Covey-Timeout": f"{self._timeout:.3f}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except TimeoutError as error:
            self.close()
            raise errors.TimeoutError(
                f"the daemon did not answer within {self._timeout:g} s",
                next_step="try again with a longer --timeout; covey daemon logs",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _gone(error) from error
        if response.status != http.client.OK:
            raise error_from(response.status, content)
        try:
            return msgspec.json.decode(content, type=answer)
        except msgspec.DecodeError as error:
            raise CoveyError(
                f"the daemon's answer to {path} is not understood: {error}",
                code="daemon-version",
                next_step="restart the daemon: covey daemon stop && covey up",
            ) from error

    def _connected(self) -> _UnixConnection:
        if self._connection is None:
            check_run_directory(self._home)
            connection = _UnixConnection(self._home.api_socket, self._timeout + GRACE_SECONDS)
            try:
                connection.connect()
            except (FileNotFoundError, ConnectionRefusedError) as error:
                connection.close()
                raise not_running(self._home) from error
            except TimeoutError as error:
                connection.close()
                raise errors.TimeoutError(
                    "the daemon does not accept connections", next_step="covey daemon logs"
                ) from error
            except OSError as error:
                connection.close()
                raise errors.StorageError(
                    f"cannot connect to {self._home.api_socket}: {error.strerror or error}", code="socket"
                ) from error
            self._connection = connection
        return self._connection


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("covey", timeout=timeout)
        self._path = path
        self._seconds = timeout

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_SECONDS)
        self.sock.connect(os.fspath(self._path))
        self.sock.settimeout(self._seconds)


def error_from(status: int, content: bytes) -> CoveyError:
    """The error that an answer with this status and body stands for."""
    try:
        view = msgspec.json.decode(content, type=ErrorView)
    except msgspec.DecodeError:
        return CoveyError(f"the daemon answered with status {status}", code="internal", next_step="covey daemon logs")
    return error_of_view(status, view)


def _object(fields: dict[str, object]) -> bytes:
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def _gone(error: Exception) -> errors.UnreachableError:
    return errors.UnreachableError(
        f"the connection to the daemon broke: {str(error) or type(error).__name__}",
        code="daemon-gone",
        next_step="covey daemon status",
    )


def not_running(home: Home) -> errors.UnreachableError:
    """No daemon serves this profile."""
    return errors.UnreachableError(
        f"no daemon is running for profile {home.profile!r}",
        code="not-running",
        next_step="covey daemon start",
    )


def check_run_directory(home: Home) -> None:
    """Refuse to talk through a directory that another user could have prepared. Raises `StorageError`."""
    for directory in (home.run_parent, home.run_dir):
        if directory is None:
            continue
        try:
            status = directory.lstat()
        except FileNotFoundError:
            raise not_running(home) from None
        except OSError as error:
            raise errors.StorageError(f"cannot look at {directory}: {error.strerror or error}") from error
        check_private(directory, mode=status.st_mode, owner=status.st_uid, uid=os.getuid())


def path_with(prefix: str, argument: str) -> str:
    """`prefix/argument`, quoted, for the paths that end in a parameter."""
    if not argument:
        raise errors.UsageError("the argument is empty")
    return f"{prefix}/{quote(argument, safe='')}"


def path_with_query(path: str, **query: object) -> str:
    """`path?name=value...`, without those that are None."""
    words = {name: _query_text(value) for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(words)}" if words else path


def _query_text(value: object) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
