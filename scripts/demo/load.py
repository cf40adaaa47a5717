"""What the demo sends: 100 MB that show every change, and messages without a pause."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator

from scripts.demo.api import Api, ApiError

__all__ = ["STREAM_SIZE", "Sender", "blocks", "digest_of_blocks"]

BLOCK_SIZE = 1_000_000
STREAM_SIZE = 100 * BLOCK_SIZE
BATCH = 20
"""Messages handed over in one request."""

_RANDOM = os.urandom(BLOCK_SIZE - 8)


def blocks() -> Iterator[bytes]:
    """The 100 MB in blocks that all differ, so that their hash also tells their order."""
    for number in range(STREAM_SIZE // BLOCK_SIZE):
        yield number.to_bytes(8, "big") + _RANDOM


def digest_of_blocks() -> bytes:
    digest = hashlib.sha256()
    for block in blocks():
        digest.update(block)
    return digest.digest()


class Sender(threading.Thread):
    """Hands messages to a daemon, in batches, without waiting for their delivery."""

    def __init__(self, api: Api, peer: str, bodies: list[str]) -> None:
        super().__init__(daemon=True)
        self._api, self._peer, self._bodies = api, peer, bodies
        self.problem = ""

    def run(self) -> None:
        try:
            for begin in range(0, len(self._bodies), BATCH):
                messages = [{"body": body} for body in self._bodies[begin : begin + BATCH]]
                self._api.post("/v1/messages/batch", peer=self._peer, messages=messages, wait=0)
        except (ApiError, OSError) as error:
            self.problem = str(error)
