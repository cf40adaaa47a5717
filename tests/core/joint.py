"""Two connections without sessions: packets are lists of frames, and the test is the network.

Stands where two sessions would: it asks a connection for what to send, as `covey.core.sender` does, keeps what a
packet carried, and says later that it was acknowledged or lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from covey.base.types import Identity
from covey.core.connection import Connection
from covey.core.events import ConnectionStalled, Event, StreamOffered
from covey.core.stream import Stream
from covey.wire import frames
from covey.wire.frames import LimitFrame, ResetFrame, StopFrame, parse_frames


class Awake:
    """A session as far as a connection knows one."""

    round_trip = 0.0

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def exchange_candidates(self) -> None:
        pass

    def say_words(self) -> None:
        pass

    def ping(self, token: int) -> None:
        pass


@dataclass
class Packet:
    control: list[tuple[bytes, tuple[int, int]]] = field(default_factory=list)
    data: list[tuple[Stream, int, bytes, bool]] = field(default_factory=list)
    delivered: bool = False

    def __bool__(self) -> bool:
        return bool(self.control or self.data)


class End:
    """One connection and the events it gave."""

    def __init__(self, local: Identity, peer: Identity) -> None:
        self.events: list[Event] = []
        self.connection = Connection(local, peer, bytes(8), self.events.append)
        self.connection.session = Awake()  # type: ignore[assignment]
        self.connection.live = True

    def of(self, kind: type) -> list:  # type: ignore[type-arg]
        return [event for event in self.events if isinstance(event, kind)]

    def offered(self) -> list[Stream]:
        return [event.stream for event in self.of(StreamOffered)]

    def stalled(self) -> int:
        return len(self.of(ConnectionStalled))

    def packet(self, room: int = 1000, epoch: int = 1) -> Packet:
        """What would leave now."""
        packet = Packet()
        connection = self.connection
        for encoded, item in connection.take_control(room):
            packet.control.append((encoded, item))
            room -= len(encoded)
        for stream in connection.ready.in_turn(epoch):
            room = self._stream(packet, stream, room)
        return packet

    def _stream(self, packet: Packet, stream: Stream, room: int) -> int:
        outgoing = stream.outgoing
        while room >= 0:
            repeat = bool(outgoing.lost)
            offset, size = outgoing.next_range(stream.max_send)
            if not repeat:
                size = min(size, self.connection.send_allowance(stream))
            size = max(0, min(size, room))
            fin = stream.finished and stream.reset_code is None and offset + size == outgoing.end
            if size == 0 and not (fin and not stream.fin_sent):
                break
            data = bytearray(size)
            outgoing.copy_into(data, 0, offset, size)
            if not repeat:
                self.connection.count_sent(size)
            outgoing.on_sent(offset, size)
            stream.fin_sent = stream.fin_sent or fin
            packet.data.append((stream, offset, bytes(data), fin))
            room -= size + 18
        return room

    def deliver(self, packet: Packet, now: float = 0.0, epoch: int = 1) -> None:
        """A packet of the other side's arrives."""
        packet.delivered = True
        connection = self.connection
        for encoded, _ in packet.control:
            for frame in parse_frames(encoded):
                match frame:
                    case ResetFrame(stream, code, final):
                        connection.receive_reset(stream, code, final)
                    case StopFrame(stream, code):
                        connection.receive_stop(stream, code)
                    case LimitFrame(kind, stream, limit):
                        connection.receive_limit(kind, stream, limit)
        for stream, offset, data, fin in packet.data:
            connection.receive_stream(stream.id, offset, memoryview(data), fin, epoch, now)

    def acknowledged(self, packet: Packet) -> None:
        for _, (kind, number) in packet.control:
            self.connection.on_control_acked(kind, number)
        for stream, offset, data, fin in packet.data:
            self.connection.on_stream_acked(stream, offset, len(data), fin)

    def lost(self, packet: Packet) -> None:
        for _, (kind, number) in packet.control:
            self.connection.on_control_lost(kind, number)
        for stream, offset, data, fin in packet.data:
            self.connection.on_stream_lost(stream, offset, len(data), fin)


class Joint:
    """Two ends that face each other."""

    def __init__(self, *, admit: bool = True) -> None:
        low, high = Identity(bytes(32)), Identity(b"\xff" * 32)
        self.low, self.high = End(low, high), End(high, low)
        if admit:
            self.low.connection.admit()
            self.high.connection.admit()

    def ends(self) -> Iterator[tuple[End, End]]:
        yield self.low, self.high
        yield self.high, self.low

    def settle(self, turns: int = 2000) -> None:
        """Everything that can leave arrives and is acknowledged."""
        for _ in range(turns):
            moved = False
            for end, other in self.ends():
                packet = end.packet()
                if packet:
                    moved = True
                    other.deliver(packet)
                    end.acknowledged(packet)
            if not moved:
                return
        raise AssertionError("frames without end")


def stream_frame(number: int, offset: int, data: bytes, *, fin: bool = False) -> bytes:
    return frames.STREAM_HEAD.pack(frames.STREAM, int(fin), number, offset, len(data)) + data
