"""CUBIC (RFC 9438) with HyStart++ (RFC 9406), in bytes and seconds."""

from __future__ import annotations

from typing import Final

from covey.core.rtt import Rtt

__all__ = ["Cubic"]

_C: Final = 0.4
_BETA: Final = 0.7
_ALPHA: Final = 3 * (1 - _BETA) / (1 + _BETA)
"""Reno-friendly increase (RFC 9438, 4.3)."""
_INITIAL_DATAGRAMS: Final = 32
"""Initial window. More than RFC 9002's 10, because a path is used only after a validated round trip, and one train
is the unit of work here. Not measured on congested links."""
_MINIMUM_DATAGRAMS: Final = 2

_HYSTART_MIN_THRESHOLD: Final = 0.004
_HYSTART_MAX_THRESHOLD: Final = 0.016
_HYSTART_SAMPLES: Final = 8
_CSS_DIVISOR: Final = 4
_CSS_ROUNDS: Final = 5


class Cubic:
    """The congestion window of one path.

    Calls: `on_sent` for every in-flight packet, `on_acked` per ACK with what it newly acknowledged, `on_lost` per
    loss event with the send time of the newest lost packet, `undo` if that loss turned out to be none, `on_discarded`
    for in-flight bytes that will never be acknowledged for another reason. All sizes in bytes of UDP payload.
    """

    __slots__ = (
        "_css_baseline",
        "_css_rounds",
        "_epoch_start",
        "_in_css",
        "_k",
        "_recovery_start",
        "_reno",
        "_round_end",
        "_round_min",
        "_round_previous",
        "_round_samples",
        "_saved",
        "_threshold",
        "_w_max",
        "datagram",
        "in_flight",
        "sent_total",
        "window",
    )

    def __init__(self, datagram: int) -> None:
        self.datagram = datagram
        self.window = _INITIAL_DATAGRAMS * datagram
        self.in_flight = 0
        self.sent_total = 0
        self._threshold = float("inf")
        self._w_max = 0.0
        self._k = 0.0
        self._reno = 0.0
        self._epoch_start: float | None = None
        self._recovery_start = float("-inf")
        self._saved: tuple[int, float, float, float] | None = None
        self._round_end = 0
        self._round_min = float("inf")
        self._round_previous = float("inf")
        self._round_samples = 0
        self._in_css = False
        self._css_baseline = float("inf")
        self._css_rounds = 0

    @property
    def slow_start(self) -> bool:
        return self.window < self._threshold

    def on_sent(self, size: int) -> None:
        self.in_flight += size
        self.sent_total += size

    def on_discarded(self, size: int) -> None:
        self.in_flight -= size

    def on_acked(self, now: float, size: int, newest_sent: float, rtt: Rtt, limited: bool) -> None:
        """`newest_sent`: send time of the newest packet acknowledged. `limited`: the window was what held us back."""
        self.in_flight -= size
        if newest_sent <= self._recovery_start:
            return
        if self.slow_start:
            self._hystart(rtt)
            if limited:
                self.window += size // _CSS_DIVISOR if self._in_css else size
            return
        if not limited:
            self._epoch_start = None
            return
        self._avoid_congestion(now, size, rtt)

    def on_lost(self, now: float, size: int, newest_sent: float) -> bool:
        """One reduction per round trip: losses of packets sent before the last reduction change nothing more.

        True if the window was reduced.
        """
        self.in_flight -= size
        if newest_sent <= self._recovery_start:
            return False
        self._saved = (self.window, self._threshold, self._w_max, self._recovery_start)
        self._recovery_start = now
        self._epoch_start = None
        window = self.window
        self._w_max = window * (1 + _BETA) / 2 if window < self._w_max else float(window)
        self.window = max(int(window * _BETA), _MINIMUM_DATAGRAMS * self.datagram)
        self._threshold = self.window
        return True

    def undo(self) -> None:
        """Everything that the last reduction took for lost has arrived after all (as RFC 4015 does for TCP)."""
        if self._saved is None:
            return
        window, self._threshold, self._w_max, self._recovery_start = self._saved
        self.window = max(self.window, window)
        self._epoch_start = None
        self._saved = None

    def on_persistent_congestion(self) -> None:
        """RFC 9002, 7.6: nothing came through for several timeouts."""
        self.window = _MINIMUM_DATAGRAMS * self.datagram
        self._epoch_start = None
        self._saved = None

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
        t = now - self._epoch_start + rtt.smoothed
        target = self._w_max + _C * (t - self._k) ** 3 * segment
        target = min(max(target, self.window), 1.5 * self.window)
        self._reno += _ALPHA * segment * size / self.window
        growth = (target - self.window) * size / self.window
        self.window = int(max(self.window + growth, self._reno))

    def _hystart(self, rtt: Rtt) -> None:
        # A round ends when something is acknowledged that was sent after its start (RFC 9406, 4.2).
        acked_total = self.sent_total - self.in_flight
        self._round_min = min(self._round_min, rtt.latest)
        self._round_samples += 1
        if self._round_samples >= _HYSTART_SAMPLES and self._round_previous < float("inf"):
            step = min(max(self._round_previous / 8, _HYSTART_MIN_THRESHOLD), _HYSTART_MAX_THRESHOLD)
            if self._in_css:
                if self._round_min < self._css_baseline:
                    self._in_css = False
            elif self._round_min >= self._round_previous + step:
                self._in_css = True
                self._css_baseline = self._round_min
                self._css_rounds = 0
        if acked_total > self._round_end:
            if self._in_css:
                self._css_rounds += 1
                if self._css_rounds >= _CSS_ROUNDS:
                    self._threshold = self.window
            self._round_end = self.sent_total
            self._round_previous = self._round_min
            self._round_min = float("inf")
            self._round_samples = 0
