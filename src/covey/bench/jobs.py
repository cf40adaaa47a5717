"""What is measured between two ends, written once for everybody that is compared.

An end is a `Peer`: it opens named channels to services of the other end. The services below run where somebody serves,
the jobs run where somebody connects; neither knows whether bytes go through TCP, TLS, Covey or a rival.

A transfer is bytes of any number with `END` behind them, so that nobody needs to close one direction of a channel
(TLS in asyncio cannot). The receiver answers a transfer with its count of bytes and the CPU time it took.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from covey.base.errors import CoveyError

__all__ = ["JOBS", "MESSAGE_SIZE", "ON_DATAGRAM", "SERVICES", "Channel", "Peer", "Place", "Side", "Speaker"]

PIECE: Final = 256 * 1024
"""Bytes that a sender of bulk hands over at a time."""
MESSAGE_SIZE: Final = 256
ROUND_TRIP_SIZE: Final = 64
END: Final = b"\x17covey-bench-end"
"""16 bytes."""
_WARM_UP: Final = 5
"""The part of a job that goes before and is not counted."""
_BURST: Final = 32
"""Messages sent between two looks at the clock, and, datagrams, at the event loop."""
_MIN_ROUND_TRIPS: Final = 20
_CONNECTS: Final = 10
"""Connects of one job, of which the median counts."""
_TRIES: Final = 4
_AT_ONCE: Final = 4
"""Sessions that something is done with at the same time: more handshakes at once from one address look like a flood."""


class Channel(Protocol):
    """An ordered, reliable byte stream in both directions."""

    async def read(self) -> bytes:
        """What has arrived, at least one byte; b"" once the other end closed it."""
        ...

    async def read_exactly(self, size: int) -> bytes: ...

    async def write(self, data: bytes) -> None:
        """Waits while too much is on its way."""
        ...

    async def finish(self) -> None:
        """Nothing more will be written."""
        ...


class Peer(Protocol):
    """The connecting end of one session."""

    async def connect(self) -> None:
        """Makes the session, if there is such a thing before the first channel."""
        ...

    async def open(self, service: str) -> Channel: ...

    async def close(self) -> None: ...


class DatagramPeer(Peer, Protocol):
    """Of a subject that `can` do "datagrams"."""

    def send_datagram(self, channel: Channel, data: bytes) -> None:
        """Unreliable and unordered, to the service of the channel."""
        ...


class DurablePeer(Peer, Protocol):
    """Of a subject that `can` do "durable"."""

    async def deliver(self, message: bytes) -> None:
        """Returns when the message is on the disks of both ends."""
        ...


class CutPeer(Peer, Protocol):
    """Of a subject that `can` do "cut"."""

    async def cut(self) -> None:
        """Ends, without a word, what carries the session now. Once."""
        ...


Service = Callable[[Channel], Awaitable[None]]
OnDatagram = Callable[[bytes], None]


@dataclass
class Place:
    """Where a process stands: its IP address, a directory of its own, and what the harness has to tell it."""

    address: str
    directory: str
    options: dict[str, Any] = field(default_factory=dict)


class Speaker(Protocol):
    """One contender, in a process of its own for each end."""

    session_is_channel: bool
    """There is nothing between two channels of a client: a session lasts as long as its channel."""

    async def serve(self, place: Place, services: Mapping[str, Service], on_datagram: OnDatagram) -> dict[str, Any]:
        """Listens until the process ends. The result, which must survive JSON, is what `peer` gets at the other end."""
        ...

    async def peer(self, place: Place, facts: dict[str, Any]) -> Peer:
        """One more client, not connected yet. Keys and sockets are made here, because nobody counts their time."""
        ...


# --- services: the end that serves ------------------------------------------------------------------------------------


class _Datagrams:
    """Datagrams that arrived in this process."""

    count = 0


def _on_datagram(_: bytes) -> None:
    _Datagrams.count += 1


async def _echo(channel: Channel) -> None:
    while data := await channel.read():
        await channel.write(data)


async def _sink(channel: Channel) -> None:
    while True:
        count, tail, cpu = 0, b"", time.process_time_ns()
        while tail != END:
            data = await channel.read()
            if not data:
                return
            count += len(data)
            tail = data[-len(END) :] if len(data) >= len(END) else (tail + data)[-len(END) :]
        await channel.write(count.to_bytes(8, "big") + (time.process_time_ns() - cpu).to_bytes(8, "big"))


async def _source(channel: Channel) -> None:
    """Pours for as many milliseconds as it is asked to."""
    while asked := await channel.read():
        await _pour(channel, int(asked) / 1e3)


async def _messages(channel: Channel) -> None:
    """Takes messages one by one out of what arrives, as a program would."""
    while True:
        count, rest = 0, b""
        while True:
            data = await channel.read()
            if not data:
                return
            data = rest + data if rest else data
            whole = len(data) - len(data) % MESSAGE_SIZE
            taken = [data[start : start + MESSAGE_SIZE] for start in range(0, whole, MESSAGE_SIZE)]
            rest = data[whole:]
            count += len(taken)
            if taken and taken[-1].startswith(END):
                break
        await channel.write(count.to_bytes(8, "big"))


async def _datagrams(channel: Channel) -> None:
    """Tells how many have arrived whenever it is asked."""
    while await channel.read():
        await channel.write(_Datagrams.count.to_bytes(8, "big"))


SERVICES: Final[Mapping[str, Service]] = {
    "echo": _echo,
    "sink": _sink,
    "source": _source,
    "messages": _messages,
    "datagrams": _datagrams,
}
ON_DATAGRAM: Final[OnDatagram] = _on_datagram


# --- jobs: the end that connects --------------------------------------------------------------------------------------


@dataclass
class Side:
    """The connecting process: who it is, where it stands, whom it talks to."""

    speaker: Speaker
    place: Place
    facts: dict[str, Any]
    first: Peer | None = None
    more: list[tuple[Peer, Channel]] = field(default_factory=list)
    """Sessions beside the first, each with a channel to `echo` that may be closed."""
    busy: int = 0
    """How many of them have moved bytes."""

    async def session(self) -> Peer:
        """The first session, which is made when it is needed."""
        if self.first is None:
            self.first = await self.speaker.peer(self.place, self.facts)
            await self.first.connect()
        return self.first

    async def open(self, service: str) -> Channel:
        """A channel of the first session."""
        return await (await self.session()).open(service)

    async def close(self) -> None:
        for peer, _ in self.more:
            await peer.close()
        self.more.clear()
        if self.first is not None:
            await self.first.close()
            self.first = None


async def round_trips(side: Side, seconds: float) -> dict[str, float]:
    """64 bytes there and back, one after the other: microseconds."""
    channel = await side.open("echo")
    await _trips(channel, seconds / _WARM_UP)
    times = await _trips(channel, seconds)
    await channel.finish()
    return _percentiles(times)


async def round_trips_loaded(side: Side, seconds: float) -> dict[str, float]:
    """The same while bulk runs beside it at full speed; `bytes` and `seconds` are of the bulk."""
    bulk, echo = await side.open("sink"), await side.open("echo")
    stop = asyncio.Event()
    begun = time.perf_counter()
    load = asyncio.create_task(_pour_until(bulk, stop))
    try:
        await _trips(echo, seconds / _WARM_UP)
        times = await _trips(echo, seconds)
    finally:
        stop.set()
        sent = await load
    await bulk.read_exactly(16)
    took = time.perf_counter() - begun
    await bulk.finish()
    await echo.finish()
    return _percentiles(times) | {"bytes": sent, "seconds": took}


async def bulk(side: Side, seconds: float, streams: int = 1) -> dict[str, float]:
    """As many bytes as go through `streams` channels at once; `receive_cpu_s` only if it is one."""
    channels = [await side.open("sink") for _ in range(streams)]
    await _poured(channels, seconds / _WARM_UP)
    begun, cpu = time.perf_counter(), time.process_time()
    answers = await _poured(channels, seconds)
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    for channel in channels:
        await channel.finish()
    return {
        "bytes": sum(int.from_bytes(answer[:8], "big") for answer in answers),
        "seconds": took,
        "send_cpu_s": cpu,
        "receive_cpu_s": int.from_bytes(answers[0][8:], "big") / 1e9,
    }


async def both_ways(side: Side, seconds: float) -> dict[str, float]:
    """Bulk in both directions at once, a channel each: the bytes of both."""
    here, there = await side.open("sink"), await side.open("source")

    async def once(length: float) -> dict[str, float]:
        begun = time.perf_counter()
        await there.write(b"%d" % round(length * 1e3))
        answers, received = await asyncio.gather(_poured([here], length), _drained(there))
        took = time.perf_counter() - begun
        return {"bytes": received + int.from_bytes(answers[0][:8], "big"), "seconds": took}

    await once(seconds / _WARM_UP)
    found = await once(seconds)
    await here.finish()
    await there.finish()
    return found


async def messages(side: Side, seconds: float) -> dict[str, float]:
    """Messages of 256 bytes one way on one channel, one `write` each."""
    channel = await side.open("messages")
    message = os.urandom(MESSAGE_SIZE)
    last = END + bytes(MESSAGE_SIZE - len(END))

    async def once(length: float) -> dict[str, float]:
        begun = time.perf_counter()
        while time.perf_counter() < begun + length:
            for _ in range(_BURST):
                await channel.write(message)
        await channel.write(last)
        count = int.from_bytes(await channel.read_exactly(8), "big")
        return {"messages": count, "seconds": time.perf_counter() - begun}

    await once(seconds / _WARM_UP)
    found = await once(seconds)
    await channel.finish()
    return found


async def datagrams(side: Side, seconds: float) -> dict[str, float]:
    """Datagrams of 256 bytes one way, as fast as the program can hand them over: sent, and arrived."""
    peer = cast("DatagramPeer", await side.session())
    channel = await peer.open("datagrams")
    send = peer.send_datagram
    data = os.urandom(MESSAGE_SIZE)

    async def arrived() -> int:
        await channel.write(b"?")
        return int.from_bytes(await channel.read_exactly(8), "big")

    async def all_arrived() -> int:
        """When no more came between two answers."""
        count, before = await arrived(), -1
        while count != before:
            count, before = await arrived(), count
        return count

    async def once(length: float) -> dict[str, float]:
        before = await all_arrived()
        sent = 0
        begun = time.perf_counter()
        while time.perf_counter() < begun + length:
            for _ in range(_BURST):
                send(channel, data)
            sent += _BURST
            await asyncio.sleep(0)
        took = time.perf_counter() - begun
        return {"sent": sent, "arrived": await all_arrived() - before, "seconds": took}

    await once(seconds / _WARM_UP)
    found = await once(seconds)
    await channel.finish()
    return found


async def connect(side: Side, count: int = _CONNECTS) -> dict[str, float]:
    """From nothing to the first byte that a service echoes, each time by a client never seen before: milliseconds."""
    times = []
    for _ in range(count):
        peer = await side.speaker.peer(side.place, side.facts)
        begun = time.perf_counter()
        await peer.connect()
        channel = await peer.open("echo")
        await _echoed(channel)
        times.append((time.perf_counter() - begun) * 1e3)
        await channel.finish()
        await peer.close()
    return {"ms": sorted(times)[len(times) // 2]}


async def durable(side: Side, seconds: float, senders: int = 64) -> dict[str, float]:
    """Messages of 256 bytes that are on the disks of both ends, from so many tasks that each wait for their own."""
    peer = cast("DurablePeer", await side.session())
    message = os.urandom(MESSAGE_SIZE)

    async def once(length: float) -> dict[str, float]:
        begun = time.perf_counter()

        async def send() -> int:
            count = 0
            while time.perf_counter() < begun + length:
                await peer.deliver(message)
                count += 1
            return count

        count = sum(await asyncio.gather(*(send() for _ in range(senders))))
        return {"messages": count, "seconds": time.perf_counter() - begun}

    await once(seconds / _WARM_UP)
    return await once(seconds)


async def failover(side: Side, seconds: float, after: float = 5.0) -> dict[str, float]:
    """The longest round trip of 64 bytes while what carries them is taken away: milliseconds."""
    channel = await side.open("echo")
    await _trips(channel, seconds)
    await cast("CutPeer", await side.session()).cut()
    times = await _trips(channel, after)
    await channel.finish()
    return {"ms": times[-1] / 1e3}


async def sessions(side: Side, count: int) -> dict[str, float]:
    """Brings the number of sessions beside the first to `count`. Each has echoed a byte, and then no open channel.

    `seconds` is how long that took, without making the clients.
    """
    gate = asyncio.Semaphore(_AT_ONCE)
    peers = [await side.speaker.peer(side.place, side.facts) for _ in range(count - len(side.more))]

    async def add(peer: Peer) -> None:
        async with gate:
            await _connected(peer)
            channel = await peer.open("echo")
            await _echoed(channel)
            if not side.speaker.session_is_channel:
                await channel.finish()
            side.more.append((peer, channel))

    begun = time.perf_counter()
    await asyncio.gather(*map(add, peers))
    return {"opened": len(peers), "seconds": time.perf_counter() - begun}


async def sessions_busy(side: Side, count: int, size: int = 65_536) -> dict[str, float]:
    """The first `count` sessions beside the first have a channel open on which they moved `size` bytes."""
    gate = asyncio.Semaphore(_AT_ONCE)
    data = os.urandom(size - len(END)) + END

    async def move(peer: Peer) -> None:
        async with gate:
            channel = await peer.open("sink")
            await channel.write(data)
            await channel.read_exactly(16)

    await asyncio.gather(*(move(peer) for peer, _ in side.more[side.busy : count]))
    side.busy = max(side.busy, count)
    return {"busy": side.busy}


async def sessions_trips(side: Side, seconds: float, per_second: float = 1.0) -> dict[str, float]:
    """Round trips of 64 bytes on all sessions, `per_second` on each, spread evenly: microseconds.

    Counted from when each was due: a client that was kept waiting must not hide that it was.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def open_again(peer: Peer) -> Channel:
        async with gate:
            channel = await peer.open("echo")
            await _echoed(channel)
            return channel

    channels = await asyncio.gather(*(open_again(peer) for peer, _ in side.more))
    data = os.urandom(ROUND_TRIP_SIZE)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    times: list[float] = []

    async def talk(number: int, channel: Channel) -> None:
        due = begun + number / len(channels) / per_second
        while due < begun + seconds:
            await asyncio.sleep(max(0.0, due - loop.time()))
            await channel.write(data)
            await channel.read_exactly(len(data))
            times.append((loop.time() - due) * 1e6)
            due += 1 / per_second

    await asyncio.gather(*(talk(number, channel) for number, channel in enumerate(channels)))
    for channel in channels:
        await channel.finish()
    return _percentiles(sorted(times))


JOBS: Final[Mapping[str, Callable[..., Awaitable[dict[str, float]]]]] = {
    job.__name__: job
    for job in (
        round_trips,
        round_trips_loaded,
        bulk,
        both_ways,
        messages,
        datagrams,
        connect,
        durable,
        failover,
        sessions,
        sessions_busy,
        sessions_trips,
    )
}


async def _connected(peer: Peer) -> None:
    """However often it takes: a server under load lets so many from one address wait, and this is one address."""
    for left in reversed(range(_TRIES)):
        try:
            await peer.connect()
        except (CoveyError, OSError):
            if not left:
                raise
        else:
            return


async def _echoed(channel: Channel) -> None:
    await channel.write(b".")
    await channel.read_exactly(1)


async def _trips(channel: Channel, seconds: float) -> list[float]:
    """Sorted, microseconds."""
    data = os.urandom(ROUND_TRIP_SIZE)
    times: list[float] = []
    until = time.perf_counter() + seconds
    now = time.perf_counter_ns()
    while now < until * 1e9 or len(times) < _MIN_ROUND_TRIPS:
        await channel.write(data)
        await channel.read_exactly(len(data))
        begun, now = now, time.perf_counter_ns()
        times.append((now - begun) / 1e3)
    times.sort()
    return times


def _percentiles(times: list[float]) -> dict[str, float]:
    return {"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100]}


async def _pour(channel: Channel, seconds: float) -> None:
    piece = os.urandom(PIECE)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        await channel.write(piece)
    await channel.write(END)


async def _pour_until(channel: Channel, stop: asyncio.Event) -> int:
    piece = os.urandom(PIECE)
    sent = 0
    while not stop.is_set():
        await channel.write(piece)
        sent += PIECE
    await channel.write(END)
    return sent


async def _poured(channels: list[Channel], seconds: float) -> list[bytes]:
    """Pours into all of them at once; what each receiver said."""

    async def one(channel: Channel) -> bytes:
        await _pour(channel, seconds)
        return await channel.read_exactly(16)

    return await asyncio.gather(*map(one, channels))


async def _drained(channel: Channel) -> int:
    count, tail = 0, b""
    while tail != END:
        data = await channel.read()
        if not data:
            raise ConnectionError("the source closed its channel")
        count += len(data)
        tail = data[-len(END) :] if len(data) >= len(END) else (tail + data)[-len(END) :]
    return count
