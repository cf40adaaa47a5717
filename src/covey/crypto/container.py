"""The frame of a private file: what it is, which version, and whether all of it is there."""

from __future__ import annotations

import hashlib
from typing import Final

from covey.base.codec import Reader, Writer
from covey.base.constants import LOG_LIMIT
from covey.base.errors import ParseError
from covey.crypto.kdf import HASH_SIZE

__all__ = ["pack_file", "unpack_file"]

_FILE_VERSION: Final = 1
_FILE_LIMIT: Final = LOG_LIMIT + 32_768
"""Largest body, bytes: a whole log and keys, or the keys of a mailbox."""


def pack_file(magic: bytes, body: bytes) -> bytes:
    """`magic` names the kind of file; the result ends in a checksum."""
    content = Writer().raw(magic).u8(_FILE_VERSION).block32(body).bytes()
    return content + hashlib.sha256(content).digest()


def unpack_file(magic: bytes, raw: bytes) -> Reader:
    """The body. `ParseError` for another kind or version, and for damage."""
    reader = Reader(raw)
    if reader.take(len(magic)) != magic:
        raise ParseError("this file is of another kind")
    version = reader.u8()
    if version != _FILE_VERSION:
        raise ParseError(f"this file has version {version}, this Covey reads {_FILE_VERSION}")
    body = reader.block32(_FILE_LIMIT)
    content = raw[: reader.position]
    if reader.take(HASH_SIZE) != hashlib.sha256(content).digest():
        raise ParseError("this file is damaged: its checksum does not match")
    reader.done()
    return Reader(body)
