"""Message bodies on their way in: from an argument, a file, or line by line; checked before they are sent."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from covey.base.constants import MESSAGE_LIMIT
from covey.base.errors import LimitError, StorageError, UsageError
from covey.base.schema import MessageType

__all__ = ["check_body", "from_argument", "from_file", "open_lines", "read_lines"]

STDIN = "-"


def from_argument(text: str) -> bytes:
    """The bytes of a command-line argument, also where they are not UTF-8."""
    return os.fsencode(text)


def from_file(name: str) -> bytes:
    """All of a file, or of standard input for `-`; at most one byte more than a message may have."""
    with _opened(name) as file:
        return file.read(MESSAGE_LIMIT + 1)


@contextlib.contextmanager
def open_lines(name: str) -> Iterator[BinaryIO]:
    """A file, or standard input for `-`, to be read line by line."""
    with _opened(name) as file:
        yield file


def read_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Line number and content without its line end; empty lines are skipped. No line is read beyond the
    limit."""
    number = 0
    while raw := file.readline(MESSAGE_LIMIT + 2):
        number += 1
        body = raw.rstrip(b"\r\n")
        if body:
            yield number, body


def check_body(body: bytes, kind: MessageType, *, where: str = "the message") -> None:
    """Raise unless `body` can be sent as `kind`: `message-too-large`, `bad-text`, or `bad-json` with line and
    column."""
    if len(body) > MESSAGE_LIMIT:
        raise LimitError(
            f"{where} is larger than {MESSAGE_LIMIT:,} bytes",
            code="message-too-large",
            next_step="send it in parts",
        )
    if kind == "binary":
        return
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{where} is not UTF-8 text (byte {error.start})", code="bad-text", next_step="use --type binary"
        ) from error
    if kind == "json":
        _check_json(text, where)


def to_base64(body: bytes) -> str:
    """How a body travels to the daemon: base64 has a known size, escaped text has not."""
    return base64.b64encode(body).decode()


def from_base64(text: str) -> bytes:
    """The inverse."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise UsageError("the body is not base64") from error


def _check_json(text: str, where: str) -> None:
    try:
        json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        problem = f"{where} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        problem = f"{where} is not usable JSON: nested too deeply"
    except ValueError as error:
        problem = f"{where} is not JSON: {error}"
    else:
        return
    raise UsageError(problem, code="bad-json", next_step="correct it, or send it with --type text")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STDIN:
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 - closed below; only opening and reading it may be reported as here
    except OSError as error:
        raise StorageError(f"cannot read {name}: {error.strerror or error}", code="bad-file") from error
    with file:
        try:
            yield file
        except IsADirectoryError as error:
            raise StorageError(f"cannot read {name}: {error.strerror}", code="bad-file") from error
