"""Whole sessions that share one line: does each get its part?"""

from __future__ import annotations

import asyncio

import pytest

from covey.base.types import CongestionControl
from covey.core.bbr import Bbr
from covey.core.connection import Connection
from covey.core.handshake import Target
from covey.crypto.credentials import Credentials
from covey.node.transport import Stream, Transport
from covey.testing import Link, SimHost, SimNetwork, run
from covey.testing.bottleneck import jain

PIECE = 65_536
MBIT = 1_000_000


class Pair:
    """A sender with endless data, and its receiver, across the line."""

    def __init__(self, network: SimNetwork, number: int, congestion: CongestionControl) -> None:
        self.ips = (f"10.0.{number}.1", f"10.0.{number}.2")
        self.received = 0
        self.ends = [self._end(SimHost(network, ip), congestion) for ip in self.ips]
        self.sending: asyncio.Task[None] | None = None

    def _end(self, host: SimHost, congestion: CongestionControl) -> Transport:
        credentials, _ = Credentials.create(host.random, host.wall_us())

        def allow(connection: Connection, _: str) -> bool:
            connection.admit()
            return True

        transport = Transport(host, credentials, allow=allow, on_event=lambda _: None, congestion=congestion)
        transport.bind((host.ip, 4000))
        transport.serve("take", self._take)
        return transport

    async def _take(self, stream: Stream) -> None:
        while data := await stream.read(PIECE):
            self.received += len(data)

    async def begin(self) -> None:
        sender, receiver = self.ends
        route = sender.route((self.ips[1], 4000))
        assert route is not None
        peer = receiver.endpoint.credentials
        sender.connect(Target(peer.identity, peer.current.key.public), [route])
        connection = await sender.wait_live(peer.identity)
        connection.admit()
        session = connection.session
        assert session is not None
        self.congestion = session.active.recovery.congestion
        stream = await sender.open(connection, "take")

        async def send() -> None:
            while True:
                await stream.write(bytes(PIECE))

        self.sending = asyncio.create_task(send())

    async def end(self) -> None:
        assert self.sending is not None
        self.sending.cancel()
        await asyncio.gather(self.sending, return_exceptions=True)
        for transport in self.ends:
            await transport.close()


async def shares(*controls: CongestionControl, warm: float, seconds: float, rate: float = 10 * MBIT) -> list[float]:
    """Mbit/s that each of several senders gets through one line of 20 ms with a queue of one such round trip."""
    network = SimNetwork(asyncio.get_running_loop(), seed=11)
    network.default = Link(latency_s=0.01)
    pairs = [Pair(network, number, control) for number, control in enumerate(controls)]
    network.share(
        Link(latency_s=0.01, rate_bits_s=rate, queue_bytes=int(rate * 0.02 / 8), mtu=1452),
        *(pair.ips for pair in pairs),
    )
    for pair, control in zip(pairs, controls, strict=True):
        await pair.begin()
        assert isinstance(pair.congestion, Bbr) == (control == "bbr")
        await asyncio.sleep(0.5)
    await asyncio.sleep(warm)
    before = [pair.received for pair in pairs]
    await asyncio.sleep(seconds)
    after = [pair.received for pair in pairs]
    for pair in pairs:
        await pair.end()
    return [8 * (late - early) / seconds / MBIT for early, late in zip(before, after, strict=True)]


@pytest.mark.parametrize("congestion", ["cubic", "bbr"])
def test_one_session_fills_the_line(congestion: CongestionControl) -> None:
    (rate,) = run(shares(congestion, warm=0.5, seconds=2.0), seed=1)
    assert rate > 8.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("controls", "least"), [(("cubic", "cubic"), 0.95), (("bbr", "bbr"), 0.95), (("cubic", "bbr"), 0.85)]
)
def test_two_sessions_share_the_line(controls: tuple[CongestionControl, CongestionControl], least: float) -> None:
    rates = run(shares(*controls, warm=15.0, seconds=60.0), seed=1)
    assert sum(rates) > 8.5
    assert jain(rates) >= least
