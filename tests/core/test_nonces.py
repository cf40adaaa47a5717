"""No nonce is used twice under one key: not by another path or lane, probe, repetition, epoch or session."""

from __future__ import annotations

import pytest

from covey.core.limits import Lifetimes
from covey.core.path import Route
from covey.core.stream import Stream
from covey.wire.datagram import HEADER, PACKET, RELAY_HEADER_SIZE, RELAYED
from tests.core.pair import Side
from tests.core.test_paths import R, World

Nonce = tuple[int, int, int, int]
"""What the header shows of key and nonce: receiver index (so direction and session), epoch, path, counter."""


class Witness:
    """Reads every datagram that leaves. A packet may be seen twice (a relay passes it on), but only the same one."""

    def __init__(self, world: World) -> None:
        self.seen: dict[Nonce, bytes] = {}
        world.wire.tap = lambda source, target, datagram: self._read(datagram)

    def _read(self, datagram: bytes) -> bytes:
        packet = datagram[RELAY_HEADER_SIZE:] if datagram[0] == RELAYED else datagram
        if packet[0] == PACKET:
            _, path, epoch, index, counter = HEADER.unpack_from(packet)
            assert self.seen.setdefault((index, epoch, path, counter), packet) == packet
        return datagram


@pytest.mark.parametrize("seed", range(2))
def test_no_nonce_is_used_twice_whatever_happens(seed: int) -> None:
    """Rekeys, paths that die and come back, loss with timeouts and probes, another session beside, both directions."""
    world = World(seed, lifetimes=Lifetimes(rekey_bytes=30_000), loss=0.03, jitter=0.003, mtu=1472)  # type: ignore[arg-type]
    witness = Witness(world)
    flow = world.flow(1, rate=100_000)
    back = talk(world, world.b, world.a)
    for step in range(5):
        world.direct = step % 2 == 1
        if step == 3:
            handshakes = world.a.endpoint.handshakes
            handshakes.connect(
                world.wire.now, world.b.target, world.connection.local_half, [Route(0, R, world.circuit)]
            )
        back.write(bytes(5_000))
        world.wire.run(1.2)
    world.direct = True
    flow.stop()
    paths = {path for _, _, path, _ in witness.seen}
    assert len(paths) >= 3
    assert len({epoch for _, epoch, _, _ in witness.seen}) > 5
    assert len({index for index, _, _, _ in witness.seen}) >= 4


def talk(world: World, source: Side, target: Side) -> Stream:
    stream = source.connection(target).open("back")
    stream.write(b"hello")
    return stream
