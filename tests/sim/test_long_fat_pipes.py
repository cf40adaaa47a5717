"""Paths that hold many megabytes: one stream fills them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from covey.core.handshake import Target
from covey.crypto.credentials import Credentials
from covey.node.transport import Stream, Transport
from covey.testing import Link, SimHost, SimNetwork, run

PIECE = bytes(1 << 20)


def transport(host: SimHost, allow: Any) -> Transport:
    credentials, _ = Credentials.create(host.random, host.wall_us())
    return Transport(host, credentials, allow=allow, on_event=lambda _: None)


def delivered(link: Link, seconds: float, *, since: float = 0.0) -> float:
    """Share of the link's bandwidth that one stream's reader got, from `since` to `seconds` after connecting."""
    counted = {"all": 0, "before": 0}

    async def sink(stream: Stream) -> None:
        while data := await stream.read():
            counted["all"] += len(data)

    async def main() -> None:
        network = SimNetwork(asyncio.get_running_loop(), seed=1)
        network.default = link
        one, two = SimHost(network, "10.0.0.1"), SimHost(network, "10.0.0.2")
        server = transport(two, lambda connection, _: connection.admit() or True)
        server.serve("sink", sink)
        server.bind(("0.0.0.0", 0))
        client = transport(one, lambda *_: False)
        client.bind(("0.0.0.0", 0))
        credentials = server.endpoint.credentials
        route = client.route(("10.0.0.2", server.ports[0][1].local[1]))
        assert route is not None
        client.connect(Target(credentials.identity, credentials.current.key.public), [route])
        connection = await client.wait_live(credentials.identity)
        connection.admit()
        stream = await client.open(connection, "sink")
        began = one.now()

        async def write() -> None:
            while True:
                await stream.write(PIECE)

        writing = asyncio.ensure_future(write())
        await asyncio.sleep(since)
        counted["before"] = counted["all"]
        await asyncio.sleep(began + seconds - one.now())
        writing.cancel()
        client.driver.close()
        server.driver.close()
        await asyncio.gather(writing, return_exceptions=True)
        await client.close()
        await server.close()

    run(main(), seed=1)
    assert link.rate_bits_s is not None
    return (counted["all"] - counted["before"]) * 8 / (seconds - since) / link.rate_bits_s


PIPE = Link(latency_s=0.05, rate_bits_s=1e9, queue_bytes=12_500_000)


def test_gigabit_with_a_tenth_of_a_second_is_full_within_five_seconds() -> None:
    assert delivered(PIPE, 1.9, since=1.4) >= 0.9


@pytest.mark.slow
def test_it_is_full_with_ordinary_datagrams_too() -> None:
    assert delivered(replace(PIPE, mtu=1472), 5.0, since=4.0) >= 0.9
