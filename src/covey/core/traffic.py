"""Which stream of a connection goes first: interactive ones before bulk, and turn by turn within each class.

A stream is bulk while more of it is on its way than somebody who waits for an answer would send. Nobody has to say
so: `default` streams change class by what is written to them, and go back when all of it has been acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

from covey.base.path_rules import EXEMPT_SERVICES

if TYPE_CHECKING:
    from covey.core.stream import Stream

__all__ = ["INTERACTIVE_BYTES", "Only", "ReadyStreams", "Traffic"]

INTERACTIVE_BYTES: Final = 65_536
"""Bytes written and not yet acknowledged above which a `default` stream is bulk: what 10 Mbit/s have on their way in
50 ms. Chosen, not measured."""


Only = Literal["", "interactive", "bulk", "exempt"]
"""Streams that a path is for: all, those of a class, or those that no rule keeps off relays."""


class Traffic(StrEnum):
    """What a stream's owner says of it."""

    INTERACTIVE = "interactive"
    """Always before bulk, however much it is."""
    DEFAULT = "default"
    """Interactive as long as little of it is on its way."""
    BULK = "bulk"
    """Always after the others."""


class ReadyStreams:
    """The streams with something to send. `in_queue` and `bulk` of a stream belong to this class."""

    __slots__ = ("bulk", "interactive")

    def __init__(self) -> None:
        self.interactive: list[Stream] = []
        self.bulk: list[Stream] = []

    def __bool__(self) -> bool:
        return bool(self.interactive or self.bulk)

    def add(self, stream: Stream) -> None:
        """The stream has something to send, or more than before."""
        outgoing = stream.outgoing
        if stream.in_queue:
            if not stream.bulk and _is_bulk(stream):
                self.interactive.remove(stream)
                self.bulk.append(stream)
                stream.bulk = True
            return
        if not stream.bulk or outgoing.acked == outgoing.sent:
            stream.bulk = _is_bulk(stream)
        stream.in_queue = True
        (self.bulk if stream.bulk else self.interactive).append(stream)

    def in_turn(self, epoch: int, only: Only = "") -> Iterator[Stream]:
        """Streams with something to send, each once, in turn; those that wait for a later epoch stay queued."""
        queues: tuple[list[Stream], ...] = (self.interactive, self.bulk)
        if only in ("interactive", "bulk"):
            queues = (self.interactive if only == "interactive" else self.bulk,)
        for queue in queues:
            for _ in range(len(queue)):
                stream = queue.pop(0)
                if stream.closed or not stream.has_data:
                    stream.in_queue = False
                    continue
                queue.append(stream)
                if epoch >= stream.min_epoch and (only != "exempt" or stream.service in EXEMPT_SERVICES):
                    yield stream

    def remove(self, stream: Stream) -> None:
        """The stream that `in_turn` gave last, or the only one, has nothing to send any more."""
        queue = self.bulk if stream.bulk else self.interactive
        if queue and queue[-1] is stream:
            queue.pop()
            stream.in_queue = False

    @property
    def only(self) -> Stream | None:
        """The stream with something to send, if there is just one."""
        interactive, bulk = self.interactive, self.bulk
        if len(interactive) + len(bulk) != 1:
            return None
        stream = interactive[0] if interactive else bulk[0]
        return None if stream.closed else stream

    @property
    def only_interactive(self) -> bool:
        return bool(self.interactive) and not self.bulk

    def interactive_due(self, epoch: int) -> bool:
        """Whether an interactive stream may send in this epoch, as far as its own limits go."""
        return any(epoch >= stream.min_epoch and stream.has_data for stream in self.interactive)


def _is_bulk(stream: Stream) -> bool:
    if stream.traffic is Traffic.DEFAULT:
        return stream.outgoing.end - stream.outgoing.acked > INTERACTIVE_BYTES
    return stream.traffic is Traffic.BULK
