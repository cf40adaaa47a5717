"""An authenticated peer that says whatever the test wants: it has the keys of a session, and no manners.

`Lone` is one real endpoint in a session that nobody shook hands for: the keys are given, so every byte that goes in is
the test's. What comes out is opened and must parse. `covey` itself never answers here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from covey.core import limits
from covey.core.connection import Connection
from covey.core.endpoint import Endpoint
from covey.core.epochs import Epochs
from covey.core.events import ConnectionLive, Event
from covey.core.handshake import Established, own_payload
from covey.core.path import Route
from covey.core.session import Session
from covey.crypto.credentials import Credentials
from covey.crypto.packet import NONCE
from covey.crypto.ratchet import encapsulate
from covey.wire.datagram import HEADER, HEADER_SIZE, PACKET, RELAY_HEADER, RELAY_HEADER_SIZE, RELAYED, TAG_SIZE
from covey.wire.frames import Frame, parse_frames
from tests.core.pair import TRAINS_LIMIT, TURNS_LIMIT, WALL_START, Address

__all__ = ["HERE", "THERE", "Heard", "Lone", "credentials"]

HERE: Final = ("192.0.2.2", 4040)
THERE: Final = ("192.0.2.1", 4040)
LOCAL_INDEX: Final = 0x10203040
PEER_INDEX: Final = 0x50607080
KEYS: Final = (bytes(range(32)), bytes(range(32, 64)))
"""Of epoch 0: the initiator's, the responder's."""
CHAINING_KEY: Final = bytes(range(64, 96))
HANDSHAKE_HASH: Final = bytes(range(96, 128))
HALVES: Final = (b"half-one", b"half-two")
START: Final = 1000.0


@cache
def credentials(name: str) -> Credentials:
    """Always the same ones."""
    return Credentials.create(random.Random(f"credentials of {name}").randbytes, WALL_START)[0]


@dataclass
class Heard:
    """A datagram that the endpoint sent: to whom, and for a packet of our session what is in it."""

    remote: Address
    circuit: int
    raw: bytes
    path: int = -1
    epoch: int = -1
    counter: int = -1
    frames: list[Frame] = field(default_factory=list)


class Lone:
    """`endpoint` in a verified session; `say` seals for it, `heard` opens what it answers."""

    def __init__(self, *, initiator: bool = False, admit: bool = False, start: float = START) -> None:
        """`initiator`: whether the endpoint began the session; else the peer did, and has proven its keys."""
        self.now = start
        self.wall_start = WALL_START
        self.random = random.Random("mallory")
        self.own, self.peer = credentials("one"), credentials("mallory")
        self.endpoint = Endpoint(
            self.own, wall=lambda: WALL_START + int((self.now - start) * 1e6), random=self.random.randbytes
        )
        self.endpoint.set_ports([(0, 4)])
        self.endpoint.add_log(self.peer.log)
        self.events: list[Event] = []
        self.admit = admit
        self.counters: dict[tuple[int, int], int] = {}
        self.route = Route(0, THERE)
        self.epochs = Epochs(
            initiator=not initiator,
            keys=KEYS,
            chaining_key=CHAINING_KEY,
            handshake_hash=HANDSHAKE_HASH,
            random=random.Random("mallory's ratchet").randbytes,
            encapsulate=encapsulate,
            now=start,
        )
        self.out = memoryview(bytearray(65_536))
        established = Established(
            KEYS,
            CHAINING_KEY,
            HANDSHAKE_HASH,
            own_payload(self.peer, self.peer.current, WALL_START, HALVES[1]),
            self.peer.current.key.public,
            self.own.current.certificate.raw,
            LOCAL_INDEX,
            PEER_INDEX,
        )
        self.session: Session = self.endpoint.sessions.new_session(
            start, established, HALVES[0], True, self.route, initiator=initiator
        )
        if initiator:
            self.endpoint.sessions.confirmed(self.session, start)
        else:
            self.say(b"\1")
        self.heard()

    @property
    def connection(self) -> Connection | None:
        return self.endpoint.connections.get(self.peer.identity)

    def sealed(self, plain: bytes, *, path: int = 0, counter: int | None = None, epoch: int | None = None) -> bytes:
        """One packet with this plaintext, in the peer's present epoch if no other is asked for."""
        wire_epoch = self.epochs.wire_epoch if epoch is None else epoch & 0xFFFF
        if counter is None:
            counter = self.counters.get((path, wire_epoch), -1) + 1
        self.counters[path, wire_epoch] = max(counter, self.counters.get((path, wire_epoch), -1))
        head = HEADER.pack(PACKET, path, wire_epoch, LOCAL_INDEX, counter)
        return head + self.epochs.key.aead.encrypt(NONCE.pack(path, counter), plain, head)

    def say(self, plain: bytes, *, path: int = 0, counter: int | None = None) -> bytes:
        """Seals and delivers."""
        datagram = self.sealed(plain, path=path, counter=counter)
        self.deliver(datagram)
        return datagram

    def deliver(self, train: bytes, segment: int = 0) -> None:
        route = self.route
        if route.circuit:
            train = RELAY_HEADER.pack(RELAYED, 0, 0, route.circuit) + train
        view = memoryview(bytearray(train))
        self.endpoint.receive(self.now, view, segment or max(len(train), 1), route.local, route.remote)
        self._take_events()

    def wait(self, seconds: float) -> list[Heard]:
        """Lets time pass; every deadline is acted on when it is due. What was sent meanwhile."""
        end = self.now + seconds
        heard = self.heard()
        stuck = 0
        while (due := self.endpoint.deadline()) <= end:
            stuck = stuck + 1 if due <= self.now else 0
            assert stuck <= TURNS_LIMIT, f"a deadline that nobody acts on: {due} at {self.now}"
            self.now = max(self.now, due)
            self.endpoint.expire(self.now)
            self._take_events()
            heard += self.heard()
        self.now = end
        return heard

    def heard(self) -> list[Heard]:
        """What the endpoint sends now."""
        heard: list[Heard] = []
        for _ in range(TRAINS_LIMIT):
            train = self.endpoint.transmit(self.now, self.out)
            if train is None:
                break
            assert 0 < train.segment <= train.size <= 65_507
            for start in range(0, train.size, train.segment):
                raw = bytes(self.out[start : min(start + train.segment, train.size)])
                heard.append(self._opened(train.remote, raw))
        else:
            raise AssertionError("transmit without end")
        self._take_events()
        return heard

    def _opened(self, remote: Address, raw: bytes) -> Heard:
        heard = Heard(remote, 0, raw)
        if raw[0] == RELAYED:
            heard.circuit = RELAY_HEADER.unpack_from(raw)[3]
            raw = raw[RELAY_HEADER_SIZE:]
        if raw[0] != PACKET or len(raw) < HEADER_SIZE + TAG_SIZE:
            return heard
        _, heard.path, heard.epoch, index, heard.counter = HEADER.unpack_from(raw)
        if index == PEER_INDEX:
            key = self.epochs.receiving.get(heard.epoch)
            assert key is not None, "sealed with keys that the peer does not have"
            plain = key.aead.decrypt(NONCE.pack(heard.path, heard.counter), raw[HEADER_SIZE:], raw[:HEADER_SIZE])
            self.epochs.opened(heard.epoch, self.now, limits.OLD_KEY_SECONDS)
            heard.frames = list(parse_frames(plain))
        return heard

    def _take_events(self) -> None:
        for event in self.endpoint.events():
            self.events.append(event)
            if self.admit and isinstance(event, ConnectionLive):
                event.connection.admit()
