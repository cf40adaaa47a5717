"""What is in flight on one path, and what was lost: RFC 9002, by trains instead of packets.

A `Sent` stands for a run of datagrams with consecutive counters that were sent together. Bulk traffic is one `Sent`
per train; an acknowledgement or a loss that covers a part of it cuts it, the arithmetic below says what the parts
carried. No object exists per datagram.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from covey.core import limits
from covey.core.pacer import Pacer
from covey.core.ranges import RangeSet
from covey.core.rtt import PTO_LIMIT, Rtt

if TYPE_CHECKING:
    from covey.core.bbr import Stamp
    from covey.core.congestion import Congestion
    from covey.core.stream import Stream

__all__ = ["PACKET_THRESHOLD", "Recovery", "Sent"]

PACKET_THRESHOLD: Final = 3
"""A packet is lost when one this much later was acknowledged (RFC 9002, 6.1.1) ..."""
_THRESHOLD_LIMIT: Final = 4096
"""... on a path that keeps the order. On one that does not, up to this much later."""
_PATIENCE_STEP: Final = 0.125
_PATIENCE_LIMIT: Final = 2.0
"""Round trips after which a packet is lost by time: 9/8, and up to this where packets come later than that."""
_RUNS_WAITING: Final = 256
"""Runs below the largest acknowledged that may wait to be judged. Each acknowledgement looks at all of them."""
_READING_DELAY: Final = 0.01
_PERSISTENT_PTOS: Final = 3

Item = tuple[Any, ...]
"""What a single datagram carried, for the session to act on when it is acknowledged or lost."""


class Sent:
    """Datagrams `first` .. `first + count - 1` of one path.

    Either `stream` is set and datagram i carried `chunk` bytes of it from `offset + i * chunk` (the last one the rest
    of `length`, and FIN if `fin`), or `items` lists what the only datagram carried.
    """

    __slots__ = (
        "chunk",
        "count",
        "fin",
        "first",
        "items",
        "last_size",
        "length",
        "offset",
        "size",
        "stamp",
        "stream",
        "time",
    )

    def __init__(
        self,
        first: int,
        count: int,
        time: float,
        size: int,
        last_size: int,
        items: list[Item] | None = None,
        stream: Stream | None = None,
        offset: int = 0,
        chunk: int = 0,
        length: int = 0,
        fin: bool = False,
    ) -> None:
        self.first = first
        self.count = count
        self.time = time
        self.size = size
        self.last_size = last_size
        self.items = items
        self.stream = stream
        self.offset = offset
        self.chunk = chunk
        self.length = length
        self.fin = fin
        self.stamp: Stamp | None = None
        """What the controller remembers of the moment it left, if it measures."""

    @property
    def is_mtu_probe(self) -> bool:
        return self.items is not None and self.items[0][0] == "mtu"

    @property
    def bytes(self) -> int:
        """UDP payload of all its datagrams."""
        return self.size * (self.count - 1) + self.last_size

    def part(self, start: int, stop: int) -> Sent:
        """The datagrams [start, stop) of this run, counted from 0, as a run of their own."""
        last = stop == self.count
        part = Sent(
            self.first + start,
            stop - start,
            self.time,
            self.size,
            self.last_size if last else self.size,
            items=self.items,
            stream=self.stream,
            offset=self.offset + start * self.chunk,
            chunk=self.chunk,
            length=min(stop * self.chunk, self.length) - start * self.chunk,
            fin=self.fin and last,
        )
        part.stamp = self.stamp
        return part


class Recovery:
    """Loss detection and congestion of one path.

    `on_sent` for every ack-eliciting run in order of counters; `on_ack` gives (acknowledged, lost) runs for the
    session to dispatch; `deadline()` is when `on_deadline` wants to be called; that gives lost runs, or says with
    `probes` > 0 that as many packets may leave beyond the window.
    """

    __slots__ = (
        "_deadline",
        "_doubted",
        "_doubted_at",
        "_largest_acked",
        "_last_eliciting",
        "_loss_time",
        "_sent",
        "congestion",
        "limited",
        "lost_bytes",
        "oldest_unacked_at",
        "pacer",
        "patience",
        "probes",
        "pto_count",
        "rtt",
        "threshold",
    )

    def __init__(self, congestion: Congestion) -> None:
        self.rtt = Rtt()
        self.congestion = congestion
        self.pacer = Pacer()
        self.probes = 0
        self.pto_count = 0
        self.limited = False
        """The window (not the application) held back the last transmission."""
        self.lost_bytes = 0
        self.oldest_unacked_at: float | None = None
        """Since when ack-eliciting data waits without any acknowledgement: path death is judged by it."""
        self._sent: deque[Sent] = deque()
        self._largest_acked = -1
        self._loss_time: float | None = None
        self._last_eliciting = 0.0
        self.threshold = PACKET_THRESHOLD
        self.patience = 1 + _PATIENCE_STEP
        """The two limits of loss detection, which adapt to a path that reorders."""
        self._doubted = RangeSet()
        """Counters taken for lost by the last reduction of the window: if all arrive, it was a mistake."""
        self._doubted_at = 0.0

    @property
    def outstanding(self) -> bool:
        return bool(self._sent)

    @property
    def judging(self) -> bool:
        """Something is taken for lost unless it is acknowledged soon."""
        return self._loss_time is not None

    def has_room(self, size: int) -> bool:
        """Whether a datagram of `size` bytes may leave without asking what credit has come by now."""
        congestion = self.congestion
        return congestion.window - congestion.in_flight >= size <= self.pacer.left

    def on_round_trip(self, rtt: float) -> None:
        """The path's first measurement, by its challenge: seconds."""
        self.rtt.sample(max(rtt, 1e-6), 0.0)
        self.congestion.on_round_trip(self.rtt)

    def outstanding_beyond(self, size: int) -> bool:
        """Whether anything is in flight in datagrams larger than `size`, probes of the MTU not counted."""
        return any(run.size > size and not run.is_mtu_probe for run in self._sent)

    def on_sent(self, run: Sent) -> None:
        self._sent.append(run)
        self.congestion.on_sent(run)
        self._last_eliciting = run.time
        if self.oldest_unacked_at is None:
            self.oldest_unacked_at = run.time

    def on_ack(self, now: float, ranges: list[tuple[int, int]], ack_delay: float) -> tuple[list[Sent], list[Sent]]:
        """`ranges` as in `wire.frames.AckFrame`. Counters that were never sent simply match nothing."""
        largest = ranges[0][1]
        if self._doubted:
            self._reconsider(now, ranges)
        sent = self._sent
        if not sent or largest < sent[0].first:
            return [], []
        acked: list[Sent] = []
        kept: list[Sent] = []
        at = len(ranges) - 1
        while sent and sent[0].first <= largest:
            run = sent.popleft()
            while at > 0 and ranges[at][1] < run.first:
                at -= 1
            low, high = ranges[at]
            if low <= run.first and run.first + run.count - 1 <= high:
                acked.append(run)
            else:
                self._cut(run, ranges, at, acked, kept)
        if acked:
            newest = acked[-1]
            last_counter = newest.first + newest.count - 1
            if last_counter == largest:
                self.rtt.sample(max(now - newest.time, 1e-6), ack_delay)
            self._largest_acked = max(self._largest_acked, last_counter)
            self.pto_count = 0
        sent.extendleft(reversed(kept))
        lost = self._detect_lost(now)
        if acked:
            size = sum([run.bytes for run in acked])
            self.congestion.on_acked(now, size, acked[-1], self.rtt, self.limited)
            self.oldest_unacked_at = now if sent else None
        return acked, lost

    def on_only_run_acked(self, now: float, first: int, largest: int, ack_delay: float) -> Sent | None:
        """`on_ack` for what question and answer do again and again: all that is in flight is one run, and it arrived.

        None if it is otherwise: then nothing has happened.
        """
        sent = self._sent
        if len(sent) != 1 or self._doubted.starts:
            return None
        run = sent[0]
        if run.first < first or run.first + run.count - 1 != largest:
            return None
        sent.pop()
        elapsed = now - run.time
        self.rtt.sample(max(1e-06, elapsed), ack_delay)
        if largest > self._largest_acked:
            self._largest_acked = largest
        self.pto_count = 0
        self.congestion.on_acked(now, run.bytes, run, self.rtt, self.limited)
        self._loss_time = self.oldest_unacked_at = None
        return run

    def deadline(self) -> float | None:
        """When `on_deadline` is due, seconds; None while nothing is in flight."""
        if self._loss_time is not None:
            return self._loss_time
        if not self._sent:
            return None
        return self._last_eliciting + min(PTO_LIMIT, self.rtt.pto() * (1 << min(self.pto_count, 10)))

    def on_deadline(self, now: float) -> list[Sent]:
        """Lost runs; or none and `probes` raised (RFC 9002, 6.2.4)."""
        if self._loss_time is not None:
            return self._detect_lost(now)
        self.pto_count += 1
        self.probes = 2
        # Without this the next probe timeout would be due at once, if nothing can be sent now.
        self._last_eliciting = now
        if self.pto_count == _PERSISTENT_PTOS:
            self.congestion.on_persistent_congestion(now)
        return []

    def awaits_reading(self, now: float) -> bool:
        """At a deadline, while not all that arrived has been read: whether the answer may be there, and is waited for.

        A core that cannot keep up would otherwise repeat what has long been answered, and never keep up again. It ends
        after a second without any answer.
        """
        at = self.deadline()
        since = self.oldest_unacked_at
        if at is None or self._loss_time is not None or since is None or now > since + limits.READING_SECONDS:
            return False
        self._last_eliciting += now + _READING_DELAY - at
        return True

    def oldest(self) -> Sent | None:
        """The oldest datagram in flight, as a run of one: what a probe repeats."""
        return self._sent[0].part(0, 1) if self._sent else None

    def revive(self, now: float) -> None:
        """The path answers again: what is in flight is repeated at once, and judged as if it had just been sent."""
        self.pto_count = 0
        if self._sent:
            self.oldest_unacked_at = self._last_eliciting = now
            self.probes = 2

    def abandon(self) -> list[Sent]:
        """Everything in flight, given up without judging the path's congestion: the path or its keys are gone."""
        runs = list(self._sent)
        self._sent.clear()
        self.congestion.on_discarded(sum(run.bytes for run in runs))
        self._loss_time = None
        self.oldest_unacked_at = None
        return runs

    def _cut(self, run: Sent, ranges: list[tuple[int, int]], at: int, acked: list[Sent], kept: list[Sent]) -> None:
        """Splits a partly acknowledged run; `ranges[at]` is the lowest range that may touch it."""
        start, stop = 0, run.count
        while start < stop:
            low, high = ranges[at]
            low, high = low - run.first, high - run.first
            if high < start and at > 0:
                at -= 1
            elif low >= stop or high < start:
                kept.append(run.part(start, stop))
                return
            else:
                if low > start:
                    kept.append(run.part(start, low))
                    start = low
                end = min(high + 1, stop)
                acked.append(run.part(start, end))
                start = end

    def _detect_lost(self, now: float) -> list[Sent]:
        """RFC 9002, 6.1: by packet threshold 3 and by time, among runs older than the largest acknowledged."""
        self._loss_time = None
        lost: list[Sent] = []
        sent = self._sent
        largest = self._largest_acked
        delay = self.rtt.loss_delay(self.patience)
        kept: list[Sent] = []
        while sent and sent[0].first < largest:
            run = sent.popleft()
            by_count = min(run.count, largest - self.threshold - run.first + 1)
            if run.time + delay <= now:
                by_count = min(run.count, largest - run.first)
            if by_count >= run.count:
                lost.append(run)
                continue
            if by_count > 0:
                lost.append(run.part(0, by_count))
                run = run.part(by_count, run.count)
            kept.append(run)
        if len(kept) > _RUNS_WAITING:
            lost += kept[:-_RUNS_WAITING]
            kept = kept[-_RUNS_WAITING:]
        if kept and kept[0].first < largest:
            self._loss_time = kept[0].time + delay
        sent.extendleft(reversed(kept))
        if not sent:
            self.oldest_unacked_at = None
        if lost:
            self._judge_congestion(now, lost)
        return lost

    def _judge_congestion(self, now: float, lost: list[Sent]) -> None:
        congestion = self.congestion
        congested: list[Sent] = []
        for run in lost:
            if run.is_mtu_probe:
                # A datagram too large for the path says nothing about congestion (RFC 8899, 3).
                congestion.on_discarded(run.bytes)
            else:
                congested.append(run)
        if congested:
            size = sum([run.bytes for run in congested])
            self.lost_bytes += size
            if congestion.on_lost(now, size, congested):
                self._doubted.clear()
                self._doubted_at = now
            for run in congested:
                self._doubted.add(run.first, run.first + run.count)

    def _reconsider(self, now: float, ranges: list[tuple[int, int]]) -> None:
        """What was taken for lost and is acknowledged now was only late: wait longer next time (RFC 9002, 6.1)."""
        doubted = self._doubted
        if now > self._doubted_at + 4 * self.rtt.smoothed:
            doubted.clear()
            return
        before = doubted.size()
        late = doubted.first[0]
        for low, high in ranges:
            doubted.remove(low, high + 1)
        if doubted.size() == before:
            return
        behind = max(self._largest_acked, ranges[0][1]) - late + 1 if late not in doubted else 2 * self.threshold
        self.threshold = min(max(self.threshold, behind), _THRESHOLD_LIMIT)
        self.patience = min(self.patience + _PATIENCE_STEP, _PATIENCE_LIMIT)
        if not doubted:
            self.congestion.undo(now)
