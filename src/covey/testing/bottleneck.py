"""Senders that share a bottleneck, without keys, frames or a loop: for congestion control alone.

Each `Flow` is a real `Recovery`, `Pacer` and controller with endless data; what is modelled is the path: a byte-limited
drop-tail queue in front of one line, a delay, random loss, a receiver that acknowledges every second datagram. A
minute at 20 Mbit/s takes a few seconds::

    path = Bottleneck(rate_bits_s=20e6, queue_bytes=100_000, seed=7)
    a, b = path.flow("cubic", rtt_s=0.04), path.flow("bbr", rtt_s=0.04, start_s=5.0)
    path.run(60.0)
    a.delivered, b.delivered

For whole sessions on one line see `SimNetwork.share`.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from covey.base.types import CongestionControl
from covey.core.congestion import Congestion, controller
from covey.core.limits import TRAIN_BYTES, TRAIN_DATAGRAMS
from covey.core.pacer import Pacer
from covey.core.received import ReceivedCounters
from covey.core.recovery import Recovery, Sent
from covey.core.rtt import MAX_ACK_DELAY

__all__ = ["Bottleneck", "Flow", "jain"]

_SIZE: Final = 1452
"""Bytes of every datagram."""


def jain(shares: Sequence[float]) -> float:
    """Jain's fairness index: 1 when all have the same, 1/n when one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


class Bottleneck:
    """One line with a queue, and the flows on it. Any attribute may be changed between two `run`s."""

    def __init__(self, *, rate_bits_s: float, queue_bytes: int, loss: float = 0.0, seed: int = 0) -> None:
        self.rate_bits_s = rate_bits_s
        self.queue_bytes = queue_bytes
        self.loss = loss
        """Share of datagrams lost at random, after the queue."""
        self.down = False
        """Nothing passes."""
        self.now = 100.0
        """Virtual seconds; not zero, since nothing may depend on it."""
        self.dropped = 0
        """Datagrams that found the queue full."""
        self.random = Random(f"bottleneck {seed}")
        self._free_at = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def flow(
        self, algorithm: CongestionControl | Congestion, *, rtt_s: float, start_s: float = 0.0, jitter_s: float = 0.0
    ) -> Flow:
        """A sender that begins in `start_s` seconds; `rtt_s` is the round trip of the empty path."""
        if isinstance(algorithm, str):
            algorithm = controller(algorithm, _SIZE, self.random.randbytes)
        return Flow(self, algorithm, rtt_s, start_s, jitter_s)

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Has `call` called at `time`."""
        heapq.heappush(self._events, (time, next(self._numbers), call))

    def run(self, seconds: float) -> None:
        """Lets so much virtual time pass."""
        end = self.now + seconds
        events = self._events
        while events and events[0][0] <= end:
            self.now, _, call = heapq.heappop(events)
            call()
        self.now = end

    @property
    def backlog(self) -> float:
        """Bytes in the queue now."""
        return max(self._free_at - self.now, 0.0) * self.rate_bits_s / 8

    def carry(self, size: int) -> float | None:
        """A datagram enters: when it leaves the line, None if it is lost."""
        byte_s = 8 / self.rate_bits_s
        start = max(self.now, self._free_at)
        if (start - self.now) / byte_s + size > self.queue_bytes + 1e-6:
            self.dropped += 1
            return None
        self._free_at = start + size * byte_s
        if self.down or (self.loss and self.random.random() < self.loss):
            return None
        return self._free_at


class Flow:
    """One sender and its receiver."""

    def __init__(self, path: Bottleneck, congestion: Congestion, rtt_s: float, start_s: float, jitter_s: float) -> None:
        self.path = path
        self.rtt_s = rtt_s
        self.congestion = congestion
        self.recovery = Recovery(congestion)
        self.hungry = True
        """There is data to send."""
        self.delivered = 0
        """Bytes acknowledged."""
        self.sent = 0
        self.round_trips: list[float] = []
        """Seconds, one for each acknowledgement."""
        self.bursts: deque[tuple[float, int]] = deque(maxlen=20_000)
        """(time, bytes) of what left at one instant."""
        self._jitter_s = jitter_s
        self._pacer = Pacer()
        self._counter = 0
        self._wake_at = float("inf")
        self._received = ReceivedCounters()
        self._eliciting = 0
        self._ack_due: float | None = None
        path.at(path.now + start_s, self.send)

    def rate_bits_s(self, since: int, seconds: float) -> float:
        """Goodput of the last `seconds`, if `delivered` was `since` at their beginning."""
        return 8 * (self.delivered - since) / seconds

    def send(self) -> None:
        """As `Sender` does: trains, until window, rate or data end."""
        path, recovery, congestion = self.path, self.recovery, self.congestion
        now = path.now
        most = min(TRAIN_DATAGRAMS, TRAIN_BYTES // _SIZE)
        burst = 0
        ready_at = float("inf")
        while True:
            window = congestion.window - congestion.in_flight
            credit = self._pacer.credit(now, congestion.rate, _SIZE)
            enough = min(window, self._pacer.worthwhile(TRAIN_BYTES))
            budget = min(window, credit)
            if recovery.probes:
                recovery.probes -= 1
                budget = _SIZE
            elif credit < enough and self.hungry:
                ready_at = self._pacer.ready_at(now, enough)
                budget = 0
            recovery.limited = budget < _SIZE
            if recovery.limited or not self.hungry:
                break
            count = min(most, budget // _SIZE)
            self._pacer.spend(count * _SIZE)
            recovery.on_sent(Sent(self._counter, count, now, _SIZE, _SIZE, items=[("ping",)]))
            burst += count * _SIZE
            for counter in range(self._counter, self._counter + count):
                self._leave(counter)
            self._counter += count
        if burst:
            self.sent += burst
            self.bursts.append((now, burst))
        due = recovery.deadline()
        self._wake(min(ready_at, float("inf") if due is None else due))

    def _leave(self, counter: int) -> None:
        leaves = self.path.carry(_SIZE)
        if leaves is not None:
            late = self._jitter_s * self.path.random.random() if self._jitter_s else 0.0
            self.path.at(leaves + self.rtt_s / 2 + late, lambda: self._arrive(counter))

    def _wake(self, at: float) -> None:
        if at < self._wake_at:
            self._wake_at = at
            self.path.at(max(at, self.path.now), lambda: self._woken(at))

    def _woken(self, at: float) -> None:
        if at != self._wake_at:
            return
        self._wake_at = float("inf")
        due = self.recovery.deadline()
        if due is not None and due <= self.path.now:
            self.recovery.on_deadline(self.path.now)
        self.send()

    def _arrive(self, counter: int) -> None:
        now = self.path.now
        if not self._received.fresh(counter):
            return
        in_order = self._received.add(counter, now)
        self._eliciting += 1
        if self._eliciting >= 2 or not in_order:
            self._acknowledge(now)
        elif self._ack_due is None:
            due = self._ack_due = now + MAX_ACK_DELAY
            self.path.at(due, lambda: self._acknowledge_late(due))

    def _acknowledge_late(self, due: float) -> None:
        if self._ack_due == due:
            self._acknowledge(due)

    def _acknowledge(self, now: float) -> None:
        self._eliciting = 0
        self._ack_due = None
        if self.path.down:
            return
        ranges, delay = self._received.ranges(), now - self._received.newest_at
        self.path.at(now + self.rtt_s / 2, lambda: self._acknowledged(ranges, delay))

    def _acknowledged(self, ranges: list[tuple[int, int]], delay: float) -> None:
        acked, _ = self.recovery.on_ack(self.path.now, ranges, delay)
        if acked:
            self.delivered += sum(run.bytes for run in acked)
            self.round_trips.append(self.recovery.rtt.latest)
        self.send()
