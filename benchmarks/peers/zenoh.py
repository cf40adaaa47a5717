"""zenoh over QUIC and over TLS: publish and subscribe in Rust. Two keys, one each way, are a channel.

zenoh's Python API blocks, so each service runs in a thread with an event loop of its own and waits there: nothing has
to be handed from thread to thread but what zenoh itself hands over.
"""

from __future__ import annotations

import asyncio
import json
import queue
import secrets
import threading
from collections.abc import Mapping
from typing import Any, Final

import zenoh

from benchmarks.peers.certificates import make_certificate
from covey.bench.jobs import Channel, OnDatagram, Peer, Place, Service

__all__ = ["quic", "tls"]

_OPEN: Final = "bench/open"
_SILENCE: Final = 30.0
"""Seconds without a byte after which a service gives its channel up."""


def quic() -> Zenoh:
    return Zenoh("quic")


def tls() -> Zenoh:
    return Zenoh("tls")


class Zenoh:
    """Two peers, no router, no scouting; nothing is dropped when queues are full."""

    session_is_channel = False

    def __init__(self, transport: str) -> None:
        self._transport = transport
        self._kept: list[Any] = []

    async def serve(self, place: Place, services: Mapping[str, Service], on_datagram: OnDatagram) -> dict[str, Any]:
        files = make_certificate(place.directory, place.address)
        session = zenoh.open(
            _config(
                listen={"endpoints": [f"{self._transport}/{place.address}:{_PORT}"]},
                transport={"link": {"tls": {"listen_certificate": files.chain, "listen_private_key": files.key}}},
            )
        )

        def opened(query: Any) -> None:
            number, _, service = query.payload.to_string().partition(" ")
            channel = _Channel(session, f"bench/{number}/down", f"bench/{number}/up")
            threading.Thread(target=asyncio.run, args=(_talk(channel, services[service]),), daemon=True).start()
            query.reply(_OPEN, b"")

        self._kept += [session, session.declare_queryable(_OPEN, opened)]
        return {"address": f"{place.address}:{_PORT}", "authority": files.authority}

    async def peer(self, place: Place, facts: dict[str, Any]) -> Peer:
        return _Peer(
            _config(
                connect={"endpoints": [f"{self._transport}/{facts['address']}"]},
                transport={"link": {"tls": {"root_ca_certificate": facts["authority"]}}},
            )
        )


_PORT: Final = 7447


def _config(**sections: Any) -> Any:
    config = zenoh.Config()
    config.insert_json5("mode", json.dumps("client" if "connect" in sections else "peer"))
    config.insert_json5("scouting/multicast/enabled", json.dumps(False))
    config.insert_json5("scouting/gossip/enabled", json.dumps(False))
    # Two processes of one machine pass large payloads through shared memory, whatever is between their namespaces.
    config.insert_json5("transport/shared_memory/enabled", json.dumps(False))
    if "connect" in sections:
        config.insert_json5("listen/endpoints", json.dumps([]))
    for name, value in sections.items():
        config.insert_json5(name, json.dumps(value))
    return config


async def _talk(channel: _Channel, service: Service) -> None:
    try:
        await service(channel)
    finally:
        channel.close()


class _Channel:
    def __init__(self, session: Any, outgoing: str, incoming: str) -> None:
        self._arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._rest = b""
        self._subscriber = session.declare_subscriber(incoming, self._take)
        self._publisher = session.declare_publisher(
            outgoing, congestion_control=zenoh.CongestionControl.BLOCK, reliability=zenoh.Reliability.RELIABLE
        )

    def _take(self, sample: Any) -> None:
        self._arrived.put(sample.payload.to_bytes())

    async def read(self) -> bytes:
        data, self._rest = self._rest, b""
        try:
            return data or self._arrived.get(timeout=_SILENCE)
        except queue.Empty:
            return b""

    async def read_exactly(self, size: int) -> bytes:
        data = await self.read()
        while len(data) < size:
            more = await self.read()
            if not more:
                raise ConnectionError("nothing came")
            data += more
        self._rest = data[size:]
        return data[:size]

    async def write(self, data: bytes) -> None:
        self._publisher.put(data)

    async def finish(self) -> None:
        self._publisher.put(b"")

    def close(self) -> None:
        self._subscriber.undeclare()
        self._publisher.undeclare()


class _Peer:
    def __init__(self, config: Any) -> None:
        self._config = config
        self._session: Any = None

    async def connect(self) -> None:
        self._session = zenoh.open(self._config)

    async def open(self, service: str) -> Channel:
        number = secrets.token_hex(4)
        channel = _Channel(self._session, f"bench/{number}/up", f"bench/{number}/down")
        for reply in self._session.get(_OPEN, payload=f"{number} {service}"):
            if reply.ok is not None:
                return channel
        raise ConnectionError("nobody answers")

    async def close(self) -> None:
        self._session.close()
