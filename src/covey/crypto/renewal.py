"""Keys that rotate by themselves: which are due, as a plain function of the time (DESIGN 3, PROTOCOL 5).

Agents that were started together, by one script or after one power cut, should not rotate together for ever: each key
has its own moment, taken from its own bits, so that it is the same after a restart.
"""

from __future__ import annotations

from typing import Final

from covey.base.constants import TRANSPORT_KEY_ROTATE_SECONDS
from covey.crypto.certificates import CLOCK_SKEW_US, DELEGATION_LIFE_US, SECOND_US
from covey.crypto.credentials import Credentials, Random
from covey.crypto.keys import KEY_SIZE
from covey.crypto.mailbox import MAILBOX_ROTATE_US, SEED_SIZE, MailboxKeys

__all__ = [
    "DELEGATE_JITTER_US",
    "DELEGATE_US",
    "MAILBOX_JITTER_US",
    "ROTATE_JITTER_US",
    "ROTATE_US",
    "renewed",
    "renewed_mailbox",
]

ROTATE_US: Final = TRANSPORT_KEY_ROTATE_SECONDS * SECOND_US
"""Age of the newest transport key at which another is made at the latest, microseconds."""

ROTATE_JITTER_US: Final = ROTATE_US // 16
"""It is made up to an hour sooner. Four keys are alive at most: 48 hours are less than four times 15."""

DELEGATE_US: Final = DELEGATION_LIFE_US // 3
"""What is left of a delegation when another is made at the latest, microseconds: ten days for mending a failure."""

DELEGATE_JITTER_US: Final = DELEGATION_LIFE_US // 30
"""It is made up to a day sooner."""

MAILBOX_JITTER_US: Final = MAILBOX_ROTATE_US // 16
"""A mailbox key is replaced up to 90 minutes before it has been the newest for a day."""


def renewed(credentials: Credentials, random: Random, now_us: int) -> Credentials:
    """With whatever is due at `now_us`; the same object if nothing is.

    A new operational key if the delegation nears its end and the root is at hand, a new transport key if the newest
    has its age, and none whose 48 hours are over. What was made by a clock that was ahead, and so does not hold yet
    for anybody else, is replaced too. Write it to its file before using it.
    """
    fresh = credentials.live(now_us)
    if fresh.root is not None and _delegation_due(fresh, now_us):
        fresh = fresh.delegate(fresh.root, random(KEY_SIZE), now_us)
    if _transport_due(fresh, now_us):
        fresh = fresh.rotate_transport(random(KEY_SIZE), now_us)
    return fresh


def renewed_mailbox(keys: MailboxKeys, credentials: Credentials, random: Random, now_us: int) -> MailboxKeys:
    """With what is due at `now_us`, as `renewed`; the same object if nothing is.

    A new mailbox key if the newest has its age, was signed under another delegation or by a clock that was ahead, and
    none whose time is over.
    """
    fresh = keys.live(now_us)
    return fresh.rotated(credentials, random(SEED_SIZE), now_us) if _mailbox_due(fresh, credentials, now_us) else fresh


def _mailbox_due(keys: MailboxKeys, credentials: Credentials, now_us: int) -> bool:
    if not keys.pairs or keys.current.delegation.raw != credentials.delegation.raw:
        return True
    key = keys.current
    due_us = key.from_us + MAILBOX_ROTATE_US - _share(key.id, MAILBOX_JITTER_US)
    return now_us >= due_us or key.from_us > now_us + CLOCK_SKEW_US


def _delegation_due(credentials: Credentials, now_us: int) -> bool:
    delegation = credentials.delegation
    margin_us = DELEGATE_US + _share(delegation.operational, DELEGATE_JITTER_US)
    return now_us >= delegation.until_us - margin_us or delegation.from_us > now_us + CLOCK_SKEW_US


def _transport_due(credentials: Credentials, now_us: int) -> bool:
    if not credentials.transport_keys:
        return True
    key, certificate = credentials.current
    due_us = certificate.from_us + ROTATE_US - _share(key.public, ROTATE_JITTER_US)
    return now_us >= due_us or certificate.from_us > now_us + CLOCK_SKEW_US


def _share(public: bytes, span_us: int) -> int:
    """A part of `span_us` that belongs to this key."""
    return int.from_bytes(public[:4], "big") * span_us >> 32
