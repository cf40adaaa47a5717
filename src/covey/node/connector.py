"""Brings a live connection with a peer: relay first, known direct addresses at the same time (DESIGN 6)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from contextvars import copy_context
from typing import Final, NoReturn

from covey.base.errors import CoveyError, StateError, UnreachableError
from covey.base.types import Identity
from covey.core.connection import Connection
from covey.core.handshake import Target
from covey.core.path import Route
from covey.crypto.record import Record
from covey.node.asking import ask
from covey.node.book import PeerBook
from covey.node.directory import Directory
from covey.node.relays import KEEPALIVE, Relays, RelaySource
from covey.node.rendezvous_client import RendezvousClient
from covey.node.retry import LONGEST, LONGEST_WATCHED, Retry
from covey.node.transport import Transport

__all__ = ["Connector", "patience"]

OFFLINE: Final = "peer-offline"

_ATTACH_SECONDS: Final = 1.5
"""How long a search waits for a relay to say that it is one."""
_RESERVE_PAUSE: Final = 1.0
"""Between two looks for other relays to the same peer: what it says may cause them, and is not always true."""
_NEAREST: Final = 2
"""Relays among both agents' peers that are kept ready."""

_CONNECT_SECONDS: Final = 10.0
_MOVE_SECONDS: Final = 3.0
"""How long we try to find other ways for what a rendezvous that stops relays for us."""
_MOVE_PAUSE: Final = 0.1
_OVERLAP_SECONDS: Final = 0.5
"""What peers still send over it has arrived by then, and they have moved, too."""
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
        relays: Relays,
    ) -> None:
        self._transport = transport
        self._book = book
        self._directory = directory
        self._clients = clients
        self._relays = relays
        self._bringing: dict[Identity, asyncio.Task[Connection]] = {}
        self._reviving: dict[Identity, Retry] = {}
        self._hopes: dict[Identity, asyncio.Event] = {}
        self._reserving: set[Identity] = set()
        """Peers for whom another relay is about to be looked for."""
        self._reserved_at: dict[Identity, float] = {}
        """When that was done last, seconds."""
        self._watched: set[Identity] = set()
        """Peers that were away when we last sought them, and whose return we shall be told."""
        self._problems: dict[Identity, str] = {}
        self._context = copy_context()
        self._closed = False

    async def connect(self, identity: Identity) -> Connection:
        """A live, verified connection. UnreachableError says why there is none."""
        connection = self._transport.live(identity)
        if connection is not None:
            return connection
        if self._closed:
            raise StateError("the node is closed", code="closed")
        task = self._bringing.get(identity)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._bring(identity), name="connect", context=self._context)
            self._bringing[identity] = task
            task.add_done_callback(lambda task: self._brought(identity, task))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise StateError("the node is closed", code="closed") from None

    async def try_all(self, identities: Iterable[Identity], seconds: float = 2.5) -> None:
        """Calls all of them at once, and waits so long at most. Who cannot be reached has a `problem` afterwards."""
        calls = [asyncio.ensure_future(self.connect(each)) for each in identities if self._transport.live(each) is None]
        if calls:
            done, pending = await asyncio.wait(calls, timeout=seconds)
            for call in pending:
                call.cancel()
            await asyncio.gather(*done, *pending, return_exceptions=True)

    def problem(self, identity: Identity) -> str:
        """Why the last search for this peer found nothing, a code of `base.reasons`; "" if it did not fail."""
        if identity in self._bringing and identity in self._watched:
            return OFFLINE  # all rendezvous said so; where it was last is still being tried
        return self._problems.get(identity, "")

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

    def on_network_change(self) -> None:
        """Our own network is another one: no pause between attempts makes sense any more."""
        for identity in [*self._hopes, *self._reviving]:
            self.hope(identity)

    def keep_reserve(self, connection: Connection) -> None:
        """There is always a relayed path in reserve. While the data is relayed, other circuits are proven, too: another
        rendezvous', and of relays that both have among their peers those nearest. The best of them takes over, now or
        when the first dies.

        Call it whenever there may be something to do; it happens now, and not again for a while."""
        identity = connection.peer
        if identity not in self._reserving and self._wants_reserve(connection):
            self._reserving.add(identity)
            pause = self._reserved_at.get(identity, -_RESERVE_PAUSE) + _RESERVE_PAUSE - self._transport.host.now()
            self._transport.spawn(self._look_for_reserve(connection, pause), "reserve")

    async def _look_for_reserve(self, connection: Connection, pause: float) -> None:
        if pause > 0:
            await asyncio.sleep(pause)
        self._reserving.discard(connection.peer)
        session = connection.session
        if session is None or not self._wants_reserve(connection):
            return
        used = {path.route.remote for path in session.paths if path.route.relayed and not path.suspect}
        others: list[RelaySource] = [each for each in self._relaying() if each.relay not in used and not each.silent]
        for relay in self._relays.common(connection.peer)[:_NEAREST]:
            if not relay.connected:
                self._transport.spawn(self._reach(relay.identity), "reach a relay")
            elif relay.relay not in used:
                relay.connection.keepalive = KEEPALIVE
                others.append(relay)
        if others:
            self._reserved_at[connection.peer] = self._transport.host.now()
            await self._offer_relays(connection, others)

    def _wants_reserve(self, connection: Connection) -> bool:
        session = connection.session
        if session is None or not self._book.trusts(connection.peer) or connection.rule.relay != "data":
            return False
        return session.active.route.relayed or not session.paths.relay_in_reserve

    def _relaying(self) -> list[RendezvousClient]:
        """The rendezvous that may relay for us."""
        return [client for client in self._clients if self._relays.allows(client.identity)]

    def attach(self) -> None:
        """Connects with relays among our peers: no rendezvous is there, or we need them."""
        for identity in self._relays.absent()[:_NEAREST]:
            self._transport.spawn(self._reach(identity), "reach a relay")

    async def _reach(self, identity: Identity) -> None:
        """Connects with a relay of ours. Once it is there it says so, and is used."""
        with contextlib.suppress(CoveyError):
            await self.connect(identity)

    async def move_away(self, leaving: RendezvousClient) -> bool:
        """What this rendezvous relays for us goes another way. False if something is left that knows no other."""
        used, now, relay = self._transport.endpoint.relays_used, self._transport.host.now, leaving.relay
        if relay is None or not used.carrying(relay):
            return True
        until = now() + _MOVE_SECONDS
        while left := [each for each in used.carrying(relay) if not used.avoid(each, relay)]:
            others = [client for client in self._relaying() if client is not leaving and not client.draining]
            ways: list[list[RelaySource]] = [[*others, *self._relays.common(each.peer)] for each in left]
            if now() >= until or not any(source.connected for sources in ways for source in sources):
                return False
            await asyncio.gather(*map(self._offer_relays, left, ways))
            await asyncio.sleep(_MOVE_PAUSE)
        await asyncio.sleep(_OVERLAP_SECONDS)
        return True

    async def _offer_relays(self, connection: Connection, sources: Sequence[RelaySource]) -> None:
        """Circuits of these relays become further paths of a live connection."""

        def offer(_: RelaySource, route: Route | None) -> None:
            if route is not None:
                self._transport.endpoint.offer_routes(self._transport.host.now(), connection, [route])
                self._transport.wake()

        identity = connection.peer
        await ask(sources, lambda source: source.introduce(identity), now=self._transport.host.now, on_answer=offer)

    async def close(self) -> None:
        """Gives up what is under way; nothing new is begun."""
        self._closed = True
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

    def _brought(self, identity: Identity, task: asyncio.Task[Connection]) -> None:
        del self._bringing[identity]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, CoveyError):
            self._problems[identity] = error.code
        else:
            self._problems.pop(identity, None)

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
        """Starts handshakes over every way there is, each as soon as it is found. UnreachableError if there is none."""
        ways = _Ways(self._transport, identity)
        peer = self._book.get(identity)
        if peer is not None and peer.record:
            record = Record.parse(peer.record)
            direct = [route for route in map(self._transport.route, peer.candidates) if route is not None]
            if not record.expired(self._transport.host.wall_us()):
                ways.learn_key(record)
                for route in direct:
                    ways.learn_route(route)
            else:
                ways.ask(direct)
        if self._book.path_rule(identity).relay == "never":
            await self._fresh_record(identity, ways)
            if not ways.tried:
                raise _no_relay()
            return
        introductions, _ = await asyncio.gather(self._introductions(identity, ways), self._fresh_record(identity, ways))
        # Every rendezvous that answers says that it is away, and promised to tell when it is back.
        absent = bool(introductions) and all(route is None for _, route in introductions)
        (self._watched.add if absent else self._watched.discard)(identity)
        if not ways.tried:
            await self._ask_members(identity, ways)
        if ways.tried:
            return
        if not introductions:
            if any(client.connected for client in self._clients if client not in self._relaying()):
                raise UnreachableError(
                    "no relay is where `relay_jurisdictions` wants it, and no direct address of the peer answers",
                    code="policy",
                    next_step="covey config show",
                )
            raise UnreachableError(
                "no rendezvous answers, and no direct address of the peer is known",
                code="no-rendezvous",
                next_step="covey status",
            )
        raise _offline()

    async def _introductions(self, identity: Identity, ways: _Ways) -> list[tuple[RendezvousClient, Route | None]]:
        async def introduce(client: RendezvousClient) -> Route | None:
            route = await client.introduce(identity)
            if route is None:
                await client.watch(identity)
            return route

        return await ask(
            self._relaying(),
            introduce,
            now=self._transport.host.now,
            on_answer=lambda _, route: ways.learn_route(route),
        )

    async def _ask_members(self, identity: Identity, ways: _Ways) -> None:
        """Peers that relay for us may have a way where no rendezvous has. They learn whom we look for: asked last."""
        if identity not in self._relays.remembered and not any(each.connected for each in self._relays.members()):
            self.attach()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ATTACH_SECONDS):
                    await self._relays.learnt()
        await ask(
            self._relays.members(),
            lambda relay: relay.introduce(identity),
            now=self._transport.host.now,
            on_answer=lambda _, route: ways.learn_route(route),
        )

    async def _fresh_record(self, identity: Identity, ways: _Ways) -> None:
        try:
            record = await self._directory.refresh(identity, confirm_name=False)
        except UnreachableError:
            peer = self._book.get(identity)
            record = Record.parse(peer.record) if peer is not None and peer.record else None
        if record is not None:
            ways.learn_key(record)


class _Ways:
    """What one search has found: the newest key of the peer, and routes to it. What is found is used at once."""

    def __init__(self, transport: Transport, identity: Identity) -> None:
        self.tried = False
        self._transport = transport
        self._identity = identity
        self._key: bytes | None = None
        self._routes: list[Route] = []

    def learn_key(self, record: Record) -> None:
        if self._key != record.certificate.public:
            self._key = record.certificate.public
            self._try(self._routes)

    def ask(self, routes: Sequence[Route]) -> None:
        """The key we know is over: whoever is where the peer was last is asked for its record (PROTOCOL 5).

        The answer comes as `RecordReceived`; the search goes on then.
        """
        for route in routes:
            self.tried = True
            self._transport.endpoint.request_record(self._identity, route)
        self._transport.wake()

    def learn_route(self, route: Route | None) -> None:
        if route is not None:
            self._routes.append(route)
            self._try([route])

    def _try(self, routes: Sequence[Route]) -> None:
        if self._key is not None and routes:
            self.tried = True
            self._transport.connect(Target(self._identity, self._key), routes)


def patience(error: CoveyError) -> float:
    """The longest pause that makes sense after this failure to reach a peer, seconds."""
    return LONGEST_WATCHED if error.code == OFFLINE else LONGEST


def _no_relay() -> UnreachableError:
    return UnreachableError(
        "the setting `paths` lets no relay introduce us to the peer, and no direct address of it is known",
        code="policy",
        next_step="covey config show --origin",
    )


def _offline() -> UnreachableError:
    return UnreachableError(
        "the peer is not connected to its rendezvous now", code=OFFLINE, next_step="check that it is up"
    )
