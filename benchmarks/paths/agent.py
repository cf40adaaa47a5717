"""One agent as a program: commands as lines of JSON in, answers and events as lines of JSON out.

    {"do": "start", "home": DIR, "name": NAME, "network": TICKET}  ->  {"done": "start", "at": 12.3}

`at` is `time.monotonic()`, which is the same clock for all programs of a machine. A command that fails answers
`{"failed": COMMAND, "why": TEXT}`. Commands run one after the other. Ends with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from benchmarks.paths.load import BULK, ECHO, Inbox, Load, Sink, longest, serve_requests
from covey.base.errors import CoveyError
from covey.base.paths import Home
from covey.base.schema import PeerView
from covey.node.node import Node
from covey.node.relays import RelayPolicy

_LOOK_SECONDS: Final = 0.005


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


class Agent:
    """What the commands do; a method of that name for each."""

    def __init__(self) -> None:
        self._node: Node | None = None
        self._inbox = Inbox()
        self._following: asyncio.Task[None] | None = None
        self._load: Load | None = None
        self._sink = Sink()

    @property
    def node(self) -> Node:
        if self._node is None:
            raise AssertionError("start comes first")
        return self._node

    async def start(self, home: str, name: str, network: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """A node that is connected to every rendezvous of the network, or to one after two more seconds."""
        place = Home.locate("default", {"COVEY_HOME": home}, uid=os.getuid())
        settings = settings or {}
        if "relaying" in settings:
            settings["relaying"] = msgspec.convert(settings["relaying"], RelayPolicy)
        node = Node(name, network=network, home=place, **settings)
        node.serve(ECHO, serve_requests)
        node.serve(BULK, self._sink.serve)
        await node.start()
        self._node, self._inbox = node, Inbox()
        self._following = asyncio.get_running_loop().create_task(self._inbox.follow(node))
        await _until(lambda: any(each.connected for each in node.view().rendezvous), 15)
        with contextlib.suppress(TimeoutError):
            await _until(lambda: all(each.connected for each in node.view().rendezvous), 2)
        return {"identity": node.identity}

    async def stop(self) -> dict[str, Any]:
        if self._load is not None:
            await self._load.give_up()
        if self._node is not None:
            await self._node.close()
            if self._following is not None:
                await self._following
        self._node = self._load = None
        return {}

    async def forget(self, home: str) -> dict[str, Any]:
        """Where peers were reached last, and on which port we listened: as if we came to this network for the first
        time."""
        place = Home.locate("default", {"COVEY_HOME": home}, uid=os.getuid())
        with sqlite3.connect(place.database) as database:
            database.execute("UPDATE peers SET candidates = '[]'")
            database.execute("DELETE FROM settings WHERE key = 'udp-port'")
        database.close()
        return {}

    async def befriend(self, peer: str) -> dict[str, Any]:
        await self.node.handshake(peer, wait=10)
        return {}

    async def approve(self, peer: str) -> dict[str, Any]:
        await _until(lambda: any(each.identity == peer for each in self.node.pending()), 20)
        await self.node.approve(peer)
        return {}

    async def send(self, peer: str, body: str, wait: float = 20.0) -> dict[str, Any]:
        begun = time.monotonic()
        outcome = await self.node.send(peer, body, wait=wait)
        return {"begun": begun, "result": outcome.result}

    async def received(self, body: str, seconds: float = 20.0) -> dict[str, Any]:
        await _until(lambda: body in self._inbox.first_at, seconds)
        return {"first_at": self._inbox.first_at[body], "times": self._inbox.counts[body]}

    async def direct(self, peer: str, seconds: float) -> dict[str, Any]:
        """When what we send goes to the peer itself; `direct` is None if not within `seconds`."""
        try:
            await _until(lambda: _kind(self._peer(peer)) == "direct", seconds)
        except TimeoutError:
            return {"direct_at": None, "reason": _reason(self._peer(peer)), "peer": _plain(self._peer(peer))}
        return {"direct_at": time.monotonic(), "reason": "direct", "peer": _plain(self._peer(peer))}

    async def backed(self, peer: str, seconds: float = 20.0) -> dict[str, Any]:
        """There are so many ways to the peer that one may die."""
        await _until(lambda: len(self._peer(peer).paths) > 1, seconds)
        return {"peer": _plain(self._peer(peer))}

    async def peer(self, peer: str) -> dict[str, Any]:
        return {"peer": _plain(self._peer(peer))}

    async def why(self, peer: str, code: str, seconds: float = 20.0) -> dict[str, Any]:
        """Until the peer is on its path for this reason, or what it is after so long."""
        with contextlib.suppress(TimeoutError):
            await _until(lambda: self._peer(peer).why == code, seconds)
        return {"peer": msgspec.to_builtins(self._peer(peer))}

    async def netcheck(self) -> dict[str, Any]:
        return {"found": msgspec.to_builtins(await self.node.netcheck())}

    async def load(self, peer: str, bulk_rate: float | None = None, run: str = "") -> dict[str, Any]:
        self._load = Load(self.node, peer, bulk_rate=float("inf") if bulk_rate is None else bulk_rate, run=run)
        await self._load.begin()
        return {}

    async def settled(self, since: float, seconds: float, patience: float) -> dict[str, Any]:
        """Answers come again; how long none did."""
        load = self._load
        if load is None:
            raise AssertionError("load comes first")
        try:
            await _until(lambda: load.settled(since, seconds), patience)
        except TimeoutError:
            return {"gap": None}
        return {"gap": load.gap(since)}

    async def bulk_gap(self, since: float) -> dict[str, Any]:
        """How long no bulk came since then, at most."""
        return {"gap": longest(self._sink.times, since)}

    async def unload(self, seconds: float = 60.0) -> dict[str, Any]:
        if self._load is None:
            raise AssertionError("load comes first")
        return await self._load.end(seconds)

    async def messages(self, run: str, count: int, seconds: float = 30.0) -> dict[str, Any]:
        """Whether each message of a run arrived, and none twice."""
        names = [f"{run} {number}" for number in range(count)]
        await _until(lambda: all(name in self._inbox.counts for name in names), seconds)
        return {"twice": [name for name in names if self._inbox.counts[name] > 1]}

    def _peer(self, identity: str) -> PeerView:
        return next(each for each in self.node.peers() if each.identity == identity)


def _kind(peer: PeerView) -> str:
    return next((path.kind for path in peer.paths if path.active), "")


def _reason(peer: PeerView) -> str:
    return next((path.reason for path in peer.paths if path.active), "no-path")


def _plain(peer: PeerView) -> list[dict[str, Any]]:
    return [
        {"kind": path.kind, "remote": path.remote, "active": path.active, "reason": path.reason} for path in peer.paths
    ]


async def _until(true: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if true():
                return
            await asyncio.sleep(_LOOK_SECONDS)


async def main() -> None:
    agent = Agent()
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say(ready=True)
    while line := await reader.readline():
        command = json.loads(line)
        name = command.pop("do")
        try:
            answer = await getattr(agent, name)(**command)
            say(done=name, at=time.monotonic(), **answer)
        except (CoveyError, TimeoutError, AssertionError, OSError) as error:
            say(failed=name, why=f"{type(error).__name__}: {error}", at=time.monotonic())
    await agent.stop()


if __name__ == "__main__":
    asyncio.run(main())
