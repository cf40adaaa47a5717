"""Ports of both sides on this machine's loopback, with real TLS and real proxies."""

from __future__ import annotations

import asyncio
import resource
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from covey.base.errors import UnreachableError, UsageError
from covey.lab import proxy as lab_proxy
from covey.net.websocket import CONGESTED_BYTES, LEAST_BYTES, PING_SECONDS, SEND_LIMIT, WebSocketPort
from covey.net.websocket_client import open_websocket
from covey.net.websocket_server import Certificate, ListenerLimits, WebSocketListener
from tests.fuzz.websocket import REQUEST, Connection, frame, server_protocol
from tests.net.tls import Files, certificate

NO_ENVIRONMENT: dict[str, str] = {}


class Server:
    """A listener, the ports it accepted, and who counts as a client."""

    def __init__(self, files: Files, limits: ListenerLimits | None = None) -> None:
        self.ports: asyncio.Queue[WebSocketPort] = asyncio.Queue()
        self.all: list[WebSocketPort] = []
        self.clients: set[WebSocketPort] = set()
        self.certificate = Certificate(files.certificate, files.key)
        self.listener = WebSocketListener(
            ("127.0.0.1", 0),
            self.certificate.context,
            on_open=self._on_open,
            is_used=self.clients.__contains__,
            limits=limits,
        )
        self.listener.start()
        self.remote = ("localhost", self.listener.address[1])

    def _on_open(self, port: WebSocketPort) -> None:
        self.all.append(port)
        port.on_closed(lambda: self.listener.forget(port))
        self.ports.put_nowait(port)

    async def pair(self) -> tuple[WebSocketPort, WebSocketPort]:
        """The client's and the server's side of a new connection."""
        client = await open_websocket(self.remote, NO_ENVIRONMENT)
        return client, await self.ports.get()


@asynccontextmanager
async def serving(files: Files, limits: ListenerLimits | None = None) -> AsyncIterator[Server]:
    server = Server(files, limits)
    try:
        yield server
    finally:
        await server.listener.close()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    made = certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", made.authority)
    return made


async def received(port: WebSocketPort) -> tuple[bytes, int]:
    """The next train."""
    async with asyncio.timeout(10):
        while True:
            train = port.receive()
            if train is not None:
                return bytes(train[0]), train[1]
            arrived = asyncio.Event()
            port.on_readable(arrived.set)
            await arrived.wait()


async def closed(port: WebSocketPort) -> None:
    gone = asyncio.Event()
    port.on_closed(gone.set)
    async with asyncio.timeout(10):
        await gone.wait()


def send(port: WebSocketPort, train: bytes, segment: int) -> None:
    assert port.send(memoryview(bytearray(train)), segment, port.remote)


def play(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(story())  # type: ignore[arg-type]


def test_trains_pass_both_ways_whole_and_in_order(files: Files) -> None:
    async def story() -> None:
        async with serving(files) as server:
            client, other = await server.pair()
            trains = [(bytes([number]) * (1200 * 50 - number), 1200) for number in range(5)] + [(b"x", 1)]
            for sender, receiver in ((client, other), (other, client)):
                for train, segment in trains:
                    send(sender, train, segment)
                assert [await received(receiver) for _ in trains] == trains
            assert client.remote == server.remote
            assert other.remote[0] == "127.0.0.1"
            client.close()
            await closed(other)
            assert client.dropped == other.dropped == 0
            send(other, b"late", 4)
            assert other.dropped == 1

    play(story)


def test_certificate_is_verified(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(served: Files) -> str:
        async with serving(served) as server:
            with pytest.raises(UnreachableError) as info:
                await open_websocket(server.remote, NO_ENVIRONMENT)
            assert info.value.code == "certificate-refused"
            return info.value.message

    async def story() -> None:
        assert "unable to get local issuer" in await refused(certificate(tmp_path / "1", "localhost"))
        expired = certificate(tmp_path / "2", "localhost", valid=False)
        monkeypatch.setenv("SSL_CERT_FILE", expired.authority)
        assert "expired" in await refused(expired)
        named = certificate(tmp_path / "3", "elsewhere.example")
        monkeypatch.setenv("SSL_CERT_FILE", named.authority)
        assert "localhost" in await refused(named)

    play(story)


def test_certificate_with_another_key_is_refused_and_the_old_one_served_on(tmp_path: Path, files: Files) -> None:
    async def story() -> None:
        async with serving(files) as server:
            shutil.copy(certificate(tmp_path / "other", "localhost").key, files.key)
            with pytest.raises(UsageError) as info:
                server.certificate.refresh()
            assert info.value.code == "bad-certificate"
            client, _ = await server.pair()
            client.close()

    play(story)


def test_certificate_that_was_renewed_is_served(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with serving(files) as server:
            assert not server.certificate.refresh()
            renewed = certificate(tmp_path / "renewed", "localhost")
            for old, new in zip(files[1:], renewed[1:], strict=True):
                shutil.copy(new, old)
            assert server.certificate.refresh()
            monkeypatch.setenv("SSL_CERT_FILE", renewed.authority)
            client, _ = await server.pair()
            client.close()

    play(story)


async def tls_to(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context()
    return await asyncio.open_connection("localhost", server.remote[1], ssl=context)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (REQUEST, b"101"),
        (REQUEST.replace(b"/covey ", b"/ "), b"404"),
        (REQUEST.replace(b"covey.1", b"covey.2"), b"400"),
        (REQUEST.replace(b"\r\n\r\n", b"\r\nOrigin: https://example.com\r\n\r\n"), b"403"),
        (b"GET /covey HTTP/1.1\r\nHost: localhost\r\n\r\n", b"426"),
        (b"POST /covey HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"\x00" * 100 + b"\r\n\r\n", b""),
        (b"GET /covey HTTP/1.1\r\n" + b"A: b\r\n" * 100_000, b"431"),
    ],
    ids=["good", "elsewhere", "other version", "from a web page", "no upgrade", "post", "zeros", "endless"],
)
def test_opening_handshake(request_: bytes, status: bytes, files: Files) -> None:
    async def story() -> None:
        async with serving(files) as server:
            reader, writer = await tls_to(server)
            writer.write(request_)
            try:
                head = await reader.readuntil(b"\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                head = b""
            assert head.split(b" ")[1:2] == ([status] if status else [])
            writer.transport.abort()
            if status == b"101":
                await server.ports.get()
            else:
                assert server.all == []

    play(story)


WRONG = {
    "text": frame(1, b"hello"),
    "no train": frame(2, b"\x00"),
    "impossible segment": frame(2, b"\x00\x09ab"),
    "not masked": b"\x82\x03\x00\x01a",
    "too long": b"\x82\xff" + (1 << 32).to_bytes(8, "big") + bytes(4),
    "too many parts": frame(2, b"\x00\x01a", fin=False) + frame(0, b"", fin=False) * 100,
    "goodbye": frame(8, b"\x03\xe8"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_client_that_says_something_else_is_cut_off(wrong: bytes, files: Files) -> None:
    async def story() -> None:
        async with serving(files) as server:
            reader, writer = await tls_to(server)
            writer.write(REQUEST)
            await reader.readuntil(b"\r\n\r\n")
            port = await server.ports.get()
            writer.write(frame(2, b"\x00\x02ab") + frame(2, b"\x00\x02c", fin=False) + frame(0, b"d"))
            assert [await received(port), await received(port)] == [(b"ab", 2), (b"cd", 2)]
            gone = asyncio.ensure_future(closed(port))
            await asyncio.sleep(0)
            writer.write(wrong)
            await gone
            writer.transport.abort()

    play(story)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_client_that_is_wrong_from_the_start_leaves_nothing_behind(wrong: bytes, files: Files) -> None:
    """What it says right behind the opening handshake ends the connection before anybody uses it."""

    async def story() -> None:
        async with serving(files) as server:
            reader, writer = await tls_to(server)
            writer.write(REQUEST + wrong)
            async with asyncio.timeout(10):
                await reader.read()  # to its end
            if not server.ports.empty():
                await closed(server.ports.get_nowait())
            assert server.listener.turned_away == 1
            writer.transport.abort()

    play(story)


def test_who_asks_and_does_not_listen_is_cut_off(files: Files) -> None:
    """Every ping has its pong: they must not fill our memory."""

    async def story() -> None:
        async with serving(files) as server:
            reader, writer = await tls_to(server)
            writer.write(REQUEST)
            await reader.readuntil(b"\r\n\r\n")
            port = await server.ports.get()
            gone = asyncio.ensure_future(closed(port))
            writer.transport.pause_reading()
            pings = frame(9, bytes(125)) * 1000
            while not gone.done():
                writer.write(pings)
                await asyncio.wait((gone, asyncio.ensure_future(writer.drain())), return_when=asyncio.FIRST_COMPLETED)
            await gone
            assert port.problem == "it asks and does not listen"
            writer.transport.abort()

    play(story)


def test_full_connection_says_so_keeps_some_and_loses_the_rest(files: Files) -> None:
    async def story() -> None:
        async with serving(files) as server:
            client, other = await server.pair()
            changes: list[bool] = []
            relieved = asyncio.Event()

            def congestion(full: bool) -> None:
                changes.append(full)
                if not full:
                    relieved.set()

            client.on_congestion(congestion)
            other.hold()  # it is not read
            train, sent = bytes(60_000), 0
            while not client.congested:
                send(client, train, 1200)
                sent += 1
                await asyncio.sleep(0)
            assert changes == [True]
            while not client.dropped:
                send(client, train, 1200)
                sent += 1
            assert client._transport is not None
            assert CONGESTED_BYTES < client._transport.get_write_buffer_size() <= SEND_LIMIT + len(train)
            other.release()
            for _ in range(sent - client.dropped):
                assert await received(other) == (train, 1200)
            await relieved.wait()
            assert changes == [True, False]
            client.close()

    play(story)


@pytest.mark.parametrize(
    ("seconds", "congested", "lost"),
    [(0.001, CONGESTED_BYTES, SEND_LIMIT), (1.0, 24_000, 120_000), (60.0, LEAST_BYTES, 4 * LEAST_BYTES)],
    ids=["fast", "slow", "very slow"],
)
def test_queue_is_as_long_as_its_line_is_fast(seconds: float, congested: int, lost: int) -> None:
    """480 kB left in so many seconds; what waits is a twentieth of a second's worth, what is kept a quarter."""

    async def story() -> None:
        port, line = WebSocketPort(server_protocol()), Connection()
        port.connection_made(line)
        port.data_received(REQUEST)
        line.waiting = 500_000
        port.pause_writing()
        port._congested_at -= seconds
        line.waiting = 20_000
        port.resume_writing()
        assert line.limits[0] == pytest.approx(congested, rel=0.05)
        port.pause_writing()
        line.waiting = lost - 1300
        send(port, bytes(1200), 1200)
        assert port.dropped == 0
        line.waiting = int(lost * 1.05)
        send(port, bytes(1200), 1200)
        assert port.dropped == 1
        port.connection_lost(None)

    play(story)


def test_line_that_turns_out_slow_is_congested_again_at_once(files: Files) -> None:
    async def story() -> None:
        port, line = WebSocketPort(server_protocol()), Connection()
        port.connection_made(line)
        port.data_received(REQUEST)
        line.port, line.waiting = port, 500_000
        port.pause_writing()
        port._congested_at -= 60.0
        line.waiting = 60_000  # little enough before, too much for such a line
        port.resume_writing()
        assert port.congested
        port.connection_lost(None)

    play(story)


def test_silence_is_answered_by_a_ping_and_ends_the_connection(files: Files) -> None:
    async def story() -> None:
        async with serving(files) as server:
            client, other = await server.pair()
            gone = asyncio.ensure_future(closed(client))
            await asyncio.sleep(0)
            for _ in range(3):  # what the timer does every 15 seconds
                client._look()
                client._look()
                async with asyncio.timeout(10):
                    while not client._heard and not gone.done():  # noqa: ASYNC110 - the pong says nothing to anybody
                        await asyncio.sleep(0.001)
            assert client.is_open, "its pings were answered"
            other._protocol.receive_data = lambda data: None  # type: ignore[method-assign,assignment]
            client._heard = False
            for _ in range(2):
                client._look()
            await gone
            assert client.problem == f"nothing came for {2 * PING_SECONDS:.0f} seconds"

    play(story)


def test_strangers_have_few_places_and_little_time(files: Files) -> None:
    async def story() -> None:
        limits = ListenerLimits(strangers=8, strangers_per_network=2, stranger_seconds=0.3, turn_seconds=0.0)
        async with serving(files, limits) as server:
            first, at_server = await server.pair()
            server.clients.add(at_server)
            others = [await server.pair() for _ in range(3)]
            async with asyncio.timeout(10):
                while any(client.is_open for client, _ in others):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert first.is_open, "a session of ours is there"
            assert len(server.listener) == 1
            assert server.listener.turned_away == 3
            first.close()

    play(story)


def test_those_who_came_just_now_are_not_turned_away_for_others(files: Files) -> None:
    """Or many who come at once would keep all of them out."""

    async def story() -> None:
        async with serving(files, ListenerLimits(strangers_per_network=2)) as server:
            early = [await server.pair() for _ in range(2)]
            with pytest.raises(UnreachableError) as info:
                await open_websocket(server.remote, NO_ENVIRONMENT)
            assert info.value.code == "websocket-unreachable"
            assert all(client.is_open for client, _ in early)

    play(story)


def test_one_network_does_not_take_all_places(files: Files) -> None:
    """Also by connections with a session: identities cost nothing."""

    async def story() -> None:
        async with serving(files, ListenerLimits(connections_per_network=2)) as server:
            for _ in range(2):
                client, at_server = await server.pair()
                server.clients.add(at_server)
            with pytest.raises(UnreachableError):
                await open_websocket(server.remote, NO_ENVIRONMENT)
            gone = asyncio.Event()
            at_server.on_closed(lambda: (server.listener.forget(at_server), gone.set()))
            client.close()
            await gone.wait()
            await server.pair()

    play(story)


def test_one_network_gets_so_many_handshakes_a_second(files: Files) -> None:
    async def story() -> None:
        async with serving(files, ListenerLimits(per_second=0.001, burst=3)) as server:
            for _ in range(3):
                await server.pair()
            with pytest.raises(UnreachableError):
                await open_websocket(server.remote, NO_ENVIRONMENT)
            assert server.listener.turned_away == 1

    play(story)


@pytest.mark.parametrize("host", ["a b", "a\r\nX: y", "a/b", "", "x" * 300, "a..\u00e4", "fe80::1%\r\nX: y"])
def test_host_that_would_mean_something_else_in_a_request_is_refused(host: str) -> None:
    async def story() -> None:
        with pytest.raises(UnreachableError) as info:
            await open_websocket((host, 443), {"HTTPS_PROXY": "http://127.0.0.1:9"})
        assert info.value.code == "host-not-found"

    play(story)


def test_connection_that_says_nothing_is_closed(files: Files) -> None:
    """Not even TLS."""

    async def story() -> None:
        limits = ListenerLimits(strangers_per_network=2, stranger_seconds=0.3)
        async with serving(files, limits) as server:
            with socket.create_connection(server.listener.address[:2]) as silent:
                silent.setblocking(False)
                async with asyncio.timeout(10):
                    assert await asyncio.get_running_loop().sock_recv(silent, 1) == b""
            assert server.all == []

    play(story)


def test_listener_allows_itself_as_many_files_as_connections(files: Files) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 700 if hard == resource.RLIM_INFINITY else min(700, hard)

    async def story() -> None:
        async with serving(files, ListenerLimits(connections=444)):
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, hard)

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        play(story)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def proxy() -> AsyncIterator[str]:
    """A real HTTP proxy as a process; where it is. It asks for a password and lets nothing through but port 443."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        number = free.getsockname()[1]
    argv = (lab_proxy.__file__, "127.0.0.1", str(number), "me", "p@ss")
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield f"127.0.0.1:{number}"
    finally:
        process.terminate()
        await process.wait()


def test_proxy_says_why_not(files: Files) -> None:
    async def code(environment: str) -> tuple[str, str]:
        with pytest.raises(UnreachableError) as info:
            await open_websocket(("localhost", 4443), {"HTTPS_PROXY": environment})
        return info.value.code, info.value.message

    async def story() -> None:
        async with proxy() as at:
            assert (await code(f"http://{at}"))[0] == "proxy-credentials"
            assert (await code(f"http://me:wrong@{at}"))[0] == "proxy-credentials"
            refused, message = await code(f"http://me:p%40ss@{at}")
            assert refused == "proxy-refused", "this port it does not let through"
            assert "p@ss" not in message
        assert (await code(f"http://{at}"))[0] == "proxy-unreachable"

    play(story)


def test_what_is_not_there_is_told_apart(files: Files) -> None:
    async def code(remote: tuple[str, int]) -> str:
        with pytest.raises(UnreachableError) as info:
            await open_websocket(remote, NO_ENVIRONMENT)
        return info.value.code

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 This is not HTTPS\r\n\r\n")
        await writer.drain()
        writer.close()

    async def story() -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            number = free.getsockname()[1]
        assert await code(("localhost", number)) == "websocket-unreachable"
        assert await code(("nowhere.invalid", 443)) == "host-not-found"
        other = await asyncio.start_server(plain, "127.0.0.1", 0)
        async with other:
            assert await code(("localhost", other.sockets[0].getsockname()[1])) == "websocket-refused"

    play(story)
