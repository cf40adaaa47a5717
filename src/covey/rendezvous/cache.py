"""The store, off the event loop: what is published together is committed together, what is asked is exact."""

from __future__ import annotations

from functools import partial
from typing import Final

from covey.base.errors import StateError
from covey.base.types import Address, Identity
from covey.crypto.events import KeyLog
from covey.crypto.record import Record
from covey.net.host import Host
from covey.node.committer import Committer
from covey.rendezvous.publication import Publication
from covey.rendezvous.store import Entry, Published, RendezvousStore
from covey.wire import rendezvous as wire

__all__ = ["Cache"]

_FOUND_BYTES: Final = wire.FRAME_LIMIT - 16
"""What fits a FOUND. Sixteen claims with ordinary logs are 20 kB; only huge logs need the bound."""

_NAMES: Final = {"none": wire.NAME_NONE, "held": wire.NAME_HELD, "taken": wire.NAME_TAKEN}


class Cache:
    """A `RendezvousStore` on the host's writer thread. Raises `StorageError`, and `LimitError` when full."""

    def __init__(self, host: Host, store: RendezvousStore) -> None:
        self._host = host
        self._store = store
        self._committer = Committer(host, store.database)

    async def publish(self, publication: Publication) -> int:
        """Holds it; once that is committed, the outcome for its name, as on the wire.

        `StateError` ``stale-record`` if a newer one is held.
        """
        published = await self._committer.run(partial(self._put, publication, self._host.wall_us()))
        if not published.stored:
            raise StateError("a newer record of this agent is known here", code="stale-record")
        return _NAMES[published.name]

    async def end(self, log: KeyLog) -> None:
        """Holds the log of a revoked identity beside its last record, so that everybody who asks learns of it."""
        await self._committer.run(partial(self._store.put_log, log.identity, log.raw, revoked=True))

    async def look_up(self, by: int, key: bytes) -> tuple[wire.Signed, ...]:
        """Every claim, the longest known first, as many as fit an answer."""
        found: list[wire.Signed] = []
        room = _FOUND_BYTES
        for entry in await self._host.blocking(partial(self._find, by, key)):
            room -= len(entry.record) + len(entry.log) + 6
            if room < 0:
                break
            found.append(wire.Signed(entry.record, entry.log))
        return tuple(found)

    async def log_of(self, identity: Identity) -> KeyLog | None:
        """The key-event log held of it."""
        entry = await self._host.blocking(partial(self._store.by_identity, identity))
        return None if entry is None or not entry.log else KeyLog.parse(entry.log)

    async def expire(self) -> None:
        """Forgets what is of no use any more."""
        await self._host.blocking(partial(self._store.expire, self._host.wall_us()))

    async def counts(self) -> tuple[int, int]:
        """Records and names held."""
        return await self._host.blocking(self._store.counts)

    async def drain(self) -> None:
        """Waits until everything handed over is committed."""
        await self._committer.drain()

    def _put(self, publication: Publication, now_us: int) -> Published:
        record = publication.record
        return self._store.put(
            record.identity,
            address=record.address(),
            name=publication.name,
            order=record.order,
            record=record.raw,
            log=publication.log.raw,
            expires_us=record.expires_us,
            now_us=now_us,
        )

    def _find(self, by: int, key: bytes) -> list[Entry]:
        """An unlisted agent is found by its identity only (DESIGN 7); it was put without its name."""
        if by == wire.BY_IDENTITY:
            entry = self._store.by_identity(key)
        elif by == wire.BY_NAME:
            entry = self._store.by_name(key.decode("ascii", "replace"), self._host.wall_us())
        else:
            entries = self._store.by_address(Address(key))
            return [each for each in entries if not Record.parse(each.record).unlisted]
        return [] if entry is None else [entry]
