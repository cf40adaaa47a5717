"""A profile: what an agent keeps between its runs, and what a new run takes up of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from covey.base.errors import CoveyError, StateError
from covey.base.paths import Home
from covey.base.types import Endpoint, Identity, identity_text
from covey.core.endpoint import Endpoint as Core
from covey.crypto.events import KeyLog
from covey.net.host import Host
from covey.node.book import PeerBook
from covey.node.naming import made_up_name
from covey.node.storage import Lock, Peer, Retention, Store, load_or_create, prepare
from covey.node.storage.settings import BORN, NAME, NETWORK, Settings
from covey.node.transport import Transport
from covey.wire.ticket import Ticket

__all__ = ["LAST_TIMESTAMP", "Files", "bind", "restore"]

_log = logging.getLogger(__name__)

LAST_TIMESTAMP: Final = "handshake-timestamp"
"""The setting that holds the last one of our own initiations."""
_LAST_PORT: Final = "udp-port"


class Files:
    """A profile's files, held by its lock: identity, database, remembered settings."""

    def __init__(self, home: Home, host: Host, *, durable: bool, retention: Retention) -> None:
        """Raises StateError (`profile-in-use`) and StorageError; then nothing is left open."""
        prepare(home)
        self.home = home
        self.lock = Lock(home.lock_file)
        self.lock.acquire()
        try:
            self.credentials = load_or_create(home, host.random, host.wall_us())
            self.store = Store.open(home, host.random, host.wall_us(), durable=durable, retention=retention)
        except BaseException:
            self.lock.release()
            raise

    def remember(self, name: str | None, ticket: Ticket | None) -> tuple[str, Ticket | None]:
        """This agent's name and network: those given, else those of the last time."""
        settings = self.store.settings
        name = name or settings.get_text(NAME)
        if not name:
            name = made_up_name(self.credentials.identity)
        remembered = settings.get_text(NETWORK)
        ticket = ticket or (Ticket.parse(remembered) if remembered else None)
        with self.store.database.transaction():
            settings.set(NAME, name)
            if settings.get(BORN) is None:
                settings.set(BORN, self.credentials.delegation.from_us)
            if ticket is not None:
                settings.set(NETWORK, str(ticket))
        return name, ticket

    def close(self) -> None:
        self.store.close()
        self.lock.release()


def restore(core: Core, store: Store, book: PeerBook) -> None:
    """The core's memory of earlier runs: pins, logs, replay state."""
    core.handshakes.last_timestamp = store.settings.get_int(LAST_TIMESTAMP)
    for (identity, key), at in store.settings.handshake_timestamps().items():
        core.handshakes.replays.confirm(Identity(identity), key, at)
    for peer in book.all():
        if peer.trust == "trusted":
            core.pin(peer.identity)
            for address in peer.candidates:
                core.handshakes.expect(address)
        if peer.log:
            _restore_log(core, peer)
        if peer.order is not None:
            core.keyring.saw_delegation(peer.identity, *peer.order[:2])


def _restore_log(core: Core, peer: Peer) -> None:
    """One that is damaged is learnt again from the peer itself: its identity is the hash of its first event."""
    try:
        core.add_log(replace(KeyLog.parse(peer.log), forked=peer.forked))
    except CoveyError as error:
        who = identity_text(peer.identity)[:8]
        _log.error("the key log kept of %s is damaged: %s (%s); covey store check", who, error.message, error.code)


def bind(transport: Transport, settings: Settings, listen: Endpoint) -> None:
    """Opens the UDP port: the one given or, for port 0, that of the last run if it is free.

    Peers remember where they met us. As long as we come back to the same port they find us there, also while
    every rendezvous is down.
    """
    host, number = listen
    remembered = settings.get_int(_LAST_PORT) if number == 0 else 0
    if remembered:
        try:
            transport.bind((host, remembered))
        except StateError:
            remembered = 0  # somebody else has it now
    if not remembered:
        settings.set(_LAST_PORT, transport.bind(listen).local[1])
