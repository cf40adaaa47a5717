"""Scripts: what two programs and the network between them do, step by step, beside a model of what must come of it.

A script is a list of steps, plain values that print as they are written, so a failure found by Hypothesis shrinks to a
few of them and is pasted into `test_scripts.py` as it is. Two endpoints with real keys (and, `Setting(relay=True)`, a
relay between them) stand on `pair.Wire`; nothing is random but the keys, and those are drawn from a seed.

`play` holds, after every step, that

- what a stream delivers is what was written, in order, once, and its end once, after the last byte;
- nothing is delivered after an end, a reset or a stop, nobody is told of a connection's end that nobody brought about;
- windows and buffers keep their bounds, and bytes in flight are those of the runs in flight;
- every byte that was sent is acknowledged, in flight, or marked to be sent again, and so is every FIN: nothing is
  forgotten, even if a later packet would have hidden it;
- no call raises, `transmit` ends, deadlines that have passed are acted on (`pair.Wire`).

After the last step the network heals, every reader reads, and in bounded virtual time everything that was written has
arrived and is acknowledged, nothing is in flight, both sides agree on the connection's credit, and after a close
nothing is left in either endpoint.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Final

from covey.base.errors import LimitError, StateError
from covey.base.types import CongestionControl
from covey.core import limits
from covey.core.connection import Connection
from covey.core.events import (
    ConnectionClosed,
    ConnectionLive,
    ConnectionStalled,
    DatagramsReceived,
    Event,
    HandshakeFailed,
    StreamOffered,
    StreamReadable,
    StreamReset,
)
from covey.core.limits import Lifetimes
from covey.core.path import Path, Route
from covey.core.ranges import RangeSet
from covey.core.relay import RelayTable
from covey.core.session import Session
from covey.core.stream import Stream
from covey.crypto.credentials import TRANSPORT_KEYS_LIMIT
from covey.wire.control import Candidate, CandidateKind
from tests.core.pair import Address, Side, Wire
from tests.core.program import check_empty

__all__ = ["STEPS", "Script", "Setting", "numbered", "play", "program"]

A, B, R = ("10.0.0.1", 4000), ("10.0.0.2", 4000), ("10.0.0.9", 4000)
CONTENT: Final = random.Random("content").randbytes(65_521)
"""What streams carry, over and over: a prime length, so that no two offsets of a stream look alike by chance."""
SHORT_LIFETIMES: Final = Lifetimes(
    rekey_seconds=5.0,
    rekey_packets=2_000,
    hard_seconds=30.0,
    hard_packets=8_000,
    unused_seconds=40.0,
    last_seconds=10.0,
)
HEALED_SECONDS: Final = 900.0
"""Virtual time after which everything must have arrived. Retries double, and a stalled path waits for three minutes."""
WRITE_LIMIT: Final = 300_000
"""Bytes that one step writes at most."""
ROUNDS: Final = 20
"""Readable events of one stream that a step answers at once; never reached, or reading makes no progress."""


@dataclass(frozen=True)
class Setting:
    relay: bool = False
    """b is reached through r at first, directly as soon as that is proven."""
    admit: bool = True
    """Both trust each other: the large windows, candidates."""
    delay: float = 0.01
    lifetimes: Lifetimes = limits.LIFETIMES
    congestion: CongestionControl = "cubic"


# --- steps ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Open:
    side: str
    early: bool = False
    """Its bytes need not wait for the post-quantum keys."""


@dataclass(frozen=True)
class Ask:
    """Question and answer, several times: a stream each, of `size` bytes, that both sides finish."""

    side: str
    count: int
    size: int


@dataclass(frozen=True)
class Write:
    side: str
    stream: int
    size: int


@dataclass(frozen=True)
class Finish:
    side: str
    stream: int


@dataclass(frozen=True)
class Reset:
    side: str
    stream: int


@dataclass(frozen=True)
class Stop:
    side: str
    stream: int


@dataclass(frozen=True)
class Pause:
    """The side reads nothing of this stream until `Resume`: its credit runs out."""

    side: str
    stream: int


@dataclass(frozen=True)
class Resume:
    side: str
    stream: int


@dataclass(frozen=True)
class Datagram:
    side: str
    stream: int
    size: int


@dataclass(frozen=True)
class Drop:
    """Of the datagrams that the side sends from now on, `count` get lost after the next `skip`."""

    side: str
    skip: int
    count: int


@dataclass(frozen=True)
class Delay:
    side: str
    skip: int
    count: int
    seconds: float


@dataclass(frozen=True)
class Duplicate:
    side: str
    skip: int
    count: int
    seconds: float


@dataclass(frozen=True)
class Corrupt:
    side: str
    skip: int
    at: int
    bits: int


@dataclass(frozen=True)
class Truncate:
    side: str
    skip: int
    size: int


@dataclass(frozen=True)
class Lose:
    """Every `every`-th datagram of the side gets lost from now on; 0: none."""

    side: str
    every: int


@dataclass(frozen=True)
class Cut:
    """What does not pass until `Mend`: "all", "direct", "relayed", or what goes "to a" or "to b"."""

    what: str


@dataclass(frozen=True)
class Mend:
    pass


@dataclass(frozen=True)
class Narrow:
    """No larger datagrams pass from now on."""

    size: int


@dataclass(frozen=True)
class Move:
    """The side's address is another one from now on, as after a NAT forgot it."""

    side: str


@dataclass(frozen=True)
class Rekey:
    """The side's keys have sealed as much as they should."""

    side: str


@dataclass(frozen=True)
class NewKeys:
    """The side has another transport key and certificate: a new handshake follows."""

    side: str


@dataclass(frozen=True)
class Connect:
    side: str


@dataclass(frozen=True)
class Close:
    side: str


@dataclass(frozen=True)
class Restart:
    """The side's process dies and comes back with its keys and nothing else."""

    side: str


Step = (
    Wait
    | Open
    | Ask
    | Write
    | Finish
    | Reset
    | Stop
    | Pause
    | Resume
    | Datagram
    | Drop
    | Delay
    | Duplicate
    | Corrupt
    | Truncate
    | Lose
    | Cut
    | Mend
    | Narrow
    | Move
    | Rekey
    | NewKeys
    | Connect
    | Close
    | Restart
)
Script = Sequence[Step]
STEPS: Final = Step.__args__  # type: ignore[attr-defined]


def program(setting: Setting, script: Script, name: str = "what_failed") -> str:
    """The script as a test to paste."""
    lines = "".join(f"            {_written(step)},\n" for step in script)
    head = f"def test_script_{name}() -> None:\n    play(\n        {_written(setting)},\n"
    return f"{head}        [\n{lines}        ],\n    )\n"


def _written(value: Setting | Step) -> str:
    """As it would be written by hand: without field names where they are plain, without defaults."""
    words = []
    for each in fields(value):
        given = getattr(value, each.name)
        if each.default is MISSING:
            words.append(repr(given))
        elif given != each.default:
            words.append(f"{each.name}={'SHORT_LIFETIMES' if given is SHORT_LIFETIMES else repr(given)}")
    return f"{type(value).__name__}({', '.join(words)})"


# --- the model --------------------------------------------------------------------------------------------------------


@dataclass
class Half:
    """One direction of a stream, as its writer's and its reader's programs see it."""

    shift: int
    written: int = 0
    finished: bool = False
    read: int = 0
    ended: bool = False
    paused: bool = False
    datagrams: Counter[bytes] = field(default_factory=Counter)
    """Those sent and not yet delivered."""

    def content(self, offset: int, size: int) -> bytes:
        start = (offset + self.shift) % len(CONTENT)
        repeated = CONTENT[start:] + CONTENT * ((start + size) // len(CONTENT))
        return repeated[:size]


@dataclass
class Talk:
    """One stream, with the halves by the writer's name and the two ends by side."""

    number: int
    halves: dict[str, Half]
    ends: dict[str, Stream] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    """Sides to which nothing may be delivered any more: they stopped, reset, or were told of a reset."""
    abrupt: bool = False
    """Somebody reset, stopped or closed: bytes may be missing at the end, never in the middle."""
    answered: bool = False
    """Whoever it is offered to finishes at once."""
    gone: bool = False
    """Its connection ended below it, on one side at least."""


class _Network:
    """The faults that a script asked for, by the name of the sender."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.verdicts: dict[str, deque[Callable[[Address, Address, bytes], bytes | None] | None]] = {}
        self.every = {"a": 0, "b": 0, "r": 0}
        self.sent = {"a": 0, "b": 0, "r": 0}
        self.cut = ""
        wire.tap = self._tap
        wire.blocked = self._blocked

    def plan(
        self, side: str, skip: int, count: int, verdict: Callable[[Address, Address, bytes], bytes | None]
    ) -> None:
        planned = self.verdicts.setdefault(side, deque())
        planned.extend([None] * skip + [verdict] * count)

    def heal(self) -> None:
        self.verdicts.clear()
        self.every = dict.fromkeys(self.every, 0)
        self.cut = ""
        self.wire.mtu = 65_535

    def _blocked(self, source: Address, target: Address) -> bool:
        relayed = R in (source, target)
        match self.cut:
            case "all":
                return True
            case "direct":
                return not relayed
            case "relayed":
                return relayed
            case "to a" | "to b":
                side = self.wire.sides.get(target)
                return side is not None and side.name == self.cut[-1]
            case _:
                return False

    def _tap(self, source: Address, target: Address, datagram: bytes) -> bytes | None:
        name = self.wire.sides[source].name
        self.sent[name] += 1
        if self.every[name] and self.sent[name] % self.every[name] == 0:
            return None
        planned = self.verdicts.get(name)
        verdict = planned.popleft() if planned else None
        return datagram if verdict is None else verdict(source, target, datagram)

    def late(self, seconds: float, *, copy: bool) -> Callable[[Address, Address, bytes], bytes | None]:
        def verdict(source: Address, target: Address, datagram: bytes) -> bytes | None:
            self.wire.inject(source, target, datagram, self.wire.delay + seconds)
            return datagram if copy else None

        return verdict


class Play:
    """A script on its stage."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.wire = Wire(1, delay=setting.delay, lifetimes=setting.lifetimes, congestion=setting.congestion)
        self.network = _Network(self.wire)
        self.sides = {"a": self.wire.side("a", A), "b": self.wire.side("b", B)}
        self.talks: list[Talk] = []
        self.forgivable = 0
        """Ends of connections that somebody brought about: `Close` and `Restart`, for both sides."""
        self.moves = self.serial = 0
        self.retrying: set[str] = set()
        self.over = False
        self.circuit = 0
        if setting.relay:
            self._lay_circuit()
        for side in self.sides.values():
            side.on_event = lambda event, side=side: self._on_event(side, event)  # type: ignore[misc]

    def _lay_circuit(self) -> None:
        relay = self.sides["r"] = self.wire.side("r", R)
        relay.endpoint.relay = RelayTable()
        for name in "ab":
            side = self.sides[name]
            side.endpoint.relays[R] = relay.identity
            if self.setting.admit:
                side.endpoint.set_candidates([Candidate(CandidateKind.HOST, side.address)])
            side.connect(relay).keepalive = 10.0
        assert self.wire.run(5, until=lambda: len(relay.of(ConnectionLive)) == 2)
        self.wire.run(1)
        self._ask_circuit()
        assert self.circuit

    def _ask_circuit(self) -> None:
        """The relay closes a circuit that nobody used for ten minutes; whoever wants it asks again."""
        relay = self.sides["r"]
        ends = [relay.endpoint.connections.get(self.sides[name].identity) for name in "ab"]
        table = relay.endpoint.relay
        if table is not None and all(end is not None and end.session is not None for end in ends):
            self.circuit = table.open(self.wire.now, *ends, 0xC0FFEE)  # type: ignore[arg-type]

    def other(self, name: str) -> Side:
        return self.sides["b" if name == "a" else "a"]

    def connection(self, name: str) -> Connection | None:
        return self.sides[name].endpoint.connections.get(self.other(name).identity)

    def connect(self, name: str) -> Connection:
        side, other = self.sides[name], self.other(name)
        if self.circuit:
            self._ask_circuit()
        routes = [Route(0, R, self.circuit)] if self.circuit else [Route(0, other.address)]
        return side.connect(other, *routes)

    def _meet(self, name: str) -> None:
        """As a node does that wants its peers, and its relay."""
        self.connect(name)
        if self.circuit:
            self.sides[name].connect(self.sides["r"])

    # --- events --------------------------------------------------------------------------------------------------

    def _on_event(self, side: Side, event: Event) -> None:
        name = side.name
        match event:
            case ConnectionLive(connection, _):
                if name != "r" and connection.peer == self.other(name).identity and self.setting.admit:
                    connection.admit()
            case ConnectionStalled(connection):
                if name != "r" and not self.over:
                    if connection.peer == self.other(name).identity:
                        self.connect(name)
                    else:
                        side.connect(self.sides["r"])
            case HandshakeFailed():
                if name != "r" and name not in self.retrying:
                    self.retrying.add(name)
                    self.wire.after(1.0, lambda: self._retry(name))
            case ConnectionClosed(connection):
                self._on_lost(name, connection, event)
            case StreamOffered(stream):
                talk = self.talks[int(stream.service[1:])]
                assert name not in talk.ends, f"stream {talk.number} is offered twice to {name}"
                talk.ends[name] = stream
                if talk.answered:
                    talk.halves[name].finished = True
                    stream.finish()
            case StreamReadable(stream):
                self._read(name, self._talk(name, stream))
            case StreamReset(stream):
                talk = self._talk(name, stream)
                if stream.connection.closed:
                    self._on_lost(name, stream.connection, event)
                assert talk.abrupt, f"stream {talk.number} is reset for {name} by nobody: {event}"
                talk.silent.add(name)
                stream.reset()
            case DatagramsReceived(stream, arrived):
                talk = self._talk(name, stream)
                datagrams = talk.halves[self.other(name).name].datagrams
                for data in arrived:
                    assert datagrams[data] > 0, f"a datagram of stream {talk.number} comes twice, or was never sent"
                    datagrams[data] -= 1
            case _:
                pass

    def _on_lost(self, name: str, connection: Connection, event: Event) -> None:
        """A connection is over. One that was never there may be given up, others end because somebody wants it.

        What one side gave up before it was live may have been live for the other, which learns of it later.
        """
        assert self.forgivable or not connection.live, f"{name}: a connection ends by itself: {event}"
        self.forgivable += not connection.live
        for talk in self.talks:
            stream = talk.ends.get(name)
            if stream is not None and stream.connection is connection:
                talk.abrupt = talk.gone = True

    def _retry(self, name: str) -> None:
        self.retrying.discard(name)
        if not self.over:
            self._meet(name)

    def _talk(self, name: str, stream: Stream) -> Talk:
        talk = self.talks[int(stream.service[1:])]
        assert talk.ends.get(name) is stream, f"an event of another stream than {talk.number} of {name}"
        return talk

    def _read(self, name: str, talk: Talk) -> None:
        half, stream = talk.halves[self.other(name).name], talk.ends[name]
        if half.paused:
            return
        for _ in range(ROUNDS):
            data = stream.read()
            if not data:
                break
            assert name not in talk.silent, f"stream {talk.number} delivers to {name} after a reset"
            assert not half.ended, f"stream {talk.number} delivers to {name} after its end"
            assert data == half.content(half.read, len(data)), f"stream {talk.number} to {name}: not what was written"
            half.read += len(data)
            assert half.read <= half.written, f"stream {talk.number} to {name}: more than was written"
        else:
            raise AssertionError("bytes without end")
        if stream.at_end and name not in talk.silent and not half.ended:
            half.ended = True
            assert half.finished, f"stream {talk.number} to {name} ends, and nobody finished it"
            assert half.read == half.written, f"stream {talk.number} to {name} ends early"

    # --- steps ---------------------------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        match step:
            case Wait(seconds):
                self.wire.run(seconds)
            case Open(name, early):
                self._open(name, early=early)
            case Ask(name, count, size):
                for _ in range(count):
                    self._ask(name, size)
            case Write(name, index, size):
                self._write(name, index, size)
            case Finish(name, index):
                for talk, stream in self._at(name, index):
                    if stream.reset_code is None and not stream.closed:
                        talk.halves[name].finished = True
                    stream.finish()
            case Reset(name, index):
                for talk, stream in self._at(name, index):
                    if not stream.closed:
                        talk.abrupt = True
                        talk.silent.add(name)
                    stream.reset(3)
            case Stop(name, index):
                for talk, stream in self._at(name, index):
                    if not stream.closed:
                        talk.abrupt = True
                        talk.silent.add(name)
                    stream.stop(5)
            case Pause(name, index):
                for talk, _ in self._at(name, index):
                    talk.halves[self.other(name).name].paused = True
            case Resume(name, index):
                for talk, _ in self._at(name, index):
                    self._resume(name, talk)
            case Datagram(name, index, size):
                for talk, stream in self._at(name, index):
                    if not stream.connection.closed:
                        half = talk.halves[name]
                        self.serial += 1
                        data = half.content(self.serial, size)
                        half.datagrams[data] += 1
                        stream.connection.send_datagram(stream, data)
            case Drop(name, skip, count):
                self.network.plan(name, skip, count, lambda *_: None)
            case Delay(name, skip, count, seconds):
                self.network.plan(name, skip, count, self.network.late(seconds, copy=False))
            case Duplicate(name, skip, count, seconds):
                self.network.plan(name, skip, count, self.network.late(seconds, copy=True))
            case Corrupt(name, skip, at, bits):
                self.network.plan(name, skip, 1, lambda _, __, raw: _flipped(raw, at, bits))
            case Truncate(name, skip, size):
                self.network.plan(name, skip, 1, lambda _, __, raw: raw[: max(1, size % len(raw))])
            case Lose(name, every):
                self.network.every[name] = every
            case Cut(what):
                self.network.cut = what
            case Mend():
                self.network.cut = ""
            case Narrow(size):
                self.wire.mtu = size
            case Move(name):
                self.moves += 1
                self.sides[name].move((self.sides[name].address[0], 5000 + self.moves))
            case Rekey(name):
                self._rekey(name)
            case NewKeys(name):
                self._new_keys(self.sides[name])
            case Connect(name):
                self.connect(name)
            case Close(name):
                self._close(name)
            case Restart(name):
                if not self.setting.relay:
                    self._restart(name)

    def _at(self, name: str, index: int) -> Iterator[tuple[Talk, Stream]]:
        """The stream that a step means, if this side knows one."""
        known = [talk for talk in self.talks if name in talk.ends]
        if known:
            talk = known[index % len(known)]
            yield talk, talk.ends[name]

    def _ask(self, name: str, size: int) -> None:
        known = len(self.talks)
        self._open(name, early=False)
        for talk in self.talks[known:]:
            half, stream = talk.halves[name], talk.ends[name]
            stream.write(half.content(0, size))
            half.written = size
            stream.finish()
            half.finished = talk.answered = True

    def _open(self, name: str, *, early: bool) -> None:
        connection = self.connection(name) or self.connect(name)
        number = len(self.talks)
        try:
            stream = connection.open(f"s{number}", min_epoch=0 if early else 1)
        except LimitError:
            return
        halves = {writer: Half(shift=7_919 * (2 * number + (writer == "b"))) for writer in "ab"}
        self.talks.append(Talk(number, halves, {name: stream}))

    def _write(self, name: str, index: int, size: int) -> None:
        for talk, stream in self._at(name, index):
            half = talk.halves[name]
            size = min(size, stream.writable)
            try:
                stream.write(half.content(half.written, size))
            except StateError:
                assert half.finished or talk.abrupt or talk.gone, f"stream {talk.number} takes nothing from {name}"
                return
            half.written += size

    def _resume(self, name: str, talk: Talk) -> None:
        half = talk.halves[self.other(name).name]
        if half.paused:
            half.paused = False
            if name not in talk.silent:
                self._read(name, talk)

    def _rekey(self, name: str) -> None:
        connection = self.connection(name)
        session = connection.session if connection is not None else None
        if session is not None and session.verified and session.epochs.epoch < 32:
            session.epochs.packets = max(session.epochs.packets, self.setting.lifetimes.rekey_packets)
            session.consider_rekey(self.wire.now)
            session.wake()

    def _new_keys(self, side: Side) -> None:
        credentials = side.credentials
        if len(credentials.transport_keys) < TRANSPORT_KEYS_LIMIT:
            side.adopt(credentials.rotate_transport(side.source.randbytes(32), side.wall()))

    def _close(self, name: str) -> None:
        connection = self.connection(name)
        if connection is not None:
            self._abandon()
            self.sides[name].endpoint.close(self.wire.now, connection)

    def _restart(self, name: str) -> None:
        self._abandon()
        self.sides[name].restart()
        for talk in self.talks:
            if talk.ends.pop(name, None) is not None:
                talk.halves[self.other(name).name].ended = True  # whoever read it is gone

    def _abandon(self) -> None:
        """Streams end with their connection."""
        self.forgivable += 1
        for talk in self.talks:
            talk.abrupt = talk.gone = True

    # --- what must hold --------------------------------------------------------------------------------------------

    def check(self) -> None:
        for name in "ab":
            connection = self.connection(name)
            if connection is not None:
                self._check_windows(connection)
                self._check_accounts(name, connection)

    @staticmethod
    def _check_windows(connection: Connection) -> None:
        assert connection._received - connection._consumed <= connection._window, "more than the connection's window"
        for stream in connection.streams.values():
            incoming, outgoing = stream.incoming, stream.outgoing
            kept = sum(len(piece) for run in incoming._runs for piece in run) + incoming.available
            assert kept <= stream.window, f"{kept} bytes wait in a window of {stream.window}"
            assert outgoing.acked <= outgoing.sent <= outgoing.end
            assert outgoing.sent <= stream.max_send, "sent beyond the peer's window"
        assert connection._sent <= connection._max_send, "sent beyond the connection's window"

    def _check_accounts(self, name: str, connection: Connection) -> None:
        """Nothing that was sent is forgotten."""
        flying: dict[Stream, RangeSet] = {stream: RangeSet() for stream in connection.streams.values()}
        fins: set[Stream] = set()
        crypto: dict[Session, RangeSet] = {}
        for session in self.sides[name].endpoint._sessions.values():
            if session.peer != self.other(name).identity:
                continue
            crypto[session] = RangeSet()
            for path in numbered(session):
                runs = list(path.recovery._sent)
                assert path.recovery.congestion.in_flight == sum(run.bytes for run in runs), "in flight, by two counts"
                for run in runs:
                    pieces = [("stream", run.stream, run.offset, run.length, run.fin)] if run.stream else run.items
                    for piece in pieces or ():
                        if piece[0] == "stream" and piece[1] in flying:
                            flying[piece[1]].add(piece[2], piece[2] + piece[3])
                            fins.update([piece[1]] if piece[4] else ())
                        elif piece[0] == "crypto":
                            crypto[session].add(piece[1], piece[1] + piece[2])
        for stream, ranges in flying.items():
            if stream.reset_code is not None:
                continue
            assert not _forgotten(stream.outgoing, ranges), f"{name} forgot bytes of stream {stream.id}"
            if stream.fin_sent and not stream.fin_acked:
                assert stream in fins, f"{name} forgot the FIN of stream {stream.id}"
            if stream.has_data:
                assert stream.in_queue, f"{name}: stream {stream.id} has data and no turn"
        for session, ranges in crypto.items():
            assert not _forgotten(session.crypto.outgoing, ranges), f"{name} forgot CRYPTO bytes"

    # --- the end ---------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """The network heals: all that was promised comes true."""
        self.network.heal()
        for talk in self.talks:
            for name in list(talk.ends):
                self._resume(name, talk)
        for name in "ab":
            if self.connection(name) is not None:
                self._meet(name)
        self._settle()
        self._check_agreement()
        for name in "ab":
            self._check_alive(name)
        self._settle()
        self._check_nothing_left()

    def _settle(self) -> None:
        done = self.wire.run(HEALED_SECONDS, until=self._is_done)
        self.check()
        assert done, f"not everything arrives: {self._state()}"
        self.wire.run(1.0)
        self.check()

    def _check_alive(self, name: str) -> None:
        """What is connected carries one more stream, unless the peer's are many already."""
        connection = self.connection(name)
        if connection is None or not connection.live:
            return
        opened = sum(stream.opener for stream in connection.streams.values())
        count = len(self.talks)
        self._ask(name, 10)
        if len(self.talks) == count:
            assert 2 * opened >= limits.STRANGER_STREAMS, f"{name} may open no stream beside {opened}"

    def _is_done(self) -> bool:
        for talk in self.talks:
            if talk.gone:
                continue
            if talk.abrupt:
                if not all(stream.closed for stream in talk.ends.values()) and self._both_ended(talk):
                    return False
                continue
            for writer, half in talk.halves.items():
                reader = self.other(writer).name
                if half.read < half.written or (half.finished and not half.ended):
                    return False
                if reader not in talk.ends and half.written:
                    return False
        return all(self._quiet(name) for name in "ab")

    @staticmethod
    def _both_ended(talk: Talk) -> bool:
        """Both directions are over, by a reset, by a stop or as planned: nothing keeps the stream."""
        return any(stream.reset_code is not None and stream.quiet for stream in talk.ends.values())

    def _quiet(self, name: str) -> bool:
        """Everything acknowledged, nothing in flight, nothing to say."""
        connection = self.connection(name)
        if connection is None:
            return True
        if any(stream.outgoing.held for stream in connection.streams.values()) or connection.has_output:
            return False
        return all(
            not session.crypto.has_data and not any(path.recovery.outstanding for path in numbered(session))
            for session in self.sides[name].endpoint._sessions.values()
            if session.peer == self.other(name).identity
        )

    def _check_agreement(self) -> None:
        """Sending and receiving side agree on what the connection carried, as long as it is one connection."""
        a, b = self.connection("a"), self.connection("b")
        if a is None or b is None or (a.local_half, b.local_half) != (b.remote_half, a.remote_half):
            return
        assert (a._sent, b._sent) == (b._received, a._received), "bytes sent and bytes received"
        # What is read is credited, what is dropped too: no credit leaks.
        for connection in (a, b):
            waiting = sum(stream.incoming.available for stream in connection.streams.values())
            assert connection._consumed + waiting == connection._received, "credit leaks"
        open_talks = {talk.number for talk in self.talks if not talk.abrupt} | {
            talk.number for talk in self.talks if talk.abrupt and not self._both_ended(talk)
        }
        for connection in (a, b):
            left = {int(stream.service[1:]) for stream in connection.streams.values() if stream.service}
            assert left <= open_talks, f"streams left behind: {left - open_talks}"

    def _check_nothing_left(self) -> None:
        self.over = True
        self._abandon()
        for _ in range(2):  # an end is said once, and the other side may have had no keys to hear it with
            for side in self.sides.values():
                for connection in list(side.endpoint.connections.values()):
                    side.endpoint.close(self.wire.now, connection)
            self.wire.run(1.0)
        self.wire.run(1_200.0)
        for side in self.sides.values():
            check_empty(side)

    def _state(self) -> str:
        talks = [
            f"stream {talk.number} from {writer}: written {half.written} read {half.read} "
            f"finished {half.finished} ended {half.ended} abrupt {talk.abrupt}"
            for talk in self.talks
            if not talk.gone
            for writer, half in talk.halves.items()
        ]
        return "; ".join([*talks, *(f"{name} quiet: {self._quiet(name)}" for name in "ab")])


def numbered(session: Session) -> Iterator[Path]:
    """Everything that has packet numbers of its own: paths and their lanes."""
    for path in session.paths:
        yield path
        if path.lane is not None:
            yield path.lane


def _forgotten(outgoing: object, flying: RangeSet) -> bool:
    """Bytes of a `SendBuffer` that were sent and are neither acknowledged, nor in flight, nor to be sent again."""
    missing = RangeSet()
    missing.add(outgoing.acked, outgoing.sent)  # type: ignore[attr-defined]
    for known in (outgoing._acked_beyond, outgoing.lost, flying):  # type: ignore[attr-defined]
        for low, high in known:
            missing.remove(low, high)
    return bool(missing)


def _flipped(datagram: bytes, at: int, bits: int) -> bytes:
    raw = bytearray(datagram)
    raw[at % len(raw)] ^= bits
    return bytes(raw)


def play(setting: Setting, script: Script) -> Play:
    """Plays a script to its end and holds it to the model. AssertionError, or whatever a call raised."""
    stage = Play(setting)
    for step in script:
        stage.step(step)
        stage.check()
    stage.finish()
    return stage
