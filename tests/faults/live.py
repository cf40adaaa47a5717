"""A rendezvous and two nodes with real sockets and files, in the forked child of a supervised test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from covey.base.errors import CoveyError
from covey.net.real import RealHost
from covey.node import Node
from covey.node.storage import load_or_create, prepare
from covey.rendezvous.mailboxes import MailboxStore
from covey.rendezvous.server import Rendezvous
from covey.rendezvous.store import RendezvousStore
from tests.faults.story import home_in

__all__ = ["befriend", "rendezvous", "started", "until"]

LOOPBACK = "127.0.0.1:0"


@contextlib.asynccontextmanager
async def rendezvous(folder: Path) -> AsyncIterator[str]:
    """Its ticket."""
    home = home_in(folder)
    prepare(home)
    with (
        contextlib.closing(RealHost()) as host,
        contextlib.closing(RendezvousStore(home.state_dir / "rendezvous.db")) as store,
        contextlib.closing(MailboxStore(home.state_dir / "mailboxes.db")) as mailboxes,
    ):
        credentials = load_or_create(home, host.random, host.wall_us())
        server = Rendezvous(host, credentials, store, mailboxes, listen=("127.0.0.1", 0), advertise=None)
        try:
            yield str(await server.start())
        finally:
            await server.close(0.5)


@contextlib.asynccontextmanager
async def started(folder: Path, ticket: str) -> AsyncIterator[Node]:
    """An agent named as its folder."""
    async with Node(folder.name, network=ticket, home=home_in(folder), listen=LOOPBACK) as node:
        yield node


async def befriend(a: Node, b: Node) -> None:
    while True:
        try:
            await a.handshake(b.name)
            break
        except CoveyError:
            await asyncio.sleep(0.05)  # not published yet
    await until(lambda: len(b.pending()) == 1)
    await b.approve(a.name)
    await until(lambda: [peer.trust for peer in (*a.peers(), *b.peers())] == ["trusted"] * 2)


async def until(condition: Callable[[], bool]) -> None:
    """Real time passes until it holds; the test's time limit ends a vain wait."""
    while not condition():  # noqa: ASYNC110 - a condition over whole nodes has no event
        await asyncio.sleep(0.02)
