"""A node that lives in memory: what the daemon's own tests put behind the sockets, and a daemon in a thread.

It keeps the contract of `covey.Node` in the plainest way (one known peer, an inbox in a list, streams that
echo), so that tests of HTTP, sockets and the command line say something about these and nothing about the
overlay.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from covey.base.config import ConfigFile
from covey.base.errors import CoveyError, NotFoundError, RefusedError, StateError
from covey.base.events import RecentEvents
from covey.base.paths import Home
from covey.base.reasons import change_for, reason
from covey.base.schema import (
    ErrorView,
    IntroductionView,
    MessageType,
    MessageView,
    NameView,
    NetcheckView,
    NetworkView,
    NodeView,
    PathView,
    PeerView,
    PingView,
    SendResult,
    SendView,
)
from covey.daemon.options import Options, settings
from covey.daemon.program import Daemon
from covey.node.bus import Bus, Follower

OWN_IDENTITY = "a" * 52
PEER_IDENTITY = "b" * 52
PEER_NAME = "azure-processor"
CODE = "4567-89ab-cdem"
SAFETY_NUMBER = "12345 67890 12345 67890"


class MemoryStream:
    """A stream that gives back what is written to it; `window` bounds what it holds, like a peer's flow
    control."""

    def __init__(self, window: int = 1 << 20) -> None:
        self.window = window
        self.held = bytearray()
        self.most_held = 0
        self.finished = False
        self.ends_with_us = True  # our end is also the peer's, as with an echo service
        self.reset_code: int | None = None
        self.reset_seen = asyncio.Event()
        self._changed = asyncio.Condition()

    async def read(self, limit: int = -1, /) -> bytes:
        async with self._changed:
            await self._changed.wait_for(lambda: self.held or self._ended() or self.reset_code is not None)
            self._check()
            size = len(self.held) if limit < 0 else min(limit, len(self.held))
            data = bytes(self.held[:size])
            del self.held[:size]
            self._changed.notify_all()
            return data

    async def write(self, data: bytes, /) -> None:
        rest = memoryview(data)
        while rest:
            async with self._changed:
                await self._changed.wait_for(lambda: len(self.held) < self.window or self.reset_code is not None)
                self._check()
                taken = min(len(rest), self.window - len(self.held))
                self.held += rest[:taken]
                self.most_held = max(self.most_held, len(self.held))
                rest = rest[taken:]
                self._changed.notify_all()

    def write_now(self, data: bytes, /) -> bool:
        """Never: readers wait for a condition, and only a task may tell them."""
        return False

    async def finish(self) -> None:
        async with self._changed:
            self.finished = True
            self._changed.notify_all()

    async def reset(self, code: int = 0) -> None:
        async with self._changed:
            self.reset_code = code
            self.reset_seen.set()
            self._changed.notify_all()

    def _ended(self) -> bool:
        return self.finished and self.ends_with_us

    def _check(self) -> None:
        if self.reset_code is not None:
            raise StateError("the stream was reset", code="stream-reset")


class MemoryNode:
    """See the module. `failures[method]` is raised by that method; `gates[method]` holds it until the event
    is set."""

    def __init__(self, name: str = "aws-orchestrator", profile: str = "default") -> None:
        self.name = name
        self.profile = profile
        self.failures: dict[str, Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.entered = asyncio.Event()
        self.trust: Any = "unknown"
        self.reason = ""
        self.answer: Any = "trusted"
        self.introduction: Any = "introduced"
        self.entered_codes: list[tuple[str, float, bool]] = []
        self.result: SendResult = "delivered"
        self.why = "direct"
        self.network_found = NetcheckView(True, "symmetric", NetworkView())
        self.paths = [PathView(kind="direct", remote="192.0.2.1:4040", active=True, rtt_ms=12.5, reason="direct")]
        self.sent: list[tuple[str, bytes, str, str | None, float | None, float]] = []
        self.batches: list[tuple[int, float]] = []
        self.inbox: list[MessageView] = []
        self.acknowledged: list[int] = []
        self.streams: list[MemoryStream] = []
        self.bus = Bus()
        self.arrival = asyncio.Event()
        self.reader_left = asyncio.Event()
        self.started = False
        self.closed = False

    async def start(self) -> None:
        self._fail("start")
        self.started = True

    async def close(self) -> None:
        self.closed = True

    def view(self) -> NodeView:
        self._fail("view")
        return NodeView(
            identity=OWN_IDENTITY,
            address="7f3a.91c0.d2e4",
            name=self.name,
            version="0.1.0",
            profile=self.profile,
            started=1_700_000_000.0,
            pid=os.getpid(),
            listen=["0.0.0.0:4040"],
            network="covey1test",
        )

    def name_view(self) -> NameView:
        return NameView(self.name, chosen=not self.name.startswith("agent-"), rendezvous=1, held=1, taken=0)

    async def set_name(self, name: str, *, wait: float = 5.0) -> NameView:
        await self._pass("set_name")
        self.name = name
        return self.name_view()

    async def release_name(self, *, wait: float = 5.0) -> NameView:
        return await self.set_name("agent-aaaaaaaa", wait=wait)

    def peers(self) -> list[PeerView]:
        return [self._peer()]

    def pending(self) -> list[PeerView]:
        return [peer for peer in self.peers() if peer.trust == "pending"]

    async def find(self, peer: str) -> PeerView:
        await self._pass("find")
        self._known(peer)
        return self._peer()

    async def handshake(self, peer: str, reason: str = "", wait: float = 0) -> PeerView:
        await self._pass("handshake")
        self._known(peer)
        self.reason = reason
        self.trust = self.answer if wait else "requested"
        return self._peer()

    async def approve(self, peer: str) -> PeerView:
        self._known(peer)
        self.trust = "trusted"
        return self._peer()

    async def reject(self, peer: str, reason: str = "") -> PeerView:
        self._known(peer)
        self.trust, self.reason = "unknown", reason
        return self._peer()

    async def untrust(self, peer: str) -> PeerView:
        self._known(peer)
        self.trust = "unknown"
        return self._peer()

    async def open_introduction(self, seconds: float = 600.0, *, ask: bool = False) -> IntroductionView:
        self._fail("open_introduction")
        self.window = (seconds, ask)
        return IntroductionView("open", CODE, f"{CODE}@192.0.2.1:4040", ["192.0.2.1:4040"], 1_700_000_000.0)

    async def await_introduction(self, seconds: float) -> IntroductionView:
        await self._pass("await_introduction")
        if self.introduction == "introduced":
            self.trust = "trusted"
            return IntroductionView("introduced", peer=self._peer())
        problems = {
            "expired": ErrorView("window-expired", "nobody came", "covey introduce"),
            "failed": ErrorView("too-many-tries", "too many tries", "covey introduce"),
        }
        return IntroductionView(self.introduction, problem=problems.get(self.introduction))

    async def close_introduction(self) -> IntroductionView:
        self.introduction = "closed"
        return IntroductionView("closed", problem=ErrorView("window-closed", "closed"))

    async def introduce(self, invitation: str, seconds: float = 20.0, *, ask: bool = False) -> PeerView:
        self._fail("introduce")
        self.entered_codes.append((invitation, seconds, ask))
        self.trust = "pending" if ask else "trusted"
        return self._peer()

    async def netcheck(self) -> NetcheckView:
        await self._pass("netcheck")
        return self.network_found

    async def ping(self, peer: str) -> PingView:
        await self._pass("ping")
        self._known(peer)
        path = next(path for path in self.paths if path.active)
        return PingView(identity=PEER_IDENTITY, name=PEER_NAME, rtt_ms=12.5, path=path)

    async def send(
        self,
        peer: str,
        body: bytes,
        type: MessageType = "text",
        *,
        id: str | None = None,
        ttl: float | None = None,
        wait: float = 5.0,
    ) -> SendView:
        await self._pass("send")
        self._known(peer)
        self.sent.append((peer, body, type, id, ttl, wait))
        reason = "not-trusted" if self.result == "refused" else ""
        return SendView(id or "0" * 32, PEER_IDENTITY, PEER_NAME, self.result, reason, 3.0)

    async def send_many(
        self,
        peer: str,
        bodies: list[bytes],
        type: MessageType = "text",
        ids: list[str] | None = None,
        ttl: float | None = None,
        wait: float = 5.0,
    ) -> list[SendView]:
        self.batches.append((len(bodies), wait))
        given = ids or [f"{number:032x}" for number in range(len(bodies))]
        return [
            await self.send(peer, body, type, id=each, ttl=ttl, wait=wait)
            for body, each in zip(bodies, given, strict=True)
        ]

    async def inbox_list(
        self,
        *,
        all: bool = False,
        limit: int = 100,
        after: int = 0,
        bodies: bool = True,
    ) -> list[MessageView]:
        return [m for m in self.inbox if m.number > after and (all or not m.acknowledged)][:limit]

    async def inbox_get(self, number_or_id: str) -> MessageView:
        for message in self.inbox:
            if number_or_id in (str(message.number), message.id):
                return message
        raise NotFoundError(f"there is no message {number_or_id}", code="no-message", next_step="covey inbox")

    async def inbox_acknowledge(self, numbers: list[int]) -> int:
        count = sum(message.number in numbers for message in self.inbox)
        if count != len(numbers):
            raise NotFoundError("there is no such message", code="no-message")
        self.acknowledged += numbers
        return count

    async def inbox_clear(self, *, all: bool = False) -> int:
        count, self.inbox = len(self.inbox), []
        return count

    async def open(self, peer: str, service: str, *, traffic: str = "default") -> MemoryStream:
        self._known(peer)
        if service == "nothing":
            raise RefusedError("no such service", code="no-service")
        stream = MemoryStream()
        self.streams.append(stream)
        return stream

    def subscribe(self, types: Iterable[str] = (), *, after: str | None = None) -> Follower:
        return self.bus.follow(types, after)

    def recent_events(self, types: Iterable[str] = (), *, limit: int = 1000) -> RecentEvents:
        return self.bus.recent(types, limit)

    async def inbox_follow(self, position: str | None = None) -> AsyncIterator[tuple[str, MessageView | None]]:
        return self._follow(int(position or 0))

    async def _follow(self, after: int) -> AsyncIterator[tuple[str, MessageView | None]]:
        try:
            yield str(after), None
            while True:
                self.arrival.clear()
                for message in [each for each in self.inbox if each.number > after]:
                    after = message.number
                    yield str(after), message
                await self.arrival.wait()
        finally:
            self.reader_left.set()

    def receive(self, body: str, kind: MessageType = "text") -> MessageView:
        """Put a message into the inbox."""
        number = len(self.inbox) + 1
        message = MessageView(
            number, f"{number:032x}", PEER_IDENTITY, PEER_NAME, kind, 1_700_000_000.0, len(body), body
        )
        self.inbox.append(message)
        self.arrival.set()
        return message

    def _peer(self) -> PeerView:
        return PeerView(
            PEER_IDENTITY,
            "1111.2222.3333",
            PEER_NAME,
            self.trust,
            SAFETY_NUMBER,
            connected=self.trust == "trusted",
            paths=self.paths,
            reason=self.reason,
            why=self.why if self.trust == "trusted" else "",
            why_text=reason(self.why).says,
            change=change_for(self.why, PEER_NAME) if self.trust == "trusted" else "",
        )

    def _known(self, peer: str) -> None:
        if peer not in (PEER_NAME, PEER_IDENTITY, "1111.2222.3333", SAFETY_NUMBER):
            raise NotFoundError(f"nobody is called {peer!r}", code="unknown-peer", next_step=f"covey find {peer}")

    def _fail(self, method: str) -> None:
        if method in self.failures:
            raise self.failures[method]

    async def _pass(self, method: str) -> None:
        self.entered.set()
        if method in self.gates:
            await self.gates[method].wait()
        self._fail(method)


class QuietStarter:
    """Waits for readiness within the process."""

    def __init__(self) -> None:
        self.view: Future[NodeView] = Future()

    def ready(self, view: NodeView) -> None:
        self.view.set_result(view)

    def failed(self, error: BaseException) -> None:
        self.view.set_exception(error)


class RunningDaemon:
    """A daemon in a thread with a loop of its own. `call` runs a function in that loop and returns its
    result."""

    def __init__(self, home: Home, node: MemoryNode, daemon: Daemon, loop: asyncio.AbstractEventLoop) -> None:
        self.home = home
        self.node = node
        self.daemon = daemon
        self.loop = loop

    def call(self, function: Callable[[], Any]) -> Any:
        async def inside() -> Any:
            result = function()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(inside(), self.loop).result(10)


@contextlib.contextmanager
def running_daemon(base: Path, node_name: str = "aws-orchestrator") -> Iterator[RunningDaemon]:
    """A daemon over a `MemoryNode` with `COVEY_HOME=base`; it is stopped and its thread joined at the end."""
    home = Home.locate("default", {"COVEY_HOME": str(base)}, uid=0)
    for directory in (home.state_dir, home.run_dir):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    starter = QuietStarter()
    box: Future[RunningDaemon] = Future()

    async def serve() -> None:
        node = MemoryNode(node_name)
        daemon = Daemon(home, node, settings(Options(), ConfigFile(), os.environ))
        box.set_result(RunningDaemon(home, node, daemon, asyncio.get_running_loop()))
        await daemon.serve(starter)

    def thread() -> None:
        try:
            asyncio.run(serve())
        except CoveyError as error:
            starter.failed(error)

    worker = threading.Thread(target=thread, name="daemon")
    worker.start()
    running = box.result(10)
    try:
        starter.view.result(10)
        yield running
    finally:
        if worker.is_alive():
            running.loop.call_soon_threadsafe(running.daemon.stop)
        worker.join(20)
        assert not worker.is_alive()


__all__ = [
    "CODE",
    "OWN_IDENTITY",
    "PEER_IDENTITY",
    "PEER_NAME",
    "SAFETY_NUMBER",
    "MemoryNode",
    "MemoryStream",
    "QuietStarter",
    "RunningDaemon",
    "running_daemon",
]
