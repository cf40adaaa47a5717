"""NATS with TLS: `nats-server` beside the end that serves, nats-py at both. A subject for each way of a channel."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final

import nats

from benchmarks.peers.channel import MessageChannel
from covey.bench.jobs import Channel, OnDatagram, Peer, Place, Service

__all__ = ["Nats"]

_OPEN: Final = "bench.open"
_HELD: Final = 8 * 1024 * 1024
"""Bytes published between two flushes: NATS drops what a slow subscriber has not taken."""
_READY_SECONDS: Final = 10.0


class Nats:
    """Core NATS: no JetStream, so nothing is stored. `place.options`: `url` of the server, `authority` its CA file."""

    session_is_channel = False

    def __init__(self) -> None:
        self._client: Any = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, place: Place, services: Mapping[str, Service], on_datagram: OnDatagram) -> dict[str, Any]:
        client = self._client = await _connected(place)

        async def opened(request: Any) -> None:
            number, _, service = request.data.decode().partition(" ")
            channel = await _Channel.opened(client, f"bench.{number}.down", f"bench.{number}.up")
            task = asyncio.ensure_future(services[service](channel))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await request.respond(b"")

        await client.subscribe(_OPEN, cb=opened)
        await client.flush()
        return {}

    async def peer(self, place: Place, facts: dict[str, Any]) -> Peer:
        return _Peer(place)


async def _connected(place: Place) -> Any:
    context = ssl.create_default_context(cafile=place.options["authority"])
    until = time.monotonic() + _READY_SECONDS
    while True:
        try:
            return await nats.connect(
                place.options["url"], tls=context, allow_reconnect=False, pending_size=2 * _HELD, error_cb=_ignore
            )
        except OSError:  # the server is still starting
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)


async def _ignore(error: Exception) -> None:
    """What fails a job is raised where it is waited for."""


class _Channel(MessageChannel):
    def __init__(self, client: Any, outgoing: str) -> None:
        super().__init__()
        self._client = client
        self._outgoing = outgoing
        self._held = 0
        self._arrived: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None

    @classmethod
    async def opened(cls, client: Any, outgoing: str, incoming: str) -> _Channel:
        channel = cls(client, outgoing)
        # A callback: `next_msg` makes a task for each message, which is ten times slower.
        await client.subscribe(incoming, cb=channel._take, pending_msgs_limit=0, pending_bytes_limit=0)
        await client.flush()
        return channel

    async def _take(self, message: Any) -> None:
        self._arrived.append(message.data)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> bytes:
        if not self._arrived:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        data = b"".join(self._arrived)
        self._arrived.clear()
        return data

    async def write(self, data: bytes) -> None:
        await self._client.publish(self._outgoing, data)
        self._held += len(data)
        if self._held > _HELD:
            self._held = 0
            await self._client.flush()

    async def finish(self) -> None:
        await self._client.publish(self._outgoing, b"")


class _Peer:
    def __init__(self, place: Place) -> None:
        self._place = place
        self._client: Any = None

    async def connect(self) -> None:
        self._client = await _connected(self._place)

    async def open(self, service: str) -> Channel:
        number = secrets.token_hex(4)
        channel = await _Channel.opened(self._client, f"bench.{number}.up", f"bench.{number}.down")
        await self._client.request(_OPEN, f"{number} {service}".encode(), timeout=_READY_SECONDS)
        return channel

    async def close(self) -> None:
        await self._client.close()
