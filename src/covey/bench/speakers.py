"""Who can be measured out of the box: raw TCP, TLS and UDP of asyncio as baselines, and Covey without a daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from covey.base.constants import INTRODUCTION_LIMIT_SECONDS
from covey.base.errors import RefusedError, UnreachableError
from covey.base.paths import Home
from covey.base.types import Identity
from covey.bench.jobs import PIECE, Channel, OnDatagram, Peer, Place, Service
from covey.bench.tls import client_context, server_context
from covey.core import events
from covey.core.connection import Connection
from covey.core.handshake import Target
from covey.crypto.credentials import Credentials
from covey.net.real import RealHost
from covey.node.node import Node
from covey.node.services import ECHO
from covey.node.transport import Stream, Transport

__all__ = ["AsyncioStreams", "Covey", "CoveyNode", "Udp", "tcp", "tls"]


_OURS: Final = "bench-"
"""Before the name of a service of ours: a node has services of its own."""
_PAUSE: Final = 0.02
"""Seconds between two looks at what tells nobody when it changes."""
_DELIVERY_SECONDS: Final = 20.0

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
    """A connection for each channel; its first line names the service.

    `place.options` may name the `congestion` control of the clients.
    """

    session_is_channel = True

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
        return _StreamsPeer(facts["address"], self._client_context, place.options.get("congestion", ""))


class _StreamsPeer:
    def __init__(self, address: list[Any], context: ssl.SSLContext | None, congestion: str = "") -> None:
        self._address = address
        self._context = context
        self._congestion = congestion
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> None:
        """There are only channels."""

    async def open(self, service: str) -> Channel:
        host, port = self._address
        reader, writer = await asyncio.open_connection(host, port, ssl=self._context, limit=PIECE)
        self._writers.append(writer)
        if self._congestion:
            here = writer.get_extra_info("socket")
            here.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self._congestion.encode())
        writer.write(service.encode() + b"\n")
        return StreamChannel(reader, writer)

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
            with suppress(OSError):  # the other side may have been first
                await writer.wait_closed()


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

    The one who serves admits everybody: whom a node trusts is decided above, once for each session. `place.options` may
    name the `congestion` control.
    """

    session_is_channel = False

    def __init__(self) -> None:
        self._transport: Transport | None = None

    async def serve(self, place: Place, services: Mapping[str, Service], on_datagram: OnDatagram) -> dict[str, Any]:
        async def receive(stream: Stream) -> None:
            while datagrams := await stream.receive_datagrams():
                for data in datagrams:
                    on_datagram(data)

        transport = self._transport = _transport(place, _admit, lambda _: None)

        async def answer(stream: Stream) -> None:
            transport.spawn(receive(stream), "receive datagrams")
            await services["datagrams"](stream)

        for name, service in services.items():
            transport.serve(name, service)  # type: ignore[arg-type]  # a service is any coroutine function of a channel
        if "datagrams" in services:
            transport.serve("datagrams", answer)
        port = transport.bind((place.address, 0))
        credentials = transport.endpoint.credentials
        return {
            "identity": credentials.identity.hex(),
            "key": credentials.current.key.public.hex(),
            "address": port.local,
        }

    async def peer(self, place: Place, facts: dict[str, Any]) -> Peer:
        target = Target(Identity(bytes.fromhex(facts["identity"])), bytes.fromhex(facts["key"]))
        return _CoveyPeer(place, target, facts["address"])


class _CoveyPeer:
    def __init__(self, place: Place, target: Target, address: list[Any]) -> None:
        self._transport = _transport(place, _refuse, self._on_event)
        self._transport.bind((place.address, 0))
        self._target = target
        host, port = address
        route = self._transport.route((host, port))
        assert route is not None
        self._route = route
        self._connection: Connection | None = None

    def _on_event(self, event: events.Event) -> None:
        if isinstance(event, events.ConnectionStalled):
            self._transport.connect(self._target, [self._route])  # as a node does

    async def connect(self) -> None:
        self._transport.connect(self._target, [self._route])
        self._connection = await self._transport.wait_live(self._target.identity)
        self._connection.admit()

    async def open(self, service: str) -> Stream:
        assert self._connection is not None
        return await self._transport.open(self._connection, service)

    def send_datagram(self, channel: Channel, data: bytes) -> None:
        assert isinstance(channel, Stream)
        channel.send_datagram(data)

    async def close(self) -> None:
        await self._transport.close()


def _transport(place: Place, allow: Any, on_event: Any) -> Transport:
    host = RealHost()
    credentials, _ = Credentials.create(host.random, host.wall_us())
    congestion = place.options.get("congestion", "cubic")
    return Transport(host, credentials, allow=allow, on_event=on_event, congestion=congestion)


def _admit(connection: Connection, _: str) -> bool:
    connection.admit()
    return True


def _refuse(*_: object) -> bool:
    return False


# --- Covey with its files ---------------------------------------------------------------------------------------------


class CoveyNode:
    """Whole nodes in both processes, introduced by a code: identities, trust and messages on disk.

    `place.options` may have a `ticket` of rendezvous, of which there are none otherwise; the kind of `path` that must
    carry the streams; and `carriers`, a file with the number of the process behind each endpoint that `cut` may end.
    """

    session_is_channel = False

    def __init__(self) -> None:
        self._node: Node | None = None
        self._clients = 0

    async def serve(self, place: Place, services: Mapping[str, Service], on_datagram: OnDatagram) -> dict[str, Any]:
        node = self._node = await _started("server", place, place.directory)
        for name, service in services.items():
            node.serve(_OURS + name, service)  # type: ignore[arg-type]  # any coroutine function of a channel
        return {"invitation": (await node.open_introduction(INTRODUCTION_LIMIT_SECONDS)).invitation}

    async def peer(self, place: Place, facts: dict[str, Any]) -> Peer:
        self._clients += 1
        node = await _started(f"client-{self._clients}", place, f"{place.directory}/{self._clients}")
        return _NodePeer(node, facts["invitation"], place.options)


class _NodePeer:
    def __init__(self, node: Node, invitation: str, options: dict[str, Any]) -> None:
        self._node = node
        self._invitation = invitation
        self._path = options.get("path", "")
        self._carriers: dict[str, str] = options.get("carriers", {})
        self._server = ""

    async def connect(self) -> None:
        self._server = (await self._node.introduce(self._invitation)).identity
        while True:
            stream = await self._node.open(self._server, ECHO)
            await stream.write(b".")
            try:
                await stream.read_exactly(1)
            except RefusedError:  # our word that we trust it is still under way
                await asyncio.sleep(_PAUSE)
            else:
                return

    async def open(self, service: str) -> Stream:
        if self._path:
            kind = (await self._node.ping(self._server)).path.kind
            if kind != self._path:
                raise UnreachableError(f"the path is {kind}, not {self._path}", code="no-path")
        return await self._node.open(self._server, _OURS + service)

    async def deliver(self, message: bytes) -> None:
        sent = await self._node.send(self._server, message, wait=_DELIVERY_SECONDS)
        if sent.result != "delivered":
            raise UnreachableError(f"a message is {sent.result}", code="not-delivered")

    async def cut(self) -> None:
        carrier = self._carriers[(await self._node.ping(self._server)).path.remote]
        os.kill(int(Path(carrier).read_text()), signal.SIGKILL)  # noqa: ASYNC240 - a few bytes

    async def close(self) -> None:
        await self._node.close()


async def _started(name: str, place: Place, directory: str) -> Node:
    """A node that runs, and that all its rendezvous know if there are any."""
    home = Home.locate(None, {"COVEY_HOME": directory}, uid=os.getuid())
    ticket = place.options.get("ticket")
    node = Node(name, home=home, listen=f"{place.address}:0", network=ticket)
    await node.start()
    while ticket and not all(each.connected for each in node.view().rendezvous):  # noqa: ASYNC110 - no event says so
        await asyncio.sleep(_PAUSE)
    return node
