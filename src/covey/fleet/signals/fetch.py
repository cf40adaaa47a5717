"""One HTTP GET or POST of a signal's reader: bounded in time and size, one kind of error."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import urllib.parse
from typing import Final

from covey.fleet.errors import Denied, Permanent, Temporary

__all__ = ["LARGEST", "fetch"]

LARGEST: Final = 16 << 20
"""Bytes of an answer."""


async def fetch(
    url: str, *, timeout: float, token: str = "", form: dict[str, str] | None = None, ca_file: str = ""
) -> bytes:
    """What `url` answers, in `timeout` seconds. With `form` it is a POST. Redirects are not followed.

    Raises `Temporary` when it does not answer or says that it is troubled, `Denied` for 401 and 403, `Permanent` else.
    """
    try:
        connection, path = _connection(url, timeout, ca_file)
        held: list[socket.socket] = []
        asked = asyncio.create_task(asyncio.to_thread(_ask, connection, path, token, form, held))
        try:
            async with asyncio.timeout(timeout):
                status, body = await asyncio.shield(asked)
        except (TimeoutError, asyncio.CancelledError):
            # A server that sends a byte now and then would hold the thread for ever.
            _abort(held)
            asked.add_done_callback(_heard)
            raise
    except (OSError, http.client.HTTPException, TimeoutError) as error:
        raise Temporary(f"{_shown(url)} does not answer: {str(error) or type(error).__name__}") from error
    except ValueError as error:
        raise Permanent(f"{_shown(url)} is not an address that can be asked: {error}") from error
    if len(body) > LARGEST:
        raise Permanent(f"{_shown(url)} answers more than {LARGEST} bytes")
    if status in {401, 403}:
        raise Denied(f"{_shown(url)} refuses us (HTTP {status})", next_step="give the target a token_file")
    if status == 429 or status >= 500:
        raise Temporary(f"{_shown(url)} answers with HTTP {status}")
    if status != 200:
        said = body[:300].decode(errors="replace")
        raise Permanent(f"{_shown(url)} answers with HTTP {status}: {said}")
    return body


def _connection(url: str, timeout: float, ca_file: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urllib.parse.urlsplit(url)
    host, path = parts.hostname or "", f"{parts.path or '/'}?{parts.query}".rstrip("?")
    if parts.scheme != "https":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout), path
    context = ssl.create_default_context(cafile=ca_file or None)
    return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context), path


def _ask(
    connection: http.client.HTTPConnection,
    path: str,
    token: str,
    form: dict[str, str] | None,
    held: list[socket.socket],
) -> tuple[int, bytes]:
    """`held` gets the socket, which the connection forgets as soon as its answer began."""
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    body = None
    if form is not None:
        body = urllib.parse.urlencode(form)
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.connect()
        held.append(connection.sock)
        connection.request("GET" if form is None else "POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read(LARGEST + 1)
    finally:
        connection.close()


def _abort(held: list[socket.socket]) -> None:
    """Whoever waits on it gets an error now."""
    for each in held:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _heard(asked: asyncio.Task[tuple[int, bytes]]) -> None:
    """Its error was told already."""
    if not asked.cancelled():
        asked.exception()


def _shown(url: str) -> str:
    """Without what may be secret in it."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "its address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
