"""aioquic: QUIC in Python with its cryptography in C. One connection; a QUIC stream for each channel."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration

from benchmarks.peers.certificates import make_certificate
from covey.bench.jobs import Channel, OnDatagram, Peer, Place, Service
from covey.bench.speakers import StreamChannel

__all__ = ["Aioquic"]

_WINDOW: Final = 16 * 1024 * 1024
"""Bytes, of a stream and of the connection; the default of 1 MiB would be what is measured on a link with a delay."""
_DATAGRAM: Final = 1452
"""Bytes, as many as ours."""
_PAUSE: Final = 0.002
"""Seconds between two looks at how much is held."""
_HELD: Final = 2 * 1024 * 1024
"""Bytes written and not yet acknowledged: aioquic's writers never say stop, and would hold everything there is."""


class Aioquic:
    """`aioquic.asyncio`, `congestion_control_algorithm` "cubic", as `docs/` of the project starts one."""

    session_is_channel = False

    async def serve(self, place: Place, services: Mapping[str, Service], on_datagram: OnDatagram) -> dict[str, Any]:
        configuration = _configuration(is_client=False)
        files = make_certificate(place.directory, place.address)
        configuration.load_cert_chain(files.chain, files.key)
        tasks: set[asyncio.Task[None]] = set()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError):
                await services[(await reader.readline()).decode().strip()](_Channel(reader, writer))

        def opened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(talk(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await serve(place.address, 0, configuration=configuration, stream_handler=opened)
        return {"address": server._transport.get_extra_info("sockname")[:2]}

    async def peer(self, place: Place, facts: dict[str, Any]) -> Peer:
        configuration = _configuration(is_client=True)
        configuration.verify_mode = ssl.CERT_NONE
        return _Peer(facts["address"], configuration)


class _Channel(StreamChannel):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        adapter: Any = writer.transport
        self._sender = adapter.protocol._quic._get_or_create_stream_for_send(adapter.stream_id).sender

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        while len(self._sender._buffer) > _HELD:  # noqa: ASYNC110 - aioquic tells nobody that bytes were acknowledged
            await asyncio.sleep(_PAUSE)

    async def finish(self) -> None:
        self._writer.write_eof()


class _Peer:
    def __init__(self, address: list[Any], configuration: QuicConfiguration) -> None:
        self._address = address
        self._configuration = configuration
        self._stack = AsyncExitStack()
        self._protocol: QuicConnectionProtocol | None = None

    async def connect(self) -> None:
        host, port = self._address
        self._protocol = await self._stack.enter_async_context(connect(host, port, configuration=self._configuration))

    async def open(self, service: str) -> Channel:
        assert self._protocol is not None
        reader, writer = await self._protocol.create_stream()
        writer.write(service.encode() + b"\n")
        return _Channel(reader, writer)

    async def close(self) -> None:
        await self._stack.aclose()


def _configuration(*, is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["bench"],
        congestion_control_algorithm="cubic",
        max_data=_WINDOW,
        max_stream_data=_WINDOW,
        max_datagram_size=_DATAGRAM,
    )
