"""Which of the 256 addresses of an identity this agent uses (PROTOCOL 6).

Addresses collide. A collision is never resolved against somebody: look-ups return all claims, and pins choose. Only an
agent that nobody can miss yet moves out of the way by itself: younger than a day, trusted by nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from covey.base.types import address_text
from covey.crypto.address import address
from covey.crypto.credentials import Credentials
from covey.node.book import PeerBook
from covey.node.directory import Directory

__all__ = ["YOUNG_US", "Addressing"]

_log = logging.getLogger(__name__)

YOUNG_US: Final = 24 * 3600 * 1_000_000
"""Age of an identity from which on it never moves, microseconds (PROTOCOL 6)."""
_LOOK_SECONDS: Final = 3600.0
"""Between two looks at who else claims our address, while we would move."""
_NONCES: Final = 256


class Addressing:
    """`now` gives monotonic seconds; `born_us` is when the identity was made, wall microseconds."""

    def __init__(self, directory: Directory, book: PeerBook, born_us: int, now: Callable[[], float]) -> None:
        self._directory = directory
        self._book = book
        self._born_us = born_us
        self._now = now
        self._looked: tuple[int, float] | None = None

    def may_move(self, now_us: int) -> bool:
        established = any(peer.trust == "trusted" for peer in self._book.all())
        return now_us - self._born_us < YOUNG_US and not established

    async def settle(self, credentials: Credentials, now_us: int) -> Credentials:
        """With the next free address if we may move and another agent claims ours; else the same object."""
        nonce = credentials.address_nonce
        if not self.may_move(now_us):
            return credentials
        if self._looked is not None and self._looked[0] == nonce and self._now() - self._looked[1] < _LOOK_SECONDS:
            return credentials
        if not self._directory.reached():
            return credentials
        free = nonce
        for _ in range(_NONCES):  # if every one is claimed, it stays where it is
            if not await self._directory.sharers(address(credentials.identity, free)):
                break
            free = (free + 1) % _NONCES
        self._looked = (free, self._now())
        if free == nonce:
            return credentials
        _log.info("another agent claims our address: we take %s", address_text(address(credentials.identity, free)))
        return replace(credentials, address_nonce=free)
