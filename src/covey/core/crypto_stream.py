"""The CRYPTO stream of a session: reliable, ordered, outside flow control, small (PROTOCOL 17)."""

from __future__ import annotations

from covey.base.constants import LOG_LIMIT
from covey.base.errors import ParseError
from covey.core import limits
from covey.core.receive_buffer import ReceiveBuffer
from covey.core.recovery import Item
from covey.core.send_buffer import SendBuffer
from covey.wire import control, frames

__all__ = ["CryptoStream"]


class CryptoStream:
    """Control messages out and in. ParseError from `receive` and `take_log`: the peer breaks the protocol."""

    __slots__ = ("_incoming", "_log", "_reader", "has_data", "log_wanted", "outgoing")

    def __init__(self) -> None:
        self.outgoing = SendBuffer()
        self.has_data = False
        """Something may leave now. Never more is in flight than the peer must keep behind a gap."""
        self.log_wanted = False
        """We asked for the peer's log and do not have all of it."""
        self._incoming = ReceiveBuffer()
        self._reader = control.ControlReader()
        self._log = bytearray()

    def send(self, kind: int, body: bytes = b"") -> None:
        self.outgoing.write(control.encode_control(kind, body))
        self._look()

    def on_acked(self, offset: int, size: int) -> None:
        self.outgoing.on_acked(offset, size)
        self._look()

    def on_lost(self, offset: int, size: int) -> None:
        self.outgoing.on_lost(offset, size)
        self._look()

    def send_log(self, raw: bytes) -> None:
        """In pieces; the last one says so."""
        for start in range(0, len(raw), control.LOG_PIECE):
            last = start + control.LOG_PIECE >= len(raw)
            self.send(control.LOG, bytes([last]) + raw[start : start + control.LOG_PIECE])

    def compose(self, scratch: bytearray, at: int, capacity: int, items: list[Item]) -> int:
        """Writes CRYPTO frames to `scratch[at:capacity]`; the new end."""
        out, head = self.outgoing, frames.CRYPTO_HEAD
        while capacity - at > head.size:
            offset, size = out.next_range(out.acked + limits.CRYPTO_BUFFER)
            size = min(size, capacity - at - head.size)
            if size <= 0:
                break
            head.pack_into(scratch, at, frames.CRYPTO, offset, size)
            at += head.size
            out.copy_into(scratch, at, offset, size)
            at += size
            out.on_sent(offset, size)
            items.append(("crypto", offset, size))
        self._look()
        return at

    def receive(self, offset: int, data: memoryview) -> list[tuple[int, bytes]]:
        """The messages that are complete now, as (kind, body)."""
        incoming = self._incoming
        if offset + len(data) > incoming.next + limits.CRYPTO_BUFFER:
            raise ParseError("CRYPTO bytes beyond the buffer")
        incoming.insert(offset, data)
        return self._reader.feed(incoming.read())

    def take_log(self, body: bytes) -> bytes | None:
        """A LOG message; the whole log with its last piece."""
        if not self.log_wanted or not body or body[0] > 1:
            raise ParseError("a log out of turn")
        self._log += body[1:]
        if len(self._log) > LOG_LIMIT:
            raise ParseError("log too long")
        if not body[0]:
            return None
        self.log_wanted = False
        raw, self._log = bytes(self._log), bytearray()
        return raw

    def _look(self) -> None:
        out = self.outgoing
        self.has_data = bool(out.lost) or min(out.end, out.acked + limits.CRYPTO_BUFFER) > out.sent
