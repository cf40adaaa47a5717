"""Keys that rotate by themselves: which are due, as a plain function of the time (DESIGN 3, PROTOCOL 5)."""

from __future__ import annotations

from typing import Final

from covey.base.constants import TRANSPORT_KEY_ROTATE_SECONDS
from covey.crypto.certificates import DELEGATION_LIFE_US, SECOND_US
from covey.crypto.credentials import Credentials, Random
from covey.crypto.keys import KEY_SIZE

__all__ = ["renewed"]

ROTATE_US: Final = TRANSPORT_KEY_ROTATE_SECONDS * SECOND_US
"""Age of the newest transport key at which another is made, microseconds."""

DELEGATE_US: Final = DELEGATION_LIFE_US // 3
"""What is left of a delegation when another is made, microseconds: ten days for mending a failure."""


def renewed(credentials: Credentials, random: Random, now_us: int) -> Credentials:
    """With whatever is due at `now_us`; the same object if nothing is.

    A new operational key if the delegation nears its end and the root is at hand, a new transport key if the
    newest is 16 hours old, and none whose 48 hours are over. Write it to its file before using it.
    """
    fresh = credentials.live(now_us)
    if fresh.root is not None and now_us >= fresh.delegation.until_us - DELEGATE_US:
        fresh = fresh.delegate(fresh.root, random(KEY_SIZE), now_us)
    if not fresh.transport_keys or now_us >= fresh.current.certificate.from_us + ROTATE_US:
        fresh = fresh.rotate_transport(random(KEY_SIZE), now_us)
    return fresh
