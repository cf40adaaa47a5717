"""Agents that no UDP reaches: the rendezvous by WebSocket, and everything else as always."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from covey.base.paths import Home
from covey.core.path import Route
from covey.crypto.credentials import Credentials
from covey.net.real import RealHost
from covey.net.websocket_server import Certificate, WebSocketListener
from covey.node import Node
from covey.rendezvous.mailboxes import MailboxStore
from covey.rendezvous.server import Rendezvous
from covey.rendezvous.store import RendezvousStore
from covey.wire.ticket import Ticket
from tests.net.tls import certificate


@pytest.fixture
def silence() -> object:
    """A UDP endpoint that answers nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{sock.getsockname()[1]}"


@asynccontextmanager
async def rendezvous(directory: Path) -> AsyncIterator[tuple[Rendezvous, Ticket]]:
    """A rendezvous with UDP and WebSocket on this machine."""
    files = certificate(directory, "localhost")
    with (
        closing(RealHost()) as host,
        closing(RendezvousStore(directory / "rendezvous.db")) as store,
        closing(MailboxStore(directory / "mailboxes.db")) as mailboxes,
    ):
        server = Rendezvous(
            host,
            Credentials.create(host.random, host.wall_us())[0],
            store,
            mailboxes,
            listen=("127.0.0.1", 0),
            websockets=partial(WebSocketListener, ("127.0.0.1", 0), Certificate(files.certificate, files.key).context),
        )
        ticket = await server.start()
        (entry,) = ticket.entries
        number = entry.websockets[0].rpartition(":")[2]
        ticket = Ticket((replace(entry, websockets=(f"localhost:{number}",)),))
        try:
            yield server, ticket
        finally:
            await server.close(0.0)


def deaf(ticket: Ticket, endpoint: str) -> str:
    """The same network, seen from where UDP to it is lost."""
    return str(Ticket(tuple(replace(entry, endpoints=(endpoint,)) for entry in ticket.entries)))


def home(directory: Path, name: str) -> Home:
    places = [directory / name / what for what in ("config", "state", "recovery", "run")]
    return Home(name, *places)


async def until(condition: Callable[[], bool], node: Node) -> None:
    """Looks whenever something happens to `node`."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what changes is of several nodes and of their peers
            await asyncio.sleep(0.02)


def connected(node: Node) -> bool:
    return node.view().rendezvous[0].connected


async def befriend(a: Node, b: Node) -> None:
    await a.handshake(b.name)
    await b.handshake(a.name)
    await until(lambda: all(peer.trust == "trusted" for peer in (*a.peers(), *b.peers())) and bool(a.peers()), a)


def test_agent_without_udp_meets_one_with_udp(tmp_path: Path, silence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with rendezvous(tmp_path) as (server, ticket):
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server-authority.pem"))
            a = Node("a", network=deaf(ticket, silence), home=home(tmp_path, "a"), listen="127.0.0.1:0")
            b = Node("b", network=str(ticket), home=home(tmp_path, "b"), listen="127.0.0.1:0")
            async with a, b:
                await until(lambda: connected(a) and connected(b), a)
                assert [client.by_websocket for client in a._running.clients] == [True]
                assert [client.by_websocket for client in b._running.clients] == [False]
                await befriend(a, b)
                result = await a.send("b", b"through a WebSocket", wait=10)
                assert result.result == "delivered"
                assert server.relay.forwarded_bytes > 0

    asyncio.run(story())


def test_agent_goes_back_to_udp_when_it_works_again(
    tmp_path: Path, silence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with rendezvous(tmp_path) as (server, ticket):
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server-authority.pem"))
            node = Node("a", network=deaf(ticket, silence), home=home(tmp_path, "a"), listen="127.0.0.1:0")
            async with node:
                await until(lambda: connected(node), node)
                (client,) = node._running.clients
                assert client.by_websocket
                (connection,) = node._running.transport.endpoint.connections.values()
                # From here on packets to the rendezvous arrive.
                client._ways.udp = [Route(client._ways.udp[0].local, server.listening)]
                await until(lambda: not client.by_websocket, node)
                await until(lambda: len(server._transport.websockets) == 0, node)
                assert connected(node)
                assert list(node._running.transport.endpoint.connections.values()) == [connection], "the same session"
                assert len(node._running.transport.websockets) == 0

    asyncio.run(story())


def test_lost_websocket_is_opened_again_and_the_connection_goes_on(
    tmp_path: Path, silence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with rendezvous(tmp_path) as (server, ticket):
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server-authority.pem"))
            node = Node("a", network=deaf(ticket, silence), home=home(tmp_path, "a"), listen="127.0.0.1:0")
            async with node:
                await until(lambda: connected(node), node)
                (connection,) = node._running.transport.endpoint.connections.values()
                (port,) = server._websockets
                port.abort()
                await until(lambda: not connected(node), node)
                await until(lambda: connected(node), node)
                assert port not in server._websockets
                assert list(node._running.transport.endpoint.connections.values()) == [connection]

    asyncio.run(story())
