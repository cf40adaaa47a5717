"""iroh through its Python wheel: QUIC in Rust, called through UniFFI. A QUIC stream for each channel; no relay."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import iroh

from covey.bench.jobs import PIECE, Channel, OnDatagram, Peer, Place, Service

__all__ = ["Iroh"]

_PROTOCOL: Final = b"covey-bench"


class Iroh:
    """`Endpoint.bind` with the minimal preset: the endpoint's address is given, so that nothing outside is asked."""

    session_is_channel = False

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, place: Place, services: Mapping[str, Service], on_datagram: OnDatagram) -> dict[str, Any]:
        endpoint = await _endpoint(place)
        self._start(self._accept(endpoint, services))
        port = endpoint.bound_sockets()[0].rpartition(":")[2]
        return {"id": str(endpoint.id()), "address": f"{place.address}:{port}"}

    async def peer(self, place: Place, facts: dict[str, Any]) -> Peer:
        address = iroh.EndpointAddr(iroh.EndpointId.from_string(facts["id"]), None, [facts["address"]])
        return _Peer(await _endpoint(place), address)

    async def _accept(self, endpoint: Any, services: Mapping[str, Service]) -> None:
        while (incoming := await endpoint.accept_next()) is not None:
            connection = await (await incoming.accept()).connect()
            self._start(self._serve(connection, services))

    async def _serve(self, connection: Any, services: Mapping[str, Service]) -> None:
        while True:
            try:
                pair = await connection.accept_bi()
            except iroh.IrohError:
                return
            self._start(_talk(_Channel(pair), services))

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _endpoint(place: Place) -> Any:
    options = iroh.EndpointOptions(
        preset=iroh.preset_minimal(),
        bind_addr=f"{place.address}:0",
        alpns=[_PROTOCOL],
        relay_mode=iroh.RelayMode.disabled(),
    )
    return await iroh.Endpoint.bind(options)


async def _talk(channel: _Channel, services: Mapping[str, Service]) -> None:
    (size,) = await channel.read_exactly(1)
    await services[(await channel.read_exactly(size)).decode()](channel)


class _Channel:
    def __init__(self, pair: Any) -> None:
        self._sender = pair.send()
        self._receiver = pair.recv()
        self.write = self._sender.write_all
        self.finish = self._sender.finish
        self.read_exactly = self._receiver.read_exact

    async def read(self) -> bytes:
        try:
            found: bytes = await self._receiver.read(PIECE)
        except iroh.IrohError:
            return b""
        return found


class _Peer:
    def __init__(self, endpoint: Any, address: Any) -> None:
        self._endpoint = endpoint
        self._address = address
        self._connection: Any = None

    async def connect(self) -> None:
        self._connection = await self._endpoint.connect(self._address, _PROTOCOL)

    async def open(self, service: str) -> Channel:
        channel = _Channel(await self._connection.open_bi())
        await channel.write(bytes([len(service)]) + service.encode())
        return channel

    async def close(self) -> None:
        await self._endpoint.close()
