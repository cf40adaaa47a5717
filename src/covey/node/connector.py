"""Brings a live connection with a peer: relay first, known direct addresses at the same time (DESIGN 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import copy_context
from typing import Final, NoReturn

from covey.base.errors import CoveyError, StateError, UnreachableError
from covey.base.types import Identity
from covey.core.connection import Connection
from covey.core.handshake import Target
from covey.core.path import Route
from covey.crypto.record import Record
from covey.node.book import PeerBook
from covey.node.directory import Directory
from covey.node.rendezvous_client import RendezvousClient
from covey.node.retry import LONGEST, LONGEST_WATCHED, Retry
from covey.node.transport import Transport

__all__ = ["Connector", "patience"]

OFFLINE: Final = "peer-offline"

_CONNECT_SECONDS: Final = 10.0
_SEEK_AGAIN_SECONDS: Final = 0.8
"""First pause between two searches for ways to a peer that does not answer; doubles."""


class Connector:
    """One attempt per peer at a time, however many wait for it."""

    def __init__(
        self,
        transport: Transport,
        book: PeerBook,
        directory: Directory,
        clients: Sequence[RendezvousClient],
    ) -> None:
        self._transport = transport
        self._book = book
        self._directory = directory
        self._clients = clients
        self._bringing: dict[Identity, asyncio.Task[Connection]] = {}
        self._reviving: dict[Identity, Retry] = {}
        self._hopes: dict[Identity, asyncio.Event] = {}
        self._watched: set[Identity] = set()
        """Peers that were away when we last sought them, and whose return we shall be told."""
        self._context = copy_context()

    async def connect(self, identity: Identity) -> Connection:
        """A live, verified connection. UnreachableError says why there is none."""
        connection = self._transport.live(identity)
        if connection is not None:
            return connection
        task = self._bringing.get(identity)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._bring(identity), name="connect", context=self._context)
            self._bringing[identity] = task
            task.add_done_callback(lambda _: self._bringing.pop(identity, None))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise StateError("the node is closed", code="closed") from None

    def revive(self, connection: Connection) -> None:
        """A connection with open streams has no working path: keeps trying to give it one, in the background."""
        identity = connection.peer
        if identity not in self._reviving:
            self._reviving[identity] = Retry(self._transport.host.random)
            self._transport.spawn(self._revive(connection), "revive")

    def hope(self, identity: Identity) -> None:
        """There is a reason to believe that this peer can be reached now."""
        seeking = self._hopes.get(identity)
        if seeking is not None:
            seeking.set()
        retry = self._reviving.get(identity)
        if retry is not None:
            retry.hope()

    async def close(self) -> None:
        tasks = list(self._bringing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _revive(self, connection: Connection) -> None:
        retry = self._reviving[connection.peer]
        try:
            while not connection.closed and connection.streams and self._transport.live(connection.peer) is None:
                try:
                    await self.connect(connection.peer)
                except CoveyError as error:
                    await retry.pause(patience(error))
        finally:
            del self._reviving[connection.peer]

    async def _bring(self, identity: Identity) -> Connection:
        transport = self._transport
        live = asyncio.ensure_future(transport.wait_live(identity))
        seeking = asyncio.ensure_future(self._keep_seeking(identity))
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await asyncio.wait((live, seeking), return_when=asyncio.FIRST_COMPLETED)
                if not live.done():
                    await seeking  # it only ends by an error
                return await live
        except TimeoutError:
            if identity in self._watched:
                raise _offline() from None
            raise UnreachableError(
                "the peer does not answer", code="no-answer", next_step="check that it runs: covey status, there"
            ) from None
        finally:
            for task in (live, seeking):
                task.cancel()
            await asyncio.gather(live, seeking, return_exceptions=True)

    async def _keep_seeking(self, identity: Identity) -> NoReturn:
        """Seeks again while nothing answers: a rendezvous may have introduced us to where the peer was until now."""
        pause = _SEEK_AGAIN_SECONDS
        hope = self._hopes[identity] = asyncio.Event()
        try:
            while True:
                await self._seek(identity)
                try:
                    async with asyncio.timeout(pause):
                        await hope.wait()
                except TimeoutError:
                    pause *= 2
                hope.clear()
        finally:
            del self._hopes[identity]

    async def _seek(self, identity: Identity) -> None:
        """Starts handshakes over every way there is. UnreachableError if there is none at all."""
        peer = self._book.get(identity)
        started = False
        if peer is not None and peer.record:
            record = Record.parse(peer.record)
            routes = [route for route in map(self._transport.route, peer.candidates) if route is not None]
            if routes and not record.expired(self._transport.host.wall_us()):
                self._transport.connect(Target(identity, record.certificate.public), routes)
                started = True
        asked = [self._introduce(client, identity) for client in self._clients if client.connected]
        introductions, fresh = await asyncio.gather(
            asyncio.gather(*asked, return_exceptions=True), self._fresh_record(identity)
        )
        relayed = [route for route in introductions if isinstance(route, Route)]
        # Every rendezvous that answers says that it is away, and promised to tell when it is back.
        absent = bool(introductions) and all(route is None for route in introductions)
        (self._watched.add if absent else self._watched.discard)(identity)
        if fresh is not None and relayed:
            self._transport.connect(Target(identity, fresh.certificate.public), relayed)
            started = True
        if started:
            return
        if not any(client.connected for client in self._clients):
            raise UnreachableError(
                "no rendezvous answers, and no direct address of the peer is known",
                code="no-rendezvous",
                next_step="covey status",
            )
        raise _offline()

    async def _introduce(self, client: RendezvousClient, identity: Identity) -> Route | None:
        route = await client.introduce(identity)
        if route is None:
            await client.watch(identity)
        return route

    async def _fresh_record(self, identity: Identity) -> Record | None:
        try:
            return await self._directory.refresh(identity)
        except UnreachableError:
            peer = self._book.get(identity)
            return Record.parse(peer.record) if peer is not None and peer.record else None


def patience(error: CoveyError) -> float:
    """The longest pause that makes sense after this failure to reach a peer, seconds."""
    return LONGEST_WATCHED if error.code == OFFLINE else LONGEST


def _offline() -> UnreachableError:
    return UnreachableError(
        "the peer is not connected to its rendezvous now", code=OFFLINE, next_step="check that it is up"
    )
