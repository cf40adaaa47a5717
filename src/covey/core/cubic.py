"""CUBIC (RFC 9438) with HyStart++ (RFC 9406), in bytes and seconds.

HyStart++ differs from its RFC in two points, because we pace. Within a round no burst of our own builds a queue, so the
delay is judged by every eight samples and not only by the first eight of a round, which left when the queue was still
shorter by a whole round trip. And while a grown delay waits to be confirmed the window stands still instead of growing
by a quarter per round: a pipe whose delay grows is full. In `covey.testing.bottleneck` at 200 Mbit/s x 100 ms the RFC's
numbers overflow a queue of 4 bandwidth-delay products (2153 datagrams lost), these not one of 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from covey.core.rtt import INITIAL_RTT, Rtt

if TYPE_CHECKING:
    from covey.core.recovery import Sent

__all__ = ["INITIAL_DATAGRAMS", "Cubic"]

_C: Final = 0.4
_BETA: Final = 0.7
_ALPHA: Final = 3 * (1 - _BETA) / (1 + _BETA)
"""Reno-friendly increase (RFC 9438, 4.3)."""
INITIAL_DATAGRAMS: Final = 32
"""Initial window. More than RFC 9002's 10, because a path is used only after a validated round trip, and one train
is the unit of work here. Not measured on congested links."""
_MINIMUM_DATAGRAMS: Final = 2
_GAIN: Final = 1.25
"""How much faster than a window per round trip it may leave (RFC 9002, 7.7)."""

_HYSTART_MIN_THRESHOLD: Final = 0.004
_HYSTART_MAX_THRESHOLD: Final = 0.016
_HYSTART_SAMPLES: Final = 8
_HOLD_ROUNDS: Final = 5
"""Conservative slow start (RFC 9406, 4.2), with a growth of nothing."""
_UNKNOWN: Final = float("inf")
"""The slow-start threshold before the first loss: only then HyStart++ looks for it (RFC 9406, 4.3)."""


class Cubic:
    """`covey.core.congestion.Congestion` by RFC 9438: the window grows by a cubic curve of the time since a loss."""

    __slots__ = (
        "_epoch_start",
        "_group_min",
        "_group_samples",
        "_hold_baseline",
        "_hold_rounds",
        "_holding",
        "_k",
        "_pause_start",
        "_prior",
        "_recovery_start",
        "_reno",
        "_round_end",
        "_round_min",
        "_round_previous",
        "_saved",
        "_sent_total",
        "_threshold",
        "_w_max",
        "datagram",
        "in_flight",
        "rate",
        "window",
    )

    def __init__(self, datagram: int) -> None:
        self.datagram = datagram
        self.window = INITIAL_DATAGRAMS * datagram
        self.rate = _GAIN * self.window / INITIAL_RTT
        self.in_flight = 0
        self._sent_total = 0
        self._threshold = _UNKNOWN
        self._w_max = 0.0
        self._k = 0.0
        self._reno = 0.0
        self._prior = 0.0
        self._epoch_start: float | None = None
        self._pause_start: float | None = None
        """Since when the application, not the window, holds us back: time in which the curve stands still."""
        self._recovery_start = float("-inf")
        self._saved: tuple[int, float, float, float] | None = None
        self._round_end = 0
        self._round_min = _UNKNOWN
        self._round_previous = _UNKNOWN
        self._group_min = _UNKNOWN
        self._group_samples = 0
        self._holding = False
        """The delay grew: the window stands still until that was a mistake, or certain."""
        self._hold_baseline = 0.0
        self._hold_rounds = 0

    @property
    def slow_start(self) -> bool:
        return self.window < self._threshold

    def on_sent(self, run: Sent) -> None:
        size = run.bytes
        self.in_flight += size
        self._sent_total += size

    def on_discarded(self, size: int) -> None:
        self.in_flight -= size

    def on_acked(self, now: float, size: int, newest: Sent, rtt: Rtt, limited: bool) -> None:
        self.in_flight -= size
        if newest.time > self._recovery_start:
            if self.window < self._threshold:
                if limited:
                    if self._threshold == _UNKNOWN:
                        self._hystart(rtt)
                    if not self._holding:
                        self.window += size
            elif limited:
                self._avoid_congestion(now, size, rtt)
            elif self._pause_start is None:
                self._pause_start = now
        self.rate = _GAIN * self.window / rtt.smoothed

    def on_lost(self, now: float, size: int, runs: list[Sent]) -> bool:
        """One reduction per round trip: losses of packets sent before the last reduction change nothing more."""
        self.in_flight -= size
        if runs[-1].time <= self._recovery_start:
            return False
        self._saved = (self.window, self._threshold, self._w_max, self._recovery_start)
        self._recovery_start = now
        self._epoch_start = None
        self._holding = False
        window = self.window
        self._w_max = window * (1 + _BETA) / 2 if window < self._w_max else float(window)
        self._prior = float(window)
        self._resize(max(int(window * _BETA), _MINIMUM_DATAGRAMS * self.datagram))
        self._threshold = self.window
        return True

    def undo(self, now: float) -> None:
        """As RFC 4015 does for TCP."""
        if self._saved is None:
            return
        window, self._threshold, self._w_max, self._recovery_start = self._saved
        self._resize(max(self.window, window))
        self._epoch_start = None
        self._saved = None

    def on_persistent_congestion(self, now: float) -> None:
        """Slow start again, to where a loss would have brought us (RFC 9438, 4.8). Older losses are judged with it."""
        self._threshold = max(int(self.window * _BETA), _MINIMUM_DATAGRAMS * self.datagram)
        self._resize(_MINIMUM_DATAGRAMS * self.datagram)
        self._w_max = 0.0
        self._recovery_start = now
        self._epoch_start = None
        self._holding = False
        self._saved = None

    def on_round_trip(self, rtt: Rtt) -> None:
        self.rate = _GAIN * self.window / rtt.smoothed

    def _resize(self, window: int) -> None:
        self.rate *= window / self.window
        self.window = window

    def _avoid_congestion(self, now: float, size: int, rtt: Rtt) -> None:
        segment = self.datagram
        if self._epoch_start is None:
            self._epoch_start = now
            self._reno = float(self.window)
            if self.window < self._w_max:
                self._k = ((self._w_max - self.window) / segment / _C) ** (1 / 3)
            else:
                self._k = 0.0
                self._w_max = float(self.window)
        elif self._pause_start is not None:
            self._epoch_start += now - self._pause_start
        self._pause_start = None
        t = now - self._epoch_start + rtt.smoothed
        target = self._w_max + _C * (t - self._k) ** 3 * segment
        target = min(max(target, self.window), 1.5 * self.window)
        # Back where the loss was, the estimate grows like Reno itself (RFC 9438, 4.3).
        alpha = _ALPHA if self._reno < self._prior else 1.0
        self._reno += alpha * segment * size / self.window
        growth = (target - self.window) * size / self.window
        self.window = int(max(self.window + growth, self._reno))

    def _hystart(self, rtt: Rtt) -> None:
        if rtt.latest < self._group_min:
            self._group_min = rtt.latest
        self._group_samples += 1
        if self._group_samples == _HYSTART_SAMPLES:
            self._judge_delay()
        # A round ends when something is acknowledged that was sent after its start (RFC 9406, 4.2).
        if self._sent_total - self.in_flight > self._round_end:
            self._begin_round()

    def _judge_delay(self) -> None:
        delay, self._group_min, self._group_samples = self._group_min, _UNKNOWN, 0
        self._round_min = min(self._round_min, delay)
        before = self._round_previous
        if self._holding:
            self._holding = delay >= self._hold_baseline
        elif delay >= before + min(max(before / 8, _HYSTART_MIN_THRESHOLD), _HYSTART_MAX_THRESHOLD):
            self._holding = True
            self._hold_baseline = delay
            self._hold_rounds = 0

    def _begin_round(self) -> None:
        if self._holding:
            self._hold_rounds += 1
            if self._hold_rounds >= _HOLD_ROUNDS:
                self._threshold = self.window
                self._holding = False
        self._round_end = self._sent_total
        self._round_previous = min(self._round_min, self._group_min)
        self._round_min = _UNKNOWN
