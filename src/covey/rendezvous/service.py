"""The service `rendezvous`: one stream of one client, from its first request to its end.

========== ==================================================================================================
PUBLISH    verified, put into the cache with whatever else waits for the disk, answered when it is committed
LOOKUP     exact: identity, address or name. Nothing lists anything
INTRODUCE  a circuit of the relay if the other is connected here now, else 0
WATCH      one PRESENT when the other is there, perhaps at once
VOUCH      whether the other is connected here from an address that it claims to have, if it asks the same of us
OPENBOX    letters for this client are taken from now on, while its mailbox key lives
ASKBOX     that key, for whoever wants to seal to it
DEPOSIT    a sealed letter for somebody who has a box here, answered when it is on the disk with fsync
COLLECT    the client's own letters; CLEAR: they are settled
========== ==================================================================================================

A request that cannot be granted gets FAILED with the code of the error; bytes that are no request reset the
stream. Requests are answered one after the other. A client is read at the pace of its token bucket and of its
own reading (`limits.py`), so its memory here is bounded by its flow-control window, one frame and its
unacknowledged answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from covey.base.errors import CoveyError, LimitError, ParseError, StateError, StorageError, UsageError
from covey.base.types import Identity
from covey.core.relay import RelayTable
from covey.core.stream import StreamCode
from covey.node.transport import Stream, Transport
from covey.rendezvous.cache import Cache
from covey.rendezvous.clients import Client, Clients
from covey.rendezvous.custodian import Custodian, source_of
from covey.rendezvous.limits import (
    DEPOSIT_TOKENS,
    ERROR_TEXT_LIMIT,
    LOG_BYTES_PER_TOKEN,
    LOOK_SECONDS,
    REQUEST_BYTES,
    STREAMS_AT_ONCE,
    Limits,
)
from covey.rendezvous.publication import check_publication
from covey.rendezvous.vouching import Vouching
from covey.wire import rendezvous as wire
from covey.wire.framing import FrameReader

__all__ = ["Service"]

_log = logging.getLogger(__name__)


_FAREWELL_SECONDS: Final = 1.0
"""A client that published its own revocation may stay so long to hear that it is known."""


class Service:
    """What the clients of one rendezvous may ask. `serve` is the transport's handler."""

    def __init__(
        self,
        transport: Transport,
        clients: Clients,
        cache: Cache,
        custodian: Custodian,
        relay: RelayTable,
        limits: Limits,
    ) -> None:
        self.requests = 0
        self.turned_away = 0
        self.answering = 0
        """Requests whose answer is not written yet."""
        self.draining = False
        """We are about to stop: nobody is introduced here any more."""
        self._transport = transport
        self._clients = clients
        self._cache = cache
        self._custodian = custodian
        self._relay = relay
        self._limits = limits
        self._vouching = Vouching()

    async def serve(self, stream: Stream) -> None:
        """A newer stream takes the place of a client's older one."""
        connection = self._transport.endpoint.connections.get(stream.peer)
        client = None if connection is None else self._clients.admit(connection)
        if client is None:
            self.turned_away += 1
            await self._turn_away(stream)
            return
        if client.streams >= STREAMS_AT_ONCE:
            raise LimitError("too many streams of one client", code="too-many-streams")
        client.streams += 1
        self._clients.attach(client, stream)
        try:
            await self._answer_all(client, stream)
        finally:
            client.streams -= 1
            self._clients.detach(client, stream)

    async def _answer_all(self, client: Client, stream: Stream) -> None:
        reader = FrameReader(REQUEST_BYTES)
        while data := await _read(stream):
            self._clients.present(client.identity)
            for kind, body in reader.feed(data):
                request = wire.parse(kind, body)
                if request.number == 0:
                    raise ParseError("a request without a number")
                pause = client.bucket.take(self._transport.host.now(), self._cost(client, request))
                if pause:
                    await asyncio.sleep(pause)
                self.answering += 1
                try:
                    answer = await self._answer(client, request)
                    with contextlib.suppress(CoveyError):  # the stream ended meanwhile: so will our reading
                        await client.send(stream, answer)
                finally:
                    self.answering -= 1
                if isinstance(request, wire.Watch):
                    self._clients.present(request.identity)
                if not await self._taken(stream):
                    stream.abort(StreamCode.LIMIT)
                    return

    async def _turn_away(self, stream: Stream) -> None:
        """There is no room for this client: says so in answer to its first request."""
        reader = FrameReader(REQUEST_BYTES)
        with contextlib.suppress(TimeoutError, CoveyError):
            async with asyncio.timeout(self._limits.turned_away_seconds):
                while data := await _read(stream):
                    for kind, body in reader.feed(data):
                        number = wire.parse(kind, body).number
                        text = "this rendezvous serves all the clients it can"
                        await stream.write(wire.encode(wire.Failed(number, "busy", text)))
                        return
        stream.abort(StreamCode.LIMIT)

    def _cost(self, client: Client, request: wire.Message) -> float:
        """Tokens: one, and more for a log that has to be verified or a letter that has to be synced."""
        if isinstance(request, wire.Deposit):
            return DEPOSIT_TOKENS
        if not isinstance(request, wire.Publish):
            return 1.0
        known = self._transport.endpoint.log_of(client.identity)
        if known is not None and known.raw == request.signed.log:
            return 1.0
        return 1.0 + len(request.signed.log) / LOG_BYTES_PER_TOKEN

    async def _taken(self, stream: Stream) -> bool:
        """Waits while too many of our answers are unacknowledged. False: for too long."""
        now = self._transport.host.now
        until = now() + self._limits.untaken_seconds
        while stream.unsent > self._limits.untaken_bytes:
            if now() >= until:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    async def _answer(self, client: Client, request: wire.Message) -> wire.Message:
        """The answer, FAILED included. `ParseError` only for what a client may not say at all."""
        number = request.number
        self.requests += 1
        try:
            match request:
                case wire.Publish(_, signed):
                    return wire.Published(number, await self._publish(client, signed))
                case wire.Lookup(_, by, key):
                    return wire.Found(number, await self._cache.look_up(by, key))
                case wire.Introduce(_, identity):
                    return wire.Introduced(number, self._introduce(client, identity))
                case wire.Watch(_, identity):
                    self._clients.watches.add(client.identity, identity)
                    return wire.Done(number)
                case wire.Vouch(_, identity, host):
                    return wire.Vouched(number, self._sees(client, identity, host))
                case wire.OpenBox(_, key):
                    log = self._transport.endpoint.log_of(client.identity)
                    await self._custodian.open_box(client.identity, key, log)
                    return wire.Done(number)
                case wire.AskBox(_, identity):
                    return wire.Box(number, await self._custodian.ask(identity))
                case wire.Deposit(_, deposit_id, recipient, sealed):
                    source = source_of(client.endpoint, client.identity)
                    await self._custodian.deposit(source, deposit_id, recipient, sealed)
                    self._clients.mail(recipient)
                    return wire.Stored(number)
                case wire.Collect(_, after):
                    client.told_mail = False
                    more, letters = await self._custodian.collect(client.identity, after)
                    return wire.Letters(number, more, tuple(letters))
                case wire.Clear(_, numbers):
                    await self._custodian.clear(client.identity, numbers)
                    return wire.Done(number)
        except StorageError as error:
            _log.error("the cache fails", extra={"fields": {"code": error.code, "reason": error.message}})
            return wire.Failed(number, error.code, "the rendezvous cannot use its cache now")
        except CoveyError as error:
            return wire.Failed(number, error.code, error.message[:ERROR_TEXT_LIMIT])
        raise ParseError("not a request")

    async def _publish(self, client: Client, signed: wire.Signed) -> int:
        endpoint = self._transport.endpoint
        if not client.knows_store:
            # A log that was longer before our last restart still rules: the thief of an old root cannot roll
            # an identity back here.
            held = await self._cache.log_of(client.identity)
            if held is not None:
                endpoint.add_log(held)
            client.knows_store = True
        known = endpoint.log_of(client.identity)
        publication = check_publication(signed, client.identity, known, self._transport.host.wall_us())
        if publication.log.revoked:
            await self._cache.end(publication.log)
            client.knows_store = False
            # Not before the answer is on its way: with the identity ends our session with it.
            asyncio.get_running_loop().call_later(_FAREWELL_SECONDS, endpoint.add_log, publication.log)
            return wire.NAME_NONE
        endpoint.add_log(publication.log)
        self._relay.learn(client.connection, publication.record.certificate.public)
        return await self._cache.publish(publication)

    def _sees(self, client: Client, identity: Identity, host: str) -> bool:
        if not self._vouching.ask(self._transport.host.now(), client.identity, identity):
            return False
        other = self._clients.live(identity)
        session = None if other is None else other.connection.session
        return session is not None and session.active.route.remote[0] == host and not session.active.route.relayed

    def _introduce(self, client: Client, identity: Identity) -> int:
        if identity == client.identity:
            raise UsageError("an agent needs no introduction to itself", code="self")
        if client.connection.closed:
            raise StateError("the connection is closed", code="connection-closed")
        other = self._clients.live(identity)
        if other is None or self.draining:
            return 0
        host = self._transport.host
        number = int.from_bytes(host.random(4), "big")
        return self._relay.open(host.now(), client.connection, other.connection, number)


async def _read(stream: Stream) -> bytes:
    """What the client says; b"" when it is done or gone."""
    try:
        return await stream.read()
    except CoveyError:
        return b""
