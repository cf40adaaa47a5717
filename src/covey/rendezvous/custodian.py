"""Keeps sealed letters for agents that are away, with a fair share of each box for everybody (PROTOCOL 23).

Who deposited a letter is remembered in memory only, for as long as the letter is held, so that one flooder cannot
fill somebody's box: when a box is full, room is made where most is taken, first by network prefix, because
identities cost nothing, then by identity; and there the newest goes, because what came before a flood is worth
more than the flood. After a restart nobody knows who deposited what was held, so all of that is one source.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from covey.base.constants import CLOCK_SKEW_SECONDS
from covey.base.errors import LimitError, NotFoundError, RefusedError, UsageError
from covey.base.types import Identity, parse_endpoint
from covey.crypto.certificates import SECOND_US
from covey.crypto.events import KeyLog
from covey.crypto.mailbox import MAIL_LIFE_US, MailboxKey
from covey.crypto.seal import sealed_expiry
from covey.net.host import Host
from covey.node.committer import Committer
from covey.rendezvous.limits import Limits
from covey.rendezvous.mailboxes import MailboxStore, Waiting
from covey.wire import rendezvous as wire

__all__ = ["UNKNOWN", "Custodian", "Source", "make_room", "source_of"]

_PAGE_BYTES: Final = 128 * 1024
"""Of letters in one LETTERS, beyond the first."""
_NUMBER_LIMIT: Final = (1 << 63) - 1


class Source(NamedTuple):
    """Where a deposit came from."""

    network: str
    """An IPv4 address or the /64 of an IPv6 one."""
    identity: Identity


UNKNOWN: Final = Source("", Identity(b""))
"""Of whatever was held before this process began."""


def source_of(endpoint: str, identity: Identity) -> Source:
    """`endpoint` is HOST:PORT with an IP address, or "" if the client has no path just now."""
    if not endpoint:
        return Source("-", identity)
    address = ipaddress.ip_address(parse_endpoint(endpoint)[0].partition("%")[0])
    if address.version == 4:
        return Source(str(address), identity)
    if address.ipv4_mapped is not None:
        return Source(str(address.ipv4_mapped), identity)
    return Source(str(ipaddress.ip_network((address, 64), strict=False)), identity)


def make_room(
    held: Sequence[tuple[int, int, Source]], size: int, source: Source, *, letters: int, room: int
) -> list[int] | None:
    """Which letters of a full box go for a new one of `size` bytes from `source`; None: the new one is refused.

    `held` is (number, size, source) of each letter, `letters` and `room` are what the box may hold.
    """
    kept = {number: (taken, where) for number, taken, where in held}
    gone: list[int] = []
    while len(kept) >= letters or sum(taken for taken, _ in kept.values()) + size > room:
        networks: dict[str, int] = defaultdict(int, {source.network: size})
        for taken, where in kept.values():
            networks[where.network] += taken
        # Of equals the newcomer yields: who is there already was promised that it is stored.
        network = max(networks, key=lambda each: (networks[each], each == source.network))
        identities: dict[Identity, int] = defaultdict(int)
        if network == source.network:
            identities[source.identity] = size
        for taken, where in kept.values():
            if where.network == network:
                identities[where.identity] += taken
        heaviest = max(identities, key=lambda each: (identities[each], each == source.identity))
        if (network, heaviest) == source:
            return None
        victim = max(number for number, (_, where) in kept.items() if where == (network, heaviest))
        del kept[victim]
        gone.append(victim)
    return gone


class Custodian:
    """A `MailboxStore` on the host's writer thread, behind the limits. Raises `StorageError` and what is said below."""

    def __init__(self, host: Host, store: MailboxStore, limits: Limits) -> None:
        self._host = host
        self._store = store
        self._limits = limits
        self._committer = Committer(host, store.database)
        self._sources: dict[int, tuple[Source, int]] = {}
        """Letter number -> where it came from, and its size. Changed on the writer thread only."""
        self._networks: dict[str, int] = {}
        """Bytes held of each network, of those in `_sources`."""

    async def open_box(self, identity: Identity, raw: bytes, log: KeyLog | None) -> None:
        """`log` is the client's own. `ParseError`, `VerifyError`; `RefusedError` ``not-yours``, ``publish-first``."""
        key = MailboxKey.parse(raw)
        if key.identity != identity:
            raise RefusedError("an agent opens its own mailbox only", code="not-yours")
        if log is None:
            raise RefusedError("publish a record first", code="publish-first")
        key.verify(log, self._host.wall_us())
        await self._committer.run(partial(self._open, identity, raw, key.until_us))

    async def ask(self, identity: Identity) -> bytes:
        """The mailbox key of an agent, b"" if it has no box here."""
        return await self._host.blocking(partial(self._store.key, identity, self._host.wall_us())) or b""

    async def deposit(self, source: Source, deposit_id: bytes, recipient: Identity, sealed: bytes) -> None:
        """Returns once the letter is on the disk.

        `ParseError`; `UsageError` ``bad-expiry``; `NotFoundError` ``no-mailbox``; `LimitError` ``mailbox-full``,
        ``too-much-mail``, ``custodian-full``.
        """
        expires_us, now_us = sealed_expiry(sealed), self._host.wall_us()
        if not now_us < expires_us <= now_us + MAIL_LIFE_US + CLOCK_SKEW_SECONDS * SECOND_US:
            raise UsageError("this letter has expired, or would wait for too long", code="bad-expiry")
        await self._committer.run(partial(self._put, source, deposit_id, recipient, sealed, expires_us, now_us))

    async def collect(self, recipient: Identity, after: int) -> tuple[bool, list[tuple[int, bytes]]]:
        """Whether there are more, and the next letters above `after`."""
        return await self._host.blocking(partial(self._collect, recipient, min(after, _NUMBER_LIMIT)))

    async def clear(self, recipient: Identity, numbers: Iterable[int]) -> None:
        """These are settled."""
        wanted = [number for number in numbers if number <= _NUMBER_LIMIT]
        await self._committer.run(partial(self._clear, recipient, wanted))

    async def expire(self) -> None:
        """Forgets what is of no use any more."""
        await self._committer.run(self._expire)

    async def counts(self) -> tuple[int, int]:
        """Boxes and letters held."""
        return (await self._host.blocking(self._store.counts))[:2]

    async def drain(self) -> None:
        """Waits until everything handed over is committed."""
        await self._committer.drain()

    # --- on the writer thread -----------------------------------------------------------------------------------

    def _open(self, identity: Identity, raw: bytes, until_us: int) -> None:
        if self._store.key(identity, 0) is None and self._store.counts()[0] >= self._limits.boxes:
            raise LimitError("this rendezvous keeps all the mailboxes it can", code="custodian-full")
        self._store.open_box(identity, raw, until_us)

    def _put(
        self, source: Source, deposit_id: bytes, recipient: Identity, sealed: bytes, expires_us: int, now_us: int
    ) -> None:
        store, limits, size = self._store, self._limits, len(sealed)
        if store.key(recipient, now_us) is None:
            raise NotFoundError("this agent has no mailbox here", code="no-mailbox")
        held = store.waiting(recipient)
        replaced = [letter for letter in held if letter.deposit == deposit_id]
        freed = sum(letter.size for letter in replaced)
        if self._networks.get(source.network, 0) + size - freed > limits.network_bytes:
            raise LimitError("too many letters from your network wait here", code="too-much-mail")
        gone = make_room(
            [self._sourced(letter) for letter in held if letter not in replaced],
            size,
            source,
            letters=limits.box_letters,
            room=limits.box_bytes,
        )
        if gone is None:
            raise LimitError("the mailbox of this agent is full", code="mailbox-full")
        if store.counts()[2] + size > limits.mail_bytes:
            raise LimitError("this rendezvous keeps all the letters it can", code="custodian-full")
        store.clear(recipient, gone)
        number = store.put(recipient, deposit_id, sealed, expires_us)
        self._forget((*gone, *(letter.number for letter in replaced)))
        self._sources[number] = source, size
        self._networks[source.network] = self._networks.get(source.network, 0) + size

    def _collect(self, recipient: Identity, after: int) -> tuple[bool, list[tuple[int, bytes]]]:
        now_us = self._host.wall_us()
        found = self._store.collect(recipient, after, wire.LETTERS_LIMIT, _PAGE_BYTES, now_us)
        return bool(found) and self._store.holds(recipient, found[-1][0], now_us), found

    def _clear(self, recipient: Identity, numbers: Sequence[int]) -> None:
        mine = {letter.number for letter in self._store.waiting(recipient)}.intersection(numbers)
        self._store.clear(recipient, sorted(mine))
        self._forget(mine)

    def _expire(self) -> None:
        self._store.expire(self._host.wall_us())
        self._forget(set(self._sources) - self._store.known(self._sources))

    def _sourced(self, letter: Waiting) -> tuple[int, int, Source]:
        source, _ = self._sources.get(letter.number, (UNKNOWN, 0))
        return letter.number, letter.size, source

    def _forget(self, numbers: Iterable[int]) -> None:
        networks = self._networks
        for number in numbers:
            source, size = self._sources.pop(number, (UNKNOWN, 0))
            left = networks.get(source.network, 0) - size
            if left > 0:
                networks[source.network] = left
            else:
                networks.pop(source.network, None)
