from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from covey.base.errors import NotFoundError, StorageError
from covey.base.types import Identity, identity_text
from covey.node.book import PeerBook
from covey.node.committer import Committer
from covey.node.storage import Store, locate, peers, prepare
from covey.testing import SimHost, SimNetwork, run


def identity(n: int) -> Identity:
    return Identity(n.to_bytes(32, "big"))


def test_memory_holds_what_is_committed_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "STRANGERS_LIMIT", 5)
    monkeypatch.setattr(peers, "PENDING_LIMIT", 3)

    async def scenario() -> None:
        home = locate(None, {"COVEY_HOME": str(tmp_path)})
        prepare(home)
        host = SimHost(SimNetwork(asyncio.get_running_loop(), 1), "10.0.0.1")
        store = Store.open(home, host.random, 0, durable=False)
        book = PeerBook(store, Committer(host, store.database), host.wall_us, lambda applied: None)
        for n in range(20):
            await book.apply(identity(n), "local-request")
            await book.apply(identity(n), "local-untrust")
        for n in range(100, 120):
            await book.apply(identity(n), "remote-request")
        assert sorted(book.all(), key=lambda peer: peer.identity) == sorted(
            store.peers.all(), key=lambda peer: peer.identity
        )
        assert len(book.all()) < 20
        found = book.all()[-1]
        store.database.execute("PRAGMA query_only = 1")
        assert book.find(identity_text(found.identity)) is found
        with pytest.raises(NotFoundError):
            book.find(identity_text(identity(999)))
        with pytest.raises(StorageError):
            await book.apply(identity(200), "remote-request")
        assert book.get(identity(200)) is None
        store.close()

    run(scenario())
