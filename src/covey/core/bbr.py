"""BBR version 3 (draft-ietf-ccwg-bbr-06), in bytes and seconds, by runs instead of packets.

A model of the path (how much it delivers, how long it takes empty) sets the window and the rate, and is kept true by
experiments::

    STARTUP -> DRAIN -> DOWN -> CRUISE -> REFILL -> UP -> DOWN ...        any -> PROBE_RTT -> STARTUP or DOWN

`_bw` and `_min_rtt` are the model. The long-term bound (`_inflight_high`, the draft's inflight_longterm) remembers
what a probe found to be too much; the short-term bounds (`_bw_low`, `_inflight_low`) follow losses of other times and
are forgotten before each probe. Names and order are those of the draft's pseudocode, section numbers are the draft's.

What we do our own way: a `Sent` stands for a train, as 4.1.3.1 recommends; losses are reported before what the same
acknowledgement delivered (RFC 9002, A.7); recovery ends as in RFC 9002, when something sent after its start is
acknowledged; the send quantum is the pacer's (PROTOCOL 28).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from covey.core.cubic import INITIAL_DATAGRAMS
from covey.core.pacer import BURST_MAX, BURST_SECONDS
from covey.core.rtt import INITIAL_RTT, Rtt

if TYPE_CHECKING:
    from covey.core.recovery import Sent

__all__ = ["Bbr", "Stamp", "State"]

_INF: Final = float("inf")

_STARTUP_PACING_GAIN: Final = 2.77
_PACING_MARGIN: Final = 0.99
_LOSS_THRESHOLD: Final = 0.02
"""Losses in a round trip, as a share of what was in flight, from which a probe went too high."""
_BETA: Final = 0.7
_HEADROOM: Final = 0.15
"""Share of the long-term bound that cruising leaves to others."""
_MIN_PIPE_DATAGRAMS: Final = 4
_STARTUP_FULL_LOSS_RANGES: Final = 6
_FULL_BW_GROWTH: Final = 1.25
_FULL_BW_ROUNDS: Final = 3
_DRAIN_ROUNDS: Final = 3
_EXTRA_ACKED_ROUNDS: Final = 10
_MIN_RTT_SECONDS: Final = 10.0
_PROBE_RTT_INTERVAL: Final = 5.0
_PROBE_RTT_SECONDS: Final = 0.2
_PROBE_WAIT_SECONDS: Final = 2.0
"""Between two probes of the bandwidth, and up to one second more, by lot ..."""
_PROBE_WAIT_ROUNDS: Final = 63
"""... or so many round trips, or as many as there are datagrams in flight: as often as Reno would (5.3.3.8)."""
_UP_ROUNDS_LIMIT: Final = 30


class State(Enum):
    """What the controller is about (5.1.1), with its pacing gain and window gain (5.6.1)."""

    STARTUP = ("startup", _STARTUP_PACING_GAIN, 2.0, False, True)
    DRAIN = ("drain", 0.5, 2.0, False, False)
    DOWN = ("probe-bw-down", 0.9, 2.0, True, False)
    CRUISE = ("probe-bw-cruise", 1.0, 2.0, True, False)
    REFILL = ("probe-bw-refill", 1.0, 2.0, True, True)
    UP = ("probe-bw-up", 1.25, 2.25, True, True)
    PROBE_RTT = ("probe-rtt", 1.0, 0.5, False, False)

    def __init__(self, label: str, pacing_gain: float, window_gain: float, cycles: bool, accelerates: bool) -> None:
        self.label = label
        self.pacing_gain = pacing_gain
        self.window_gain = window_gain
        self.cycles = cycles
        """One of the four of ProbeBW."""
        self.accelerates = accelerates
        """It looks for more bandwidth, so that losses say nothing about what there was."""


class _Acks(Enum):
    """What acknowledgements tell about a probe (`BBR.ack_phase`, 2.14)."""

    INIT = 0
    REFILLING = 1
    STARTING = 2
    FEEDBACK = 3
    STOPPING = 4


class Stamp(NamedTuple):
    """What was known when a run left (4.1.2.1.2)."""

    delivered: int
    delivered_time: float
    first_send_time: float
    app_limited: bool
    in_flight: int
    """Bytes, this run included."""
    lost: int


class Bbr:
    """`covey.core.congestion.Congestion` by a model of the path. `random(n)` gives n bytes."""

    __slots__ = (
        "_acks",
        "_app_limited",
        "_bw",
        "_bw_latest",
        "_bw_low",
        "_bw_now",
        "_bw_previous",
        "_cycle_stamp",
        "_delivered",
        "_delivered_time",
        "_drain_start_round",
        "_extra_acked",
        "_extra_delivered",
        "_extra_start",
        "_filled",
        "_first_send_time",
        "_full_bw",
        "_full_bw_count",
        "_full_bw_now",
        "_full_bw_reached",
        "_held_back",
        "_idle_restart",
        "_in_recovery",
        "_inflight_high",
        "_inflight_latest",
        "_inflight_low",
        "_is_probe_sample",
        "_loss_in_round",
        "_loss_ranges",
        "_loss_round_begins",
        "_loss_round_delivered",
        "_loss_round_start",
        "_lost",
        "_lost_end",
        "_min_rtt",
        "_min_rtt_stamp",
        "_next_round_delivered",
        "_prior_window",
        "_probe_precautionary",
        "_probe_rtt_delay",
        "_probe_rtt_done",
        "_probe_rtt_expired",
        "_probe_rtt_round_done",
        "_probe_rtt_stamp",
        "_probe_too_high",
        "_probe_wait",
        "_random",
        "_recovery_start",
        "_round_count",
        "_round_start",
        "_rounds_since_probe",
        "_rs_app_limited",
        "_rs_delivered",
        "_rs_in_flight",
        "_rs_lost",
        "_rs_rate",
        "_started",
        "_undo",
        "_undo_state",
        "_up_acked",
        "_up_acked_per_step",
        "_up_rounds",
        "_was_filled",
        "datagram",
        "in_flight",
        "rate",
        "state",
        "window",
    )

    def __init__(self, datagram: int, random: Callable[[int], bytes]) -> None:
        self._random = random
        self.datagram = datagram
        self.window = INITIAL_DATAGRAMS * datagram
        self.rate = _STARTUP_PACING_GAIN * self.window / INITIAL_RTT
        self.in_flight = 0
        self.state = State.STARTUP
        self._started = False
        """A round trip was measured: `rate` no longer rests on a guess."""
        # Delivery rate (4.1)
        self._delivered = 0
        self._delivered_time = 0.0
        self._first_send_time = 0.0
        self._lost = 0
        self._app_limited = 0
        """`_delivered` up to which samples tell about the application; 0: they tell about the path."""
        self._held_back = False
        """Window or rate held back what was sent before the last acknowledgement."""
        self._filled = self._was_filled = False
        """The window was used up at some moment of this round trip, of the one before."""
        self._rs_rate = 0.0
        self._rs_delivered = 0
        self._rs_in_flight = 0
        self._rs_lost = 0
        self._rs_app_limited = False
        # The model
        self._bw = 0.0
        self._bw_now = self._bw_previous = 0.0
        """The best sample of this cycle of probes, and of the one before."""
        self._min_rtt = _INF
        self._min_rtt_stamp: float | None = None
        self._inflight_high: float = _INF
        """Whole bytes, since the window is compared with it."""
        self._bw_low = _INF
        self._inflight_low = _INF
        self._extra_acked: deque[tuple[int, float]] = deque()
        """(round, bytes) of which the first is the most in the last rounds, the second the most after it, and so on."""
        self._extra_start = 0.0
        self._extra_delivered = 0
        # Rounds, and losses in them
        self._round_count = 0
        self._round_start = False
        self._next_round_delivered = 0
        self._loss_round_delivered = 0
        self._loss_round_start = False
        self._loss_in_round = False
        self._loss_round_begins = False
        """A round of losses lasts until something is acknowledged that left after the acknowledgement at hand."""
        self._loss_ranges = 0
        self._lost_end = -1
        self._bw_latest = 0.0
        self._inflight_latest = 0
        # Full pipe
        self._full_bw = 0.0
        self._full_bw_count = 0
        self._full_bw_now = False
        self._full_bw_reached = False
        self._drain_start_round = 0
        # Probing for bandwidth
        self._acks = _Acks.INIT
        self._is_probe_sample = False
        self._probe_too_high = False
        self._probe_precautionary = False
        self._cycle_stamp = 0.0
        self._probe_wait = 0.0
        self._rounds_since_probe = 0
        self._up_rounds = 0
        self._up_acked = 0
        self._up_acked_per_step = _INF
        # Probing for the round trip
        self._probe_rtt_delay = _INF
        self._probe_rtt_stamp = 0.0
        self._probe_rtt_expired = False
        self._probe_rtt_done: float | None = None
        self._probe_rtt_round_done = False
        self._idle_restart = False
        # Recovery
        self._in_recovery = False
        self._recovery_start = -_INF
        self._prior_window = 0
        self._undo: tuple[float, float, float] | None = None
        self._undo_state: State | None = None

    @property
    def max_bw(self) -> float:
        """The most the path delivered lately, bytes per second."""
        return max(self._bw_now, self._bw_previous)

    @property
    def min_rtt(self) -> float:
        """The round trip of the empty path, seconds; infinity before the first."""
        return self._min_rtt

    @property
    def delivered(self) -> int:
        """Bytes acknowledged so far."""
        return self._delivered

    # --- events ----------------------------------------------------------------------------------------------------

    def on_sent(self, run: Sent) -> None:
        time = run.time
        if not self.in_flight:
            self._restart(time)
            self._first_send_time = self._delivered_time = time
        self.in_flight += run.bytes
        if self.in_flight > self.window - self.datagram:
            self._filled = True
        run.stamp = Stamp(
            self._delivered,
            self._delivered_time,
            self._first_send_time,
            self._app_limited != 0,
            self.in_flight,
            self._lost,
        )

    def on_acked(self, now: float, size: int, newest: Sent, rtt: Rtt, limited: bool) -> None:
        if not limited and self.in_flight < self.window:
            self._mark_app_limited()
        self._held_back = limited
        self.in_flight -= size
        stamp = newest.stamp
        assert stamp is not None
        self._sample(now, size, newest.time, stamp, rtt)
        if not self._started:
            self.on_round_trip(rtt)
        if self._in_recovery and newest.time > self._recovery_start:
            self._leave_recovery()
        self._update_latest_delivery_signals(stamp)
        self._update_congestion_signals(stamp)
        self._update_ack_aggregation(now, size)
        self._check_full_bw_reached()
        self._check_startup_done()
        self._check_drain_done(now)
        self._update_probe_bw_cycle_phase(now, size)
        self._update_min_rtt(now, now - newest.time)
        self._check_probe_rtt(now)
        if self._loss_round_start:
            self._bw_latest = self._rs_rate
            self._inflight_latest = self._rs_delivered
            self._loss_ranges = 0
        self._bw = min(self.max_bw, self._bw_low)
        self._set_rate(self.state.pacing_gain)
        self._set_window(size)

    def on_lost(self, now: float, size: int, runs: list[Sent]) -> bool:
        self.in_flight -= size
        begins = runs[-1].time > self._recovery_start
        if begins:
            if self._in_recovery:
                self._leave_recovery()
            self._enter_recovery(now)
        if not self._loss_in_round:
            self._loss_in_round = self._loss_round_begins = True
        for run in runs:
            self._lost += run.bytes
            if run.first != self._lost_end:
                self._loss_ranges += 1
            self._lost_end = run.first + run.count
            if self._is_probe_sample:
                self._judge_probe(now, run)
        return begins

    def on_discarded(self, size: int) -> None:
        self.in_flight -= size

    def on_persistent_congestion(self, now: float) -> None:
        """The draft's answer to a retransmission timeout (5.6.4.4): what the window was comes back with the path."""
        self._enter_recovery(now)
        self.window = self._min_pipe()

    def on_round_trip(self, rtt: Rtt) -> None:
        self._started = True
        self.rate = _STARTUP_PACING_GAIN * self.window / rtt.smoothed

    def undo(self, now: float) -> None:
        """A spurious loss recovery (5.5.11.2)."""
        if self._undo is None:
            return
        self.window = max(self.window, self._prior_window)
        self._loss_in_round = False
        self._reset_full_bw(0.0)
        bw_low, inflight_low, inflight_high = self._undo
        self._bw_low = max(self._bw_low, bw_low)
        self._inflight_low = max(self._inflight_low, inflight_low)
        self._inflight_high = max(self._inflight_high, inflight_high)
        before, self._undo_state, self._undo = self._undo_state, None, None
        if before is State.STARTUP and self.state is not State.STARTUP:
            self._full_bw_reached = False
            if self.state is not State.PROBE_RTT:
                self.state = State.STARTUP
        elif before is State.UP and self.state not in (State.UP, State.PROBE_RTT):
            self._start_refill()

    # --- delivery rate (4.1.2) ---------------------------------------------------------------------------------------

    def _sample(self, now: float, size: int, sent_time: float, stamp: Stamp, rtt: Rtt) -> None:
        self._delivered += size
        self._delivered_time = now
        self._first_send_time = sent_time
        if self._app_limited and self._delivered > self._app_limited:
            self._app_limited = 0
        interval = max(sent_time - stamp.first_send_time, now - stamp.delivered_time)
        self._rs_delivered = self._delivered - stamp.delivered
        self._rs_rate = self._rs_delivered / interval if interval >= rtt.minimum and interval > 0 else 0.0
        self._rs_in_flight = stamp.in_flight
        self._rs_lost = self._lost - stamp.lost
        self._rs_app_limited = stamp.app_limited

    def _mark_app_limited(self) -> None:
        self._app_limited = max(self._delivered + self.in_flight, 1)

    # --- rounds and short-term model (5.5) ---------------------------------------------------------------------------

    def _begin_round(self) -> None:
        self._next_round_delivered = self._delivered

    def _update_latest_delivery_signals(self, stamp: Stamp) -> None:
        self._loss_round_start = False
        if self._loss_round_begins:
            self._loss_round_begins = False
            self._loss_round_delivered = self._delivered
        self._bw_latest = max(self._bw_latest, self._rs_rate)
        self._inflight_latest = max(self._inflight_latest, self._rs_delivered)
        if stamp.delivered >= self._loss_round_delivered:
            self._loss_round_delivered = self._delivered
            self._loss_round_start = True

    def _update_congestion_signals(self, stamp: Stamp) -> None:
        self._round_start = stamp.delivered >= self._next_round_delivered
        if self._round_start:
            self._begin_round()
            self._round_count += 1
            self._rounds_since_probe += 1
            self._was_filled, self._filled = self._filled, False
        rate = self._rs_rate
        if rate > 0 and (rate >= self.max_bw or not self._rs_app_limited):
            self._bw_now = max(self._bw_now, rate)
        if not self._loss_round_start:
            return
        if self._loss_in_round and not self.state.accelerates:
            if self._bw_low == _INF:
                self._bw_low = self.max_bw
            if self._inflight_low == _INF:
                self._inflight_low = float(self.window)
            self._bw_low = max(self._bw_latest, _BETA * self._bw_low)
            self._inflight_low = max(self._inflight_latest, _BETA * self._inflight_low)
        self._loss_in_round = False

    def _reset_congestion_signals(self) -> None:
        self._loss_in_round = False
        self._bw_latest = 0.0
        self._inflight_latest = 0

    def _reset_short_term(self) -> None:
        self._bw_low = self._inflight_low = _INF

    def _update_ack_aggregation(self, now: float, size: int) -> None:
        expected = self._bw * (now - self._extra_start)
        if self._extra_delivered <= expected:
            self._extra_delivered = 0
            self._extra_start = now
            expected = 0.0
        self._extra_delivered += size
        extra = min(self._extra_delivered - expected, self.window)
        best = self._extra_acked
        while best and best[-1][1] <= extra:
            best.pop()
        best.append((self._round_count, extra))
        oldest = self._round_count - (_EXTRA_ACKED_ROUNDS if self._full_bw_reached else 1)
        while best[0][0] < oldest:
            best.popleft()

    def _update_min_rtt(self, now: float, rtt: float) -> None:
        assert self._min_rtt_stamp is not None
        self._probe_rtt_expired = now > self._probe_rtt_stamp + _PROBE_RTT_INTERVAL
        if rtt < self._probe_rtt_delay or self._probe_rtt_expired:
            self._probe_rtt_delay = rtt
            self._probe_rtt_stamp = now
        if self._probe_rtt_delay < self._min_rtt or now > self._min_rtt_stamp + _MIN_RTT_SECONDS:
            self._min_rtt = self._probe_rtt_delay
            self._min_rtt_stamp = self._probe_rtt_stamp

    # --- STARTUP and DRAIN (5.3.1, 5.3.2) ----------------------------------------------------------------------------

    def _reset_full_bw(self, baseline: float) -> None:
        self._full_bw = baseline
        self._full_bw_count = 0
        self._full_bw_now = False

    def _check_full_bw_reached(self) -> None:
        if self._full_bw_now or not self._round_start or self._rs_app_limited:
            return
        if self._rs_rate >= self._full_bw * _FULL_BW_GROWTH:
            self._reset_full_bw(self._rs_rate)
            return
        self._full_bw_count += 1
        self._full_bw_now = self._full_bw_count >= _FULL_BW_ROUNDS
        if self._full_bw_now:
            self._full_bw_reached = True

    def _check_startup_done(self) -> None:
        if (
            self._loss_round_start
            and not self._full_bw_reached
            and self._loss_ranges >= _STARTUP_FULL_LOSS_RANGES
            and self._in_flight_too_high()
        ):
            self._undo_state = State.STARTUP
            self._full_bw_reached = True
            self._inflight_high = int(max(self._bdp(1.0), self._inflight_latest))
        if self.state is State.STARTUP and self._full_bw_reached:
            self.state = State.DRAIN
            self._drain_start_round = self._round_count

    def _check_drain_done(self, now: float) -> None:
        if self.state is State.DRAIN and (
            self.in_flight <= self._inflight(1.0, self._bw)
            or self._round_count > self._drain_start_round + _DRAIN_ROUNDS
        ):
            self._start_down(now)

    # --- probing for bandwidth (5.3.3) -------------------------------------------------------------------------------

    def _start_down(self, now: float) -> None:
        self._reset_congestion_signals()
        self._up_acked_per_step = _INF
        lots = self._random(3)
        self._rounds_since_probe = lots[0] & 1
        self._probe_wait = _PROBE_WAIT_SECONDS + (lots[1] << 8 | lots[2]) / 65_536
        self._cycle_stamp = now
        self._acks = _Acks.STOPPING
        self._begin_round()
        self.state = State.DOWN

    def _start_refill(self) -> None:
        self._reset_short_term()
        self._up_rounds = 0
        self._up_acked = 0
        self._probe_precautionary = False
        self._acks = _Acks.REFILLING
        self._begin_round()
        self.state = State.REFILL

    def _start_up(self) -> None:
        self._acks = _Acks.STARTING
        self._begin_round()
        self._reset_full_bw(self._rs_rate)
        self.state = State.UP
        self._raise_slope()

    def _update_probe_bw_cycle_phase(self, now: float, size: int) -> None:
        if not self._full_bw_reached or self._adapt_long_term_model(size):
            return
        match self.state:
            case State.DOWN:
                if not self._probed_in_time(now) and self._is_time_to_cruise():
                    self.state = State.CRUISE
            case State.CRUISE:
                self._probed_in_time(now)
            case State.REFILL:
                if self._round_start:
                    self._is_probe_sample = True
                    self._start_up()
            case State.UP:
                if self._is_time_to_go_down():
                    self._probe_too_high = False
                    self._start_down(now)

    def _probed_in_time(self, now: float) -> bool:
        """Starts the next probe if it is time for it."""
        if now <= self._cycle_stamp + self._probe_wait:
            rounds = min(self._target_inflight() / self.datagram, _PROBE_WAIT_ROUNDS)
            if self._rounds_since_probe < rounds:
                return False
        self._start_refill()
        return True

    def _is_time_to_cruise(self) -> bool:
        return self.in_flight <= self._with_headroom() and self.in_flight <= self._inflight(1.0, self.max_bw)

    def _is_time_to_go_down(self) -> bool:
        if self._probe_too_high and self.in_flight >= self._inflight_high:
            self._probe_precautionary = True
            return True
        if self._window_limited and self.window >= self._inflight_high:
            self._reset_full_bw(self._rs_rate)
            return False
        return self._full_bw_now

    @property
    def _window_limited(self) -> bool:
        return self._filled or self._was_filled

    def _adapt_long_term_model(self, size: int) -> bool:
        """True if it decided on the next state."""
        if self._acks is _Acks.STARTING and self._round_start:
            self._acks = _Acks.FEEDBACK
        if self._acks is _Acks.STOPPING and self._round_start:
            self._is_probe_sample = False
            self._acks = _Acks.INIT
            if self.state.cycles:
                if not self._rs_app_limited and self._bw_now > 0:
                    self._bw_previous, self._bw_now = self._bw_now, 0.0
                if self._probe_precautionary and not self._probe_too_high:
                    self._start_refill()
                    return True
        if self._inflight_high == _INF or self._in_flight_too_high():
            return False
        self._inflight_high = max(self._inflight_high, self._rs_in_flight)
        if self.state is State.UP:
            self._probe_inflight_upward(size)
        return False

    def _probe_inflight_upward(self, size: int) -> None:
        if not self._window_limited or self.window < self._inflight_high:
            return
        self._up_acked += size
        if self._up_acked >= self._up_acked_per_step:
            steps = int(self._up_acked / self._up_acked_per_step)
            self._up_acked -= int(steps * self._up_acked_per_step)
            self._inflight_high += steps * self.datagram
        if self._round_start:
            self._raise_slope()

    def _raise_slope(self) -> None:
        growth = 1 << self._up_rounds
        self._up_rounds = min(self._up_rounds + 1, _UP_ROUNDS_LIMIT)
        self._up_acked_per_step = max(self.window / growth, float(self.datagram))

    def _in_flight_too_high(self) -> bool:
        return self._rs_lost > self._rs_in_flight * _LOSS_THRESHOLD

    def _judge_probe(self, now: float, run: Sent) -> None:
        """A run sent while probing was lost: was that too much (5.5.10.2)?"""
        stamp = run.stamp
        assert stamp is not None
        self._rs_in_flight = stamp.in_flight
        self._rs_lost = self._lost - stamp.lost
        if not self._in_flight_too_high():
            return
        size = run.bytes
        before = stamp.in_flight - size
        prefix = max((_LOSS_THRESHOLD * before - (self._rs_lost - size)) / (1 - _LOSS_THRESHOLD), 0.0)
        self._probe_too_high = True
        self._is_probe_sample = False
        if not stamp.app_limited:
            self._inflight_high = int(max(before + prefix, self._target_inflight() * _BETA))
        if self.state is State.UP:
            self._undo_state = State.UP
            self._start_down(now)

    # --- probing for the round trip (5.3.4) --------------------------------------------------------------------------

    def _check_probe_rtt(self, now: float) -> None:
        if self.state is not State.PROBE_RTT and self._probe_rtt_expired and not self._idle_restart:
            self._save_window()
            self.state = State.PROBE_RTT
            self._probe_rtt_done = None
            self._acks = _Acks.STOPPING
            self._begin_round()
        if self.state is State.PROBE_RTT:
            self._handle_probe_rtt(now)
        self._idle_restart = False

    def _handle_probe_rtt(self, now: float) -> None:
        self._mark_app_limited()
        if self._probe_rtt_done is None:
            if self.in_flight <= self._probe_rtt_window():
                self._probe_rtt_done = now + _PROBE_RTT_SECONDS
                self._probe_rtt_round_done = False
                self._begin_round()
            return
        if self._round_start:
            self._probe_rtt_round_done = True
        if self._probe_rtt_round_done:
            self._check_probe_rtt_done(now)

    def _check_probe_rtt_done(self, now: float) -> None:
        if self._probe_rtt_done is None or now <= self._probe_rtt_done:
            return
        self._probe_rtt_stamp = now
        self._restore_window()
        self._reset_short_term()
        if self._full_bw_reached:
            self._start_down(now)
            self.state = State.CRUISE
        else:
            self.state = State.STARTUP

    def _probe_rtt_window(self) -> float:
        return max(self._bdp(0.5), self._min_pipe())

    def _restart(self, now: float) -> None:
        """Something leaves while nothing is in flight (5.4.1)."""
        if self._min_rtt_stamp is None:
            self._min_rtt_stamp = self._probe_rtt_stamp = self._extra_start = now
            return
        if self._held_back:
            return
        self._mark_app_limited()
        self._idle_restart = True
        self._extra_start = now
        if self.state.cycles:
            self._set_rate(1.0)
        elif self.state is State.PROBE_RTT:
            self._check_probe_rtt_done(now)

    # --- recovery (5.6.4.4) ------------------------------------------------------------------------------------------

    def _enter_recovery(self, now: float) -> None:
        self._save_window()
        self._in_recovery = True
        self._recovery_start = now
        self._undo_state = None
        self._undo = (self._bw_low, self._inflight_low, self._inflight_high)

    def _leave_recovery(self) -> None:
        self._in_recovery = False
        self._restore_window()
        self._bound_window()

    def _save_window(self) -> None:
        if self._in_recovery or self.state is State.PROBE_RTT:
            self._prior_window = max(self._prior_window, self.window)
        else:
            self._prior_window = self.window

    def _restore_window(self) -> None:
        self.window = max(self.window, self._prior_window)

    # --- rate and window (5.6) ---------------------------------------------------------------------------------------

    def _set_rate(self, gain: float) -> None:
        rate = gain * self._bw * _PACING_MARGIN
        if rate > 0 and (self._full_bw_reached or rate > self.rate):
            self.rate = rate

    def _set_window(self, size: int) -> None:
        most = self._quantized(self._bdp(self.state.window_gain) + self._extra_acked[0][1])
        if self._full_bw_reached:
            self.window = min(self.window + size, int(most))
        elif self.window < most or self._delivered < INITIAL_DATAGRAMS * self.datagram:
            self.window += size
        self.window = max(self.window, self._min_pipe())
        if self.state is State.PROBE_RTT:
            self.window = min(self.window, int(self._probe_rtt_window()))
        self._bound_window()

    def _bound_window(self) -> None:
        cap = _INF
        if self.state is State.CRUISE or self.state is State.PROBE_RTT:
            cap = self._with_headroom()
        elif self.state.cycles:
            cap = self._inflight_high
        cap = max(min(cap, self._inflight_low), self._min_pipe())
        if cap < self.window:
            self.window = int(cap)

    def _min_pipe(self) -> int:
        return _MIN_PIPE_DATAGRAMS * self.datagram

    def _bdp(self, gain: float) -> float:
        if self._min_rtt == _INF:
            return float(INITIAL_DATAGRAMS * self.datagram)
        return gain * self._bw * self._min_rtt

    def _target_inflight(self) -> float:
        return min(self._bdp(1.0), self.window)

    def _quantized(self, in_flight: float) -> float:
        quantum = max(min(self.rate * BURST_SECONDS, BURST_MAX), 2 * self.datagram)
        in_flight = max(in_flight, quantum, self._min_pipe())
        return in_flight + 2 * self.datagram if self.state is State.UP else in_flight

    def _inflight(self, gain: float, bw: float) -> float:
        return self._quantized(_INF if self._min_rtt == _INF else gain * bw * self._min_rtt)

    def _with_headroom(self) -> float:
        if self._inflight_high == _INF:
            return _INF
        headroom = max(self.datagram, _HEADROOM * self._inflight_high)
        return max(self._inflight_high - headroom, self._min_pipe())
