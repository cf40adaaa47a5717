"""Who can be measured out of the box: raw TCP, TLS and UDP of asyncio as baselines, and Covey without a daemon."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from covey.base.types import Identity
from covey.bench.jobs import PIECE, Channel, OnDatagram, Peer, Place, Service
from covey.bench.tls import client_context, server_context
from covey.core import events
from covey.core.connection import Connection
from covey.core.handshake import Target
from covey.crypto.credentials import Credentials
from covey.net.real import RealHost
from covey.node.transport import Stream, Transport

__all__ = ["AsyncioStreams", "Covey", "Udp", "tcp", "tls"]


# --- asyncio's streams ------------------------------------------------------------------------------------------------


class StreamChannel:
    """One connection of `asyncio.open_connection`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.read_exactly = reader.readexactly

    async def read(self) -> bytes:
        return await self._reader.read(PIECE)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def finish(self) -> None:
        self._writer.close()


class AsyncioStreams:
    """A connection for each channel; its first line names the service."""

    def __init__(self, server: ssl.SSLContext | None, client: ssl.SSLContext | None) -> None:
        self._server_context = server
        self._client_context = client
        self._server: asyncio.Server | None = None

    async def serve(self, place: Place, services: Mapping[str, Service], on_datagram: OnDatagram) -> dict[str, Any]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError):
                service = (await reader.readline()).decode().strip()
                await services[service](StreamChannel(reader, writer))
            writer.close()

        self._server = await asyncio.start_server(
            serve, place.address, 0, ssl=self._server_context, limit=PIECE, backlog=1024
        )
        return {"address": self._server.sockets[0].getsockname()}

    async def peer(self, place: Place, facts: dict[str, Any]) -> Peer:
        return _StreamsPeer(facts["address"], self._client_context)


class _StreamsPeer:
    def __init__(self, address: list[Any], context: ssl.SSLContext | None) -> None:
        self._address = address
        self._context = context
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> None:
        """There are only channels."""

    async def open(self, service: str) -> Channel:
        host, port = self._address
        reader, writer = await asyncio.open_connection(host, port, ssl=self._context, limit=PIECE)
        self._writers.append(writer)
        writer.write(service.encode() + b"\n")
        return StreamChannel(reader, writer)

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
            with suppress(OSError):  # the other side may have been first
                await writer.wait_closed()

    def send_datagram(self, channel: Channel, data: bytes) -> None:
        raise NotImplementedError


def tcp() -> AsyncioStreams:
    return AsyncioStreams(None, None)


def tls() -> AsyncioStreams:
    return AsyncioStreams(server_context(), client_context())


# --- UDP, for datagrams -----------------------------------------------------------------------------------------------


class _Counting(asyncio.DatagramProtocol):
    def __init__(self, on_datagram: OnDatagram) -> None:
        self._on_datagram = on_datagram

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._on_datagram(data)


class Udp(AsyncioStreams):
    """`loop.create_datagram_endpoint` as it is, and a TCP connection to ask what arrived."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self._endpoint: asyncio.DatagramTransport | None = None

    async def serve(self, place: Place, services: Mapping[str, Service], on_datagram: OnDatagram) -> dict[str, Any]:
        facts = await super().serve(place, services, on_datagram)
        loop = asyncio.get_running_loop()
        self._endpoint, _ = await loop.create_datagram_endpoint(
            lambda: _Counting(on_datagram), local_addr=(place.address, 0)
        )
        return facts | {"datagrams": self._endpoint.get_extra_info("sockname")}

    async def peer(self, place: Place, facts: dict[str, Any]) -> Peer:
        endpoint, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=tuple(facts["datagrams"])
        )
        return _UdpPeer(facts["address"], endpoint)


class _UdpPeer(_StreamsPeer):
    def __init__(self, address: list[Any], endpoint: asyncio.DatagramTransport) -> None:
        super().__init__(address, None)
        self._endpoint = endpoint

    def send_datagram(self, channel: Channel, data: bytes) -> None:
        self._endpoint.sendto(data)

    async def close(self) -> None:
        self._endpoint.close()
        await super().close()


# --- Covey ------------------------------------------------------------------------------------------------------------


class Covey:
    """Endpoint, driver and streams as a node has them, without the node's files and without a daemon.

    The one who serves admits everybody: whom a node trusts is decided above, once for each session.
    """

    def __init__(self) -> None:
        self._transport: Transport | None = None

    async def serve(self, place: Place, services: Mapping[str, Service], on_datagram: OnDatagram) -> dict[str, Any]:
        def on_event(event: events.Event) -> None:
            if isinstance(event, events.DatagramReceived):
                on_datagram(event.data)

        transport = self._transport = _transport(_admit, on_event)
        for name, service in services.items():
            transport.serve(name, service)  # type: ignore[arg-type]  # a service is any coroutine function of a channel
        port = transport.bind((place.address, 0))
        credentials = transport.endpoint.credentials
        return {
            "identity": credentials.identity.hex(),
            "key": credentials.current.key.public.hex(),
            "address": port.local,
        }

    async def peer(self, place: Place, facts: dict[str, Any]) -> Peer:
        transport = _transport(_refuse, _ignore)
        transport.bind((place.address, 0))
        target = Target(Identity(bytes.fromhex(facts["identity"])), bytes.fromhex(facts["key"]))
        return _CoveyPeer(transport, target, facts["address"])


class _CoveyPeer:
    def __init__(self, transport: Transport, target: Target, address: list[Any]) -> None:
        self._transport = transport
        self._target = target
        host, port = address
        route = transport.route((host, port))
        assert route is not None
        self._route = route
        self._connection: Connection | None = None

    async def connect(self) -> None:
        self._transport.connect(self._target, [self._route])
        self._connection = await self._transport.wait_live(self._target.identity)
        self._connection.admit()

    async def open(self, service: str) -> Stream:
        assert self._connection is not None
        return await self._transport.open(self._connection, service)

    def send_datagram(self, channel: Channel, data: bytes) -> None:
        assert self._connection is not None
        assert isinstance(channel, Stream)
        self._connection.send_datagram(channel._core, data)
        self._transport.wake()

    async def close(self) -> None:
        await self._transport.close()


def _transport(allow: Any, on_event: Any) -> Transport:
    host = RealHost()
    credentials, _ = Credentials.create(host.random, host.wall_us())
    return Transport(host, credentials, allow=allow, on_event=on_event)


def _admit(connection: Connection, _: str) -> bool:
    connection.admit()
    return True


def _refuse(*_: object) -> bool:
    return False


def _ignore(_: object) -> None:
    pass
