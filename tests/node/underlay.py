"""One end of a connection, as a program: `python -m tests.node.underlay serve HOST` or `ask HOST PORT IDENTITY KEY`.

The server sends back what it gets. Each prints JSON lines; the asker takes a number of bytes from each line of its
input, sends as many random ones, and says what came back and how large the datagrams are. Both end with their input.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from typing import Any

from covey.base.types import Identity
from covey.core.connection import Connection
from covey.core.handshake import Target
from covey.crypto.credentials import Credentials
from covey.net.real import RealHost
from covey.node.transport import Stream, Transport

PIECE = 256 * 1024


def transport_of(admit: bool) -> Transport:
    host = RealHost()
    credentials, _ = Credentials.create(host.random, host.wall_us())

    def allow(connection: Connection, _: str) -> bool:
        connection.admit()
        return admit

    return Transport(host, credentials, allow=allow, on_event=lambda _: None)


def say(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


async def lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def describe(transport: Transport) -> dict[str, Any]:
    sessions = [connection.session for connection in transport.endpoint.connections.values()]
    return {
        "mtu": [session.active.mtu for session in sessions if session is not None],
        "suspect": [path.suspect for session in sessions if session is not None for path in session.paths],
        "cpu": time.process_time(),
    }


async def serve(host: str) -> None:
    transport = transport_of(True)

    async def echo(stream: Stream) -> None:
        while data := await stream.read(PIECE):
            await stream.write(data)
        await stream.finish()

    transport.serve("echo", echo)
    port = transport.bind((host, 0))
    credentials = transport.endpoint.credentials
    say(port=port.local[1], identity=credentials.identity.hex(), key=credentials.current.key.public.hex())
    asked = await lines()
    while await asked.readline():
        say(**describe(transport))
    await transport.close()


async def ask(host: str, port: str, identity: str, key: str) -> None:
    transport = transport_of(False)
    transport.bind(("::" if ":" in host else "0.0.0.0", 0))
    route = transport.route((host, int(port)))
    assert route is not None
    peer = Identity(bytes.fromhex(identity))
    transport.connect(Target(peer, bytes.fromhex(key)), [route])
    connection = await transport.wait_live(peer)
    connection.admit()
    asked = await lines()
    while line := await asked.readline():
        data = os.urandom(int(line))
        stream = await transport.open(connection, "echo")
        begun = time.monotonic()
        writing = asyncio.ensure_future(send(stream, data))
        got, seen = 0, hashlib.sha256()
        while piece := await stream.read(PIECE):
            got += len(piece)
            seen.update(piece)
        await writing
        same = seen.digest() == hashlib.sha256(data).digest()
        say(got=got, same=same, seconds=time.monotonic() - begun, **describe(transport))
    await transport.close()


async def send(stream: Stream, data: bytes) -> None:
    for at in range(0, len(data), PIECE):
        await stream.write(data[at : at + PIECE])
    await stream.finish()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2]) if sys.argv[1] == "serve" else ask(*sys.argv[2:]))
