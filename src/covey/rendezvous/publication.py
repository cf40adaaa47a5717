"""What an agent may publish: its own words, whole, current and signed (PROTOCOL 2 to 4).

A client verifies again whatever it gets from here, so nothing rests on this check but the cache's usefulness:
without it anybody could fill the place of an agent with rubbish.
"""

from __future__ import annotations

from typing import NamedTuple

from covey.base.errors import RefusedError, VerifyError
from covey.base.types import Identity
from covey.crypto.events import KeyLog, merge
from covey.crypto.record import Record
from covey.wire.rendezvous import Signed

__all__ = ["Publication", "check_publication"]


class Publication(NamedTuple):
    """A verified record under a verified log."""

    record: Record
    log: KeyLog

    @property
    def name(self) -> str:
        """The name to put on lease, "" for none: an unlisted agent has no name that others could look up."""
        return "" if self.record.unlisted else self.record.name


def check_publication(signed: Signed, peer: Identity, known: KeyLog | None, now_us: int) -> Publication:
    """Takes apart and verifies what `peer` publishes. `known` is the log held of it so far, if any.

    After a REVOKE no record is valid: then the log alone counts, and the record may be any. `RefusedError`
    ``not-yours`` for the words of another identity; `ParseError` and `VerifyError` as of `KeyLog.parse` and
    `Record.verify`, and ``expired``.
    """
    record = Record.parse(signed.record)
    if record.identity != peer:
        raise RefusedError("an agent publishes its own record only", code="not-yours")
    log = known if known is not None and known.raw == signed.log else _merged(signed.log, peer, known)
    if log.revoked:
        return Publication(record, log)
    record.verify(log, now_us)
    if record.expired(now_us):
        raise VerifyError("this record has expired", code="expired")
    return Publication(record, log)


def _merged(raw: bytes, peer: Identity, known: KeyLog | None) -> KeyLog:
    offered = KeyLog.parse(raw)
    if offered.identity != peer:
        raise RefusedError("an agent publishes its own log only", code="not-yours")
    return offered if known is None else merge(known, offered)
