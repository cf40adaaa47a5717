"""The whole receive path, driven by bytes: before anybody is authenticated, and by a peer that is.

Each input is a little program: a byte says what happens next, the bytes behind it how. Whatever they say, no call
raises, time goes on, all that the endpoint sends can be opened and understood, and what it keeps has a bound.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final

from covey.base.errors import LimitError, StateError
from covey.base.types import Identity
from covey.core import limits
from covey.core.endpoint import Endpoint
from covey.core.handshake import Target
from covey.core.path import Route
from covey.core.receive_buffer import ReceiveBuffer
from covey.core.relay import RelayTable
from covey.core.stream import Stream
from covey.crypto.mac import mac1, mac1_key
from covey.wire import control, frames
from covey.wire.datagram import INITIATION, MAC_SIZE, RECORD_REQUEST, RELAY_HEADER, RELAYED
from covey.wire.frames import CryptoFrame
from tests.core.mallory import HERE, START, THERE, Heard, Lone, credentials
from tests.core.pair import TRAINS_LIMIT, TURNS_LIMIT, WALL_START, Side, Wire
from tests.core.script import numbered

__all__ = ["peer", "stranger"]

STEPS: Final = 32
"""Steps of one input: a long one finds little that short ones do not."""
SECONDS: Final = (0.0, 0.0001, 0.005, 0.03, 0.25, 1.0, 11.0, 130.0)
CIRCUIT: Final = 0xC0FFEE
ROUTES: Final = (
    Route(0, THERE),
    Route(0, ("198.51.100.7", 9)),
    Route(0, ("2001:db8::7", 4040)),
    Route(1, THERE),
    Route(0, ("203.0.113.9", 4000), CIRCUIT),
)
KEPT_BYTES: Final = 1_400_000
"""What one stream's receive window lets wait, and some."""
_NUMBERS: Final = (0, 1, 2, 3, 4, 7, 8, 63, 64, 255, 1_000, 65_535, 65_536, 262_144, 1_250_000, 2**31, 2**32 - 1, 2**63)


class Input:
    """A cursor that never ends: behind the last byte there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        return self._at >= len(self._data)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def bytes(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self) -> int:
        """A small one, one that is a bound somewhere, or one of its neighbours."""
        kind = self.byte()
        if kind < 128:
            return kind % 16
        return max(0, _NUMBERS[(kind - 128) % len(_NUMBERS)] + (self.byte() + 2) % 5 - 2)


def settle(endpoint: Endpoint, now: float, turn: Callable[[], None]) -> None:
    """Acts on every deadline that has passed; fails if one of them never does."""
    for _ in range(TURNS_LIMIT):
        if endpoint.deadline() > now:
            return
        endpoint.expire(now)
        turn()
    raise AssertionError("time stands still")


# --- before authentication --------------------------------------------------------------------------------------------


@cache
def genuine() -> tuple[bytes, ...]:
    """What an endpoint with the keys of `stranger`'s once was sent, of every kind that a stranger may send."""
    wire = Wire(7)
    wire.recorded = []
    a, b = wire.side("a"), wire.side("b", HERE)
    _use(b)
    a.connect(b).open("s").write(b"hello")
    b.endpoint.connect(wire.now, a.target, [Route(0, a.address)])
    a.endpoint.request_record(b.identity, Route(0, HERE))
    wire.run(2)
    sizes: dict[tuple[int, int], bytes] = {}
    for _, target, raw in wire.recorded:
        if target == HERE:
            sizes.setdefault((raw[0], len(raw)), raw)
    return tuple(sizes.values())[:12]


def _use(side: Side) -> None:
    side.credentials = credentials("one")
    side.endpoint = side._endpoint()
    side.endpoint.record = b"record"


def stranger(data: bytes) -> None:
    """Trains from anywhere to an endpoint that knows nobody, relays, and tries to reach somebody itself."""
    source = Input(data)
    now = START
    own = credentials("one")
    endpoint = Endpoint(
        own,
        wall=lambda: WALL_START + int((now - START) * 1e6),
        random=random.Random(1).randbytes,
        clock=lambda: now,
    )
    endpoint.set_ports([(0, 4), (1, 6)])
    endpoint.record = b"record"
    endpoint.relays[ROUTES[4].remote] = Identity(b"r" * 32)
    flags = source.byte()
    if flags & 1:
        endpoint.relay = RelayTable()
    if flags & 2:
        other = credentials("mallory")
        endpoint.connect(now, Target(other.identity, other.current.key.public), [ROUTES[0], ROUTES[4]])
    out = memoryview(bytearray(65_536))
    received = sent = 0

    def transmit() -> None:
        nonlocal sent
        for _ in range(TRAINS_LIMIT):
            train = endpoint.transmit(now, out)
            if train is None:
                break
            assert 0 < train.segment <= train.size <= 65_507
            sent += train.size
        else:
            raise AssertionError("transmit without end")
        endpoint.events()

    for _ in range(STEPS):
        if source.over:
            break
        what = source.byte()
        route = ROUTES[source.byte() % len(ROUTES)]
        if what % 4 == 0:
            now += SECONDS[what // 4 % len(SECONDS)]
            settle(endpoint, now, transmit)
            continue
        datagram = _foreign(source, what)
        train = datagram * (1 + what // 64) if datagram else b""
        if route.circuit:
            train = RELAY_HEADER.pack(RELAYED, 0, 0, route.circuit) + train
        segment = max(1, len(datagram) - (what // 16 % 3))
        received += len(train)
        endpoint.receive(now, memoryview(bytearray(train)), segment, route.local, route.remote)
        transmit()
    settle(endpoint, now, transmit)
    assert not any(session.verified for session in endpoint._sessions.values())
    assert endpoint.handshakes.half_open <= limits.HALF_OPEN_LIMIT
    if not flags & 2:
        assert not endpoint.connections
        assert sent <= received, f"{sent} bytes for {received} of a stranger"


def _foreign(source: Input, what: int) -> bytes:
    """Any bytes; or genuine ones with a few changed, with the right mac1 if it is asked for."""
    if what % 4 == 1:
        return source.bytes(8 * source.byte())
    known = genuine()
    raw = bytearray(known[source.byte() % len(known)])
    for _ in range(what // 4 % 4):
        raw[(source.byte() << 3 | what & 7) % len(raw)] ^= source.byte()
    if what % 4 == 3:
        del raw[len(raw) - source.byte() % len(raw) :]
    own = credentials("one")
    keys = {INITIATION: own.current.key.public, RECORD_REQUEST: own.identity}
    if raw and raw[0] in keys and len(raw) > 2 * MAC_SIZE and what & 32:
        body = bytes(raw[: -2 * MAC_SIZE])
        return body + mac1(mac1_key(keys[raw[0]]), body) + bytes(raw[-MAC_SIZE:])
    return bytes(raw)


# --- after authentication ---------------------------------------------------------------------------------------------


def peer(data: bytes) -> None:
    """A peer with the keys of a session says anything, while a program uses the streams."""
    _Peer(Input(data)).run()


class _Peer:
    def __init__(self, source: Input) -> None:
        self.source = source
        flags = source.byte()
        self.lone = Lone(initiator=bool(flags & 1), admit=bool(flags & 2))
        self.path = 0
        self.last = b""
        self.crypto_sent = 0
        self.answers = control.ControlReader()
        self.crypto = ReceiveBuffer()
        self.ratchet = bool(flags & 4)

    def run(self) -> None:
        steps = (
            self.frame,
            self.frame,
            self.frame,
            self.raw,
            self.wait,
            self.program,
            self.program,
            self.move,
            self.again,
            self.offer,
            self.bulk,
        )
        for _ in range(STEPS):
            if self.source.over:
                break
            steps[self.source.byte() % len(steps)]()
            self.listen()
            self.check()
        settle(self.lone.endpoint, self.lone.now, self.listen)
        self.hear(self.lone.wait(20.0))

    # --- what the peer does

    def say(self, plain: bytes, counter: int | None = None) -> None:
        self.last = self.lone.sealed(plain[:1_400], path=self.path, counter=counter)
        self.lone.deliver(self.last)

    def frame(self) -> None:
        """One to eight frames with fields near the bounds."""
        parts = [self._one_frame() for _ in range(1 + self.source.byte() % 8)]
        self.say(b"".join(parts))

    def _one_frame(self) -> bytes:
        source = self.source
        kind, number = source.byte() % 14, source.number()
        match kind:
            case frames.ACK:
                counter = source.number()
                count = 1 + source.number()
                gaps = [(source.number(), source.number()) for _ in range(source.byte() % 4)]
                head = frames.ACK_HEAD.pack(frames.ACK, number & 255, source.byte(), len(gaps), counter, _u32(count))
                return head + b"".join(
                    _u32(gap).to_bytes(4, "big") + _u32(size).to_bytes(4, "big") for gap, size in gaps
                )
            case frames.CRYPTO:
                data = source.bytes(source.byte())
                return frames.CRYPTO_HEAD.pack(frames.CRYPTO, _u32(number), len(data)) + data
            case frames.STREAM:
                data = (b"\1s" if source.byte() % 4 else b"") + bytes(source.byte())
                flags = source.byte() % 8 == 1
                return frames.STREAM_HEAD.pack(frames.STREAM, flags, _u32(number), source.number(), len(data)) + data
            case frames.RESET:
                return frames.encode_reset(_u32(number), source.byte(), source.number())
            case frames.STOP:
                return frames.encode_stop(_u32(number), source.byte())
            case frames.MAX_DATA | frames.MAX_STREAM_DATA | frames.MAX_STREAMS:
                limit = source.number()
                return frames.encode_limit(kind, _u32(number), _u32(limit) if kind == frames.MAX_STREAMS else limit)
            case frames.DATAGRAM:
                data = source.bytes(source.byte())
                return frames.DATAGRAM_HEAD.pack(frames.DATAGRAM, _u32(number), len(data)) + data
            case frames.PATH_CHALLENGE | frames.PATH_RESPONSE:
                return frames.encode_path(kind, source.bytes(8))
            case frames.CLOSE:
                return frames.encode_close(_u32(number), "because") if source.byte() % 8 == 0 else b""
            case frames.PING:
                return b"\1"
            case _:
                return bytes(source.byte())

    def raw(self) -> None:
        self.say(self.source.bytes(self.source.byte()))

    def bulk(self) -> None:
        """A train of STREAM frames, some of it perhaps twice."""
        source = self.source
        stream, offset, size = _u32(source.number()), source.number(), 1 + source.byte() * 5
        train = b"".join(
            self.lone.sealed(
                frames.STREAM_HEAD.pack(frames.STREAM, 0, stream, offset + size * index, size) + bytes(size),
                path=self.path,
            )
            for index in range(1 + source.byte() % 16)
        )
        self.lone.deliver(train, size + frames.STREAM_HEAD.size + 32)

    def wait(self) -> None:
        self.hear(self.lone.wait(SECONDS[self.source.byte() % len(SECONDS)]))

    def move(self) -> None:
        """Another path id, another address, a jump of the counter."""
        source = self.source
        self.path = source.byte() if source.byte() & 1 else 0
        self.lone.route = ROUTES[source.byte() % len(ROUTES)]
        self.lone.endpoint.relays[ROUTES[4].remote] = Identity(b"r" * 32)
        jump = source.number()
        self.say(b"\1", counter=min(jump, 2**62) if source.byte() & 1 else None)

    def again(self) -> None:
        """The last packet once more; or with a byte changed."""
        raw = bytearray(self.last)
        if raw and self.source.byte() & 1:
            raw[self.source.byte() % len(raw)] ^= 1 + self.source.byte() % 255
        self.lone.deliver(bytes(raw or b"\4"))

    def offer(self) -> None:
        """A real ratchet, if the peer may begin one: what lies behind new keys is worth a look."""
        lone = self.lone
        if lone.session.initiator or not self.ratchet or lone.session.ended or lone.epochs._secret is not None:
            return
        self._say_control(control.OFFER, lone.epochs.offer())

    def _say_control(self, kind: int, body: bytes) -> None:
        message = control.encode_control(kind, body)
        for start in range(0, len(message), 1_000):
            piece = message[start : start + 1_000]
            self.say(frames.CRYPTO_HEAD.pack(frames.CRYPTO, self.crypto_sent, len(piece)) + piece)
            self.crypto_sent += len(piece)

    # --- what the program does

    def program(self) -> None:
        source, connection = self.source, self.lone.connection
        if connection is None:
            return
        streams = list(connection.streams.values())
        what, which, size = source.byte(), source.byte(), source.number()
        with suppress(LimitError, StateError):
            if what % 8 == 0 or not streams:
                connection.open("s", min_epoch=what & 1)
                return
            self._use(streams[which % len(streams)], what % 8, min(size, 70_000))

    def _use(self, stream: Stream, what: int, size: int) -> None:
        match what:
            case 1 | 2:
                stream.write(bytes(size))
            case 3:
                stream.read(size or -1)
            case 4:
                stream.finish()
            case 5:
                stream.reset()
            case 6:
                stream.stop()
            case _:
                stream.connection.send_datagram(stream, bytes(min(size, 1_136)))

    # --- what must hold

    def listen(self) -> None:
        self.hear(self.lone.heard())

    def hear(self, heard: list[Heard]) -> None:
        """The answer to our offer is used; all else only had to be understood."""
        for each in heard:
            for frame in each.frames:
                if isinstance(frame, CryptoFrame):
                    self.crypto.insert(frame.offset, bytes(frame.data))
        for kind, body in self.answers.feed(self.crypto.read()):
            if kind == control.ANSWER:
                self.lone.epochs.on_answer(body, self.lone.now)

    def check(self) -> None:
        endpoint = self.lone.endpoint
        assert len(endpoint._sessions) <= 1
        connection = self.lone.connection
        if connection is None:
            return
        assert len(connection.streams) <= 2 * limits.STREAMS
        kept = 0
        for stream in connection.streams.values():
            incoming = stream.incoming
            waiting = sum(len(piece) for run in incoming._runs for piece in run) + incoming.available
            assert waiting <= stream.window
            kept += waiting
        assert kept <= connection._window
        session = connection.session
        if session is not None:
            assert len(list(session.paths)) <= limits.PATHS_LIMIT
            assert sum(len(each.lows) for each in session.acks.received.values()) <= 40_000
            for path in numbered(session):
                assert path.recovery.congestion.in_flight == sum(run.bytes for run in path.recovery._sent)


def _u32(value: int) -> int:
    return min(value, 2**32 - 1)
