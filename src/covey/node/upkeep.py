"""What a node does once a minute, and whenever a message expires."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from covey.base.errors import CoveyError, StorageError
from covey.net.host import Host
from covey.node.addressing import Addressing
from covey.node.announcement import Announcement, renew
from covey.node.clock import Clock
from covey.node.mail import Mail
from covey.node.mailbox import Mailbox
from covey.node.profile import Files
from covey.node.rendezvous_client import RendezvousClient
from covey.node.storage import save
from covey.node.storage.store import MAINTENANCE_SECONDS
from covey.node.transport import Transport

__all__ = ["Upkeep"]

_log = logging.getLogger(__name__)

_EXPIRY_PAUSE: Final = 0.05
"""Least time between two looks for messages that expire, seconds."""
_FAILED_PAUSE: Final = 10.0
"""After upkeep that failed (a full disk), seconds."""


class Upkeep:
    """`keep_ways` looks after relays, homes and reserves."""

    def __init__(
        self,
        *,
        host: Host,
        files: Files,
        clock: Clock,
        transport: Transport,
        announcement: Announcement,
        clients: Sequence[RendezvousClient],
        addressing: Addressing,
        mail: Mail,
        mailbox: Mailbox,
        keep_ways: Callable[[], None],
    ) -> None:
        self._host = host
        self._files = files
        self._clock = clock
        self._transport = transport
        self._announcement = announcement
        self._clients = clients
        self._addressing = addressing
        self._mail = mail
        self._mailbox = mailbox
        self._keep_ways = keep_ways
        self._trouble: StorageError | None = None

    async def run(self) -> None:
        while True:
            try:
                await self._await_next()
                self._keep_ways()
                await self._mail.maintain(self._clock.now_us(), self._clock.settle())
                await self._renew_keys()
                self._announcement.keep_fresh()
                self._trouble = None
            except CoveyError as error:
                self._trouble = error if isinstance(error, StorageError) else None
                _log.error("upkeep failed: %s (%s)", error.message, error.code)
                await asyncio.sleep(_FAILED_PAUSE)

    @property
    def storage_trouble(self) -> StorageError | None:
        """Why the last write failed that did, if none succeeded since: of the database, or of the keys' file."""
        return self._files.store.database.trouble or self._trouble

    async def _await_next(self) -> None:
        until = self._host.now() + MAINTENANCE_SECONDS
        while (pause := until - self._host.now()) > 0:
            next_expiry = await self._mail.next_expiry()
            if next_expiry is not None:
                pause = min(pause, max(_EXPIRY_PAUSE, (next_expiry - self._clock.now_us()) / 1e6))
            try:
                async with asyncio.timeout(pause):
                    await self._mail.expires_sooner.wait()
            except TimeoutError:
                return

    async def _renew_keys(self) -> None:
        before, now_us = self._transport.endpoint.credentials, self._clock.now_us()
        settled = await self._addressing.settle(before, now_us)
        if settled is not before:
            await self._host.blocking(lambda: save(self._files.home, settled))
        after = await self._host.blocking(lambda: renew(settled, self._files.home, self._host, now_us))
        if after is not before:
            self._transport.endpoint.adopt(self._host.now(), after)
        if await self._mailbox.renew() or after is not before:
            self._announcement.mailbox_key_id = self._mailbox.key_id
            for client in self._clients:
                client.publish_soon()
