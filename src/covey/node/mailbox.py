"""Our own mailbox: its keys, and the letters that waited for us at the rendezvous (PROTOCOL 23).

At each rendezvous the box is opened under the present key and emptied: after every new session, when the rendezvous
says that there is mail, and hourly as long as something is left in it. A letter is cleared there when what it says is
on our disk, or when it will never be of use; one that may still be (its sender's log cannot be had now) stays until it
expires. So a letter comes at least once, and counts once: see `PeerBook.hear_letter`.

A rendezvous may drop, delay, repeat, swap and alter letters. What it alters or meant for others does not open, what it
repeats or delays was overtaken, and it can only make us ask so often.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from typing import Final

from covey.base.errors import CoveyError, ParseError, RefusedError, UnreachableError, VerifyError
from covey.base.paths import Home
from covey.base.types import Identity
from covey.core.endpoint import Endpoint
from covey.crypto.mailbox import MailboxKeys
from covey.crypto.renewal import renewed_mailbox
from covey.crypto.seal import Letter, open_sealed
from covey.net.host import Host
from covey.node.directory import Directory
from covey.node.rendezvous_client import RendezvousClient
from covey.node.retry import Retry
from covey.node.services import TrustService
from covey.node.storage import load_mailbox, save_mailbox
from covey.wire import trust

__all__ = ["Mailbox"]

_log = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 3600.0
"""After which time letters are looked at again whose senders could not be verified."""
_PAUSE_SECONDS: Final = 1.0
"""Least time between two looks into one box."""
_PAGES: Final = 32
"""Of one collection: more than an honest rendezvous keeps for anybody."""
_NOT_YET: Final = frozenset({"unknown-head", "not-yet-valid"})
"""What may hold later."""


class Mailbox:
    """`attend(client)` as a task per rendezvous; `on_mail` and `on_change` say when there may be something to do."""

    def __init__(
        self,
        host: Host,
        home: Home,
        endpoint: Endpoint,
        directory: Directory,
        service: TrustService,
        now_us: Callable[[], int],
    ) -> None:
        """Reads the keys and makes those that are due. `StorageError`."""
        self._host = host
        self._home = home
        self._endpoint = endpoint
        self._directory = directory
        self._service = service
        self._now_us = now_us
        self._looks: dict[Identity, asyncio.Event] = {}
        self._mail: set[Identity] = set()
        """Rendezvous whose box is to be looked into."""
        keys, aside = load_mailbox(home, endpoint.credentials.identity, now_us())
        self.damaged = aside
        """Where damaged keys were moved when this node started; "" if they were not."""
        if aside:
            _log.warning("the mailbox keys were damaged and moved to %s; letters that wait are lost", aside)
        self._keys = keys
        self._replace(self._renewed())

    @property
    def key_id(self) -> bytes:
        """Of the key that others may seal to now."""
        return self._keys.current.id

    async def renew(self) -> bool:
        """Makes a key if one is due, and destroys those whose time is over. Whether there is a new one to publish."""
        before, fresh = self._keys, self._renewed()
        if fresh is before:
            return False
        await self._host.blocking(lambda: self._replace(fresh))
        self.on_change()
        return fresh.current is not before.current

    def on_mail(self, rendezvous: Identity) -> None:
        """A rendezvous says that a letter waits there."""
        self._mail.add(rendezvous)
        self.on_change()

    def on_change(self) -> None:
        """A rendezvous may have a new session, or we a new key."""
        for look in self._looks.values():
            look.set()

    async def attend(self, client: RendezvousClient) -> None:
        """Keeps the box at one rendezvous open and empty; never ends by itself."""
        look = self._looks[client.identity] = asyncio.Event()
        retry = Retry(self._host.random)
        opened: tuple[object, bytes] | None = None
        again_at = math.inf
        while True:
            await client.wait_published()
            look.clear()
            present = (client.attachment, self.key_id)
            try:
                if opened != present:
                    await client.open_box(self._keys.current.raw)
                    opened = present
                    self._mail.add(client.identity)
                if client.identity in self._mail or self._host.now() >= again_at:
                    self._mail.discard(client.identity)
                    empty = await self._empty(client)
                    again_at = math.inf if empty else self._host.now() + _AGAIN_SECONDS
                retry.reset()
            except CoveyError as error:
                _log.info("mailbox: %s (%s)", error.message, error.code)
                self._mail.add(client.identity)
                await retry.pause()
                continue
            await asyncio.sleep(_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if again_at == math.inf else again_at - self._host.now()):
                    await look.wait()

    async def _empty(self, client: RendezvousClient) -> bool:
        """False: something is left that may be of use later."""
        after, empty = 0, True
        for _ in range(_PAGES):
            page = await client.collect(after)
            settled = await self._take_all(page.letters)
            await client.clear(settled)
            empty = empty and len(settled) == len(page.letters)
            if not page.more or not page.letters or page.letters[-1][0] <= after:
                break
            after = page.letters[-1][0]
        return empty

    async def _take_all(self, letters: Sequence[tuple[int, bytes]]) -> list[int]:
        """Takes what can be taken. The rendezvous' numbers of those that are settled."""
        settled = []
        opened: list[tuple[int, Letter]] = []
        for number, sealed in letters:
            try:
                opened.append((number, open_sealed(sealed, self._identity, self._keys, self._now_us())))
            except (ParseError, VerifyError):
                settled.append(number)
            await asyncio.sleep(0)  # opening takes 0.2 ms: others have their turn
        # The newest of each sender first: who took a request back before we looked has never asked.
        opened.sort(key=lambda each: each[1].number, reverse=True)
        for number, letter in opened:
            if await self._take(letter):
                settled.append(number)
        return settled

    async def _take(self, letter: Letter) -> bool:
        """Whether this letter is settled: done with, for good or ill."""
        if letter.kind != trust.LETTER_KIND:
            return False  # of a later Covey, which may read it after an upgrade
        try:
            action = trust.TrustLetter.parse(letter.body)
            if letter.number > trust.NUMBER_LIMIT:
                raise ParseError("impossible number of a letter")
            if not await self._verify(letter):
                return False
            await self._service.take(letter.sender, action, letter.number)
        except (ParseError, VerifyError, RefusedError) as error:
            if error.code in _NOT_YET:
                return False
            _log.info("a letter was dropped: %s (%s)", error.message, error.code)
        return True

    async def _verify(self, letter: Letter) -> bool:
        """Who wrote it is who it says. False: nobody gives us the sender's log now. VerifyError."""
        if letter.sender == self._identity:
            raise VerifyError("a letter from ourselves", code="self")
        try:
            await self._directory.refresh(letter.sender)  # the log, a revocation, and what to show: name and address
        except UnreachableError:
            return False
        log = self._endpoint.log_of(letter.sender)
        if log is None:
            return False
        letter.verify(log, self._now_us())
        self._endpoint.keyring.admit_delegation(log, letter.delegation)
        return True

    @property
    def _identity(self) -> Identity:
        return self._endpoint.credentials.identity

    def _renewed(self) -> MailboxKeys:
        return renewed_mailbox(self._keys, self._endpoint.credentials, self._host.random, self._now_us())

    def _replace(self, fresh: MailboxKeys) -> None:
        if fresh is not self._keys:
            save_mailbox(self._home, fresh)
            self._keys = fresh
