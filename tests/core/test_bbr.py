"""BBR by hand-computed numbers of draft-ietf-ccwg-bbr-06, and the cases of its appendix A on a modelled path."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from covey.core.bbr import Bbr, State
from covey.core.recovery import Sent
from covey.core.rtt import Rtt
from covey.testing.bottleneck import Bottleneck, Flow

SIZE = 1200
RATE = 10e6
RTT = 0.04
BDP = RATE * RTT / 8


class Path:
    """A controller and its round trips, driven by hand."""

    def __init__(self, rtt: float = 0.1) -> None:
        self.bbr = Bbr(SIZE, random.Random(7).randbytes)
        self.rtt = Rtt()
        self.round_trip = rtt
        self.next = 0

    def send(self, time: float, count: int) -> Sent:
        sent = Sent(self.next, count, time, SIZE, SIZE, items=[("ping",)])
        self.next += count
        self.bbr.on_sent(sent)
        return sent

    def acknowledge(self, now: float, *runs: Sent, limited: bool = True) -> None:
        self.rtt.sample(now - runs[-1].time, 0.0)
        self.bbr.on_acked(now, sum(run.bytes for run in runs), runs[-1], self.rtt, limited)


def settled(*, queue: float = 1.0, rate: float = RATE, seconds: float = 4.0) -> tuple[Bottleneck, Flow, Bbr]:
    """A flow that knows its path."""
    path = Bottleneck(rate_bits_s=rate, queue_bytes=int(queue * rate * RTT / 8), seed=3)
    flow = path.flow("bbr", rtt_s=RTT)
    path.run(seconds)
    assert isinstance(flow.congestion, Bbr)
    return path, flow, flow.congestion


def until(path: Bottleneck, reached: Callable[[], bool], seconds: float = 30.0) -> None:
    end = path.now + seconds
    while not reached():
        assert path.now < end
        path.run(0.002)


# --- delivery rate (4.1) ---------------------------------------------------------------------------------------------


def test_first_sample_is_the_train_over_its_round_trip() -> None:
    path = Path()
    path.acknowledge(10.1, path.send(10.0, 10))
    assert path.bbr.max_bw == pytest.approx(10 * SIZE / 0.1)
    assert path.bbr.min_rtt == pytest.approx(0.1)


def test_sample_is_the_slower_of_sending_and_arriving() -> None:
    """Three trains sent over 60 ms arrive within 1 ms: the path did not deliver 36 kB in that millisecond."""
    path = Path()
    runs = [path.send(10.0 + 0.03 * number, 10) for number in range(3)]
    path.acknowledge(10.16, runs[0])
    first = 10 * SIZE / 0.16
    assert path.bbr.max_bw == pytest.approx(first)
    path.acknowledge(10.161, *runs[1:])
    # The newest left at 10.06: 36,000 bytes since 10.0, when nothing was in flight.
    assert path.bbr.max_bw == pytest.approx(max(first, 30 * SIZE / (10.161 - 10.0)))


def test_sample_begins_with_the_last_delivery_before_the_run_left() -> None:
    path = Path()
    one, two = path.send(10.0, 10), path.send(10.05, 10)
    path.acknowledge(10.1, one)
    three = path.send(10.1, 10)
    path.acknowledge(10.15, two)
    path.acknowledge(10.2, three)
    # 24,000 bytes between the delivery at 10.1 and now.
    assert path.bbr._rs_rate == pytest.approx(20 * SIZE / 0.1)


def test_samples_after_a_pause_of_the_application_say_nothing_against_the_path() -> None:
    path = Path()
    path.acknowledge(10.1, path.send(10.0, 30))
    best = path.bbr.max_bw
    path.acknowledge(10.3, path.send(10.2, 2), limited=False)
    slow = path.send(10.4, 2)
    assert slow.stamp is not None
    assert slow.stamp.app_limited
    path.acknowledge(10.5, slow, limited=False)
    assert path.bbr.max_bw == best
    path.acknowledge(10.7, path.send(10.6, 60), limited=False)
    assert path.bbr.max_bw == pytest.approx(60 * SIZE / 0.1)


def test_parts_of_a_run_share_what_was_known_when_it_left() -> None:
    path = Path()
    whole = path.send(10.0, 10)
    assert whole.part(3, 7).stamp is whole.stamp


# --- rate and window (5.6) -------------------------------------------------------------------------------------------


def test_startup_paces_at_2_77_windows_per_round_trip() -> None:
    path = Path()
    path.rtt.sample(0.1, 0.0)
    path.bbr.on_round_trip(path.rtt)
    assert path.bbr.rate == pytest.approx(2.77 * 32 * SIZE / 0.1)
    # 32 datagrams arrived in 0.1 s: 2.77 times that, less one per cent, is no more than before.
    path.acknowledge(10.1, path.send(10.0, 32))
    assert path.bbr.rate == pytest.approx(2.77 * 32 * SIZE / 0.1)
    path.acknowledge(10.2, path.send(10.1, 64))
    assert path.bbr.rate == pytest.approx(0.99 * 2.77 * 64 * SIZE / 0.1)


def test_startup_window_grows_by_what_arrives_up_to_two_bandwidth_delay_products() -> None:
    path = Path()
    path.acknowledge(10.1, path.send(10.0, 32))
    assert path.bbr.window == 64 * SIZE
    # 32 datagrams each round: the model says 2 x 32 and what came at once beyond the model (32 at most).
    for number in range(1, 6):
        path.acknowledge(10.1 + 0.1 * number, path.send(10.0 + 0.1 * number, 32))
    assert 64 * SIZE <= path.bbr.window <= (64 + 32 + 32) * SIZE


def test_pipe_is_full_after_three_rounds_without_a_quarter_more() -> None:
    path = Path()
    counts = [32, 64, 128, 130, 131]
    for number, count in enumerate(counts):
        path.acknowledge(10.1 + 0.1 * number, path.send(10.0 + 0.1 * number, count))
        assert path.bbr.state is State.STARTUP
    path.acknowledge(10.6, path.send(10.5, 132))
    # Nothing is in flight: DRAIN and DOWN are over with the same acknowledgement.
    assert path.bbr.state is State.CRUISE


def test_plateau_of_the_application_is_none_of_the_path() -> None:
    path = Path()
    for number in range(20):
        path.acknowledge(10.1 + number, path.send(10.0 + number, 4), limited=False)
    assert path.bbr.state is State.STARTUP


def lossy_startup(second: int) -> Path:
    """Losses begin a round, and `second` single datagrams are lost in it, of 100 in flight."""
    path = Path()
    path.acknowledge(10.1, path.send(10.0, 100))
    runs = [path.send(10.101 + 0.001 * number, 10) for number in range(10)]
    path.bbr.on_lost(10.2, SIZE, [runs[0].part(0, 1)])
    path.acknowledge(10.2, runs[0].part(1, 10))
    newest = path.send(10.21, 1)
    path.bbr.on_lost(10.3, second * SIZE, [run.part(4, 5) for run in runs[1 : 1 + second]])
    assert path.bbr.state is State.STARTUP
    path.acknowledge(10.31, newest)
    return path


def test_losses_in_six_places_of_one_round_end_startup() -> None:
    """More than 2 % in at least six ranges, a round after the first loss (5.3.1.3)."""
    bbr = lossy_startup(6).bbr
    assert bbr.state is not State.STARTUP
    assert bbr._inflight_high == pytest.approx(100 * SIZE, abs=1)  # 1.2 MB/s x 0.1 s


def test_losses_in_four_places_do_not_end_startup() -> None:
    assert lossy_startup(4).bbr.state is State.STARTUP


def test_startup_ended_by_losses_goes_on_when_they_were_none() -> None:
    bbr = lossy_startup(6).bbr
    bbr.undo(10.32)
    assert bbr.state is State.STARTUP
    assert bbr._inflight_high == float("inf")


# --- probing (5.3.3) -------------------------------------------------------------------------------------------------


def probing() -> tuple[Path, list[Sent]]:
    """In the middle of UP, 100 datagrams in flight of which each left alone."""
    path = Path()
    bbr = path.bbr
    path.acknowledge(10.1, path.send(10.0, 100))
    bbr.state = State.UP
    bbr._full_bw_reached = bbr._is_probe_sample = True
    return path, [path.send(10.1 + number / 10_000, 1) for number in range(100)]


def test_probe_too_high_remembers_where_losses_crossed_two_per_cent() -> None:
    path, runs = probing()
    path.bbr.on_lost(10.2, SIZE, runs[99:])
    assert path.bbr._inflight_high == float("inf")
    path.bbr.on_lost(10.21, SIZE, runs[98:99])
    # The second: of the 98 in flight before it one was lost, 0.02 x 98 - 1 were still to be borne.
    assert path.bbr._inflight_high == int((98 + 0.96 / 0.98) * SIZE)
    assert path.bbr.state is State.DOWN


def test_lost_train_counts_as_far_as_it_fitted() -> None:
    """20 datagrams lost of which 80 were in flight before: (0.02 x 80) / 0.98 of them would have been bearable."""
    path = Path()
    path.acknowledge(10.1, path.send(10.0, 100))
    path.bbr.state = State.UP
    path.bbr._full_bw_reached = path.bbr._is_probe_sample = True
    path.send(10.1, 80)
    path.bbr.on_lost(10.2, 20 * SIZE, [path.send(10.11, 20)])
    assert path.bbr._inflight_high == int((80 + 1.6 / 0.98) * SIZE)


def test_probe_too_high_never_gives_up_more_than_cubic_would() -> None:
    """0.7 of the window or of the model, whatever was in flight."""
    path = Path()
    path.acknowledge(10.1, path.send(10.0, 100))
    path.bbr.state = State.UP
    path.bbr._full_bw_reached = path.bbr._is_probe_sample = True
    path.bbr.on_lost(10.2, 5 * SIZE, [path.send(10.1, 5)])
    assert path.bbr._inflight_high == int(0.7 * 100 * SIZE)


def test_probe_is_judged_once() -> None:
    path, runs = probing()
    path.bbr.on_lost(10.2, 10 * SIZE, runs[90:])
    high = path.bbr._inflight_high
    path.bbr.on_lost(10.21, 10 * SIZE, runs[80:90])
    assert path.bbr._inflight_high == high


def test_bound_grows_by_1_2_4_datagrams_a_round() -> None:
    """The slope of 5.3.3.5: a window acknowledged raises the bound by twice what the one before did."""
    path = Path()
    bbr = path.bbr
    bbr.window = bbr._inflight_high = 64 * SIZE
    grown = []
    for _ in range(4):
        bbr._raise_slope()
        bbr._filled = True
        before = bbr._inflight_high
        for _ in range(64):
            bbr.window = int(bbr._inflight_high)
            bbr._probe_inflight_upward(SIZE)
        grown.append((bbr._inflight_high - before) / SIZE)
    assert grown == pytest.approx([1, 2, 4, 8], abs=1)


def test_losses_while_cruising_lower_the_short_term_bounds_by_three_tenths_at_most() -> None:
    path = Path()
    bbr = path.bbr
    path.acknowledge(10.1, path.send(10.0, 100))
    bbr.state, bbr._full_bw_reached, bbr._cycle_stamp, bbr._probe_wait = State.CRUISE, True, 10.0, 3.0
    path.acknowledge(10.2, path.send(10.11, 1))
    window, model = bbr.window, bbr.max_bw
    whole = path.send(10.25, 11)
    bbr.on_lost(10.35, 10 * SIZE, [whole.part(0, 10)])
    path.acknowledge(10.35, whole.part(10, 11))
    path.acknowledge(10.5, path.send(10.4, 10))
    assert bbr._bw_low == pytest.approx(0.7 * model)
    assert bbr._inflight_low == pytest.approx(0.7 * (window + SIZE))
    assert bbr.window == int(0.7 * (window + SIZE))


def test_late_arrivals_take_the_judgement_of_a_probe_back() -> None:
    path, runs = probing()
    window = path.bbr.window
    path.bbr.on_lost(10.2, 10 * SIZE, runs[90:])
    assert path.bbr.state is State.DOWN
    path.bbr.undo(10.25)
    assert path.bbr._inflight_high == float("inf")
    assert path.bbr.window >= window
    assert path.bbr.state is State.REFILL


# --- appendix A ------------------------------------------------------------------------------------------------------


def test_startup_finds_the_bandwidth_and_drains_the_queue() -> None:
    path, _, bbr = settled(queue=8.0, seconds=0.0)
    until(path, lambda: bbr.state is State.DRAIN)
    assert bbr.max_bw == pytest.approx(RATE / 8, rel=0.02)
    assert path.backlog > 0.3 * BDP
    until(path, lambda: bbr.state is not State.DRAIN, 0.5)
    assert path.backlog < 0.15 * BDP


def test_drain_ends_after_three_rounds_on_a_path_that_became_slower() -> None:
    path, _, bbr = settled(queue=8.0, seconds=0.0)
    until(path, lambda: bbr.state is State.DRAIN)
    path.rate_bits_s *= 0.3
    rounds = bbr._round_count
    until(path, lambda: bbr.state is not State.DRAIN)
    assert bbr._round_count == rounds + 4


def test_states_follow_each_other_as_drawn() -> None:
    path, _, bbr = settled(queue=4.0, seconds=1.0)
    seen = [bbr.state]
    for _ in range(8000):
        path.run(0.001)
        if bbr.state is not seen[-1]:
            seen.append(bbr.state)
    allowed = {
        State.DOWN: {State.CRUISE, State.REFILL, State.PROBE_RTT},
        State.CRUISE: {State.REFILL, State.PROBE_RTT},
        State.REFILL: {State.UP, State.PROBE_RTT},
        State.UP: {State.DOWN, State.PROBE_RTT},
        State.PROBE_RTT: {State.CRUISE, State.STARTUP},
    }
    assert all(after in allowed[before] for before, after in itertools.pairwise(seen))
    assert set(seen) == set(allowed)


def test_round_trip_is_probed_every_five_seconds_for_200_ms_at_half_a_pipe() -> None:
    path, flow, bbr = settled(queue=4.0)
    until(path, lambda: bbr.state is State.PROBE_RTT)
    begun = path.now
    assert begun == pytest.approx(100.0 + 5, abs=0.7)
    path.run(0.15)
    assert flow.congestion.in_flight <= 0.55 * BDP
    until(path, lambda: bbr.state is not State.PROBE_RTT)
    assert 0.2 <= path.now - begun <= 0.2 + 4 * RTT
    assert bbr.state is State.CRUISE
    assert bbr.min_rtt == pytest.approx(RTT, rel=0.05)


def test_round_trip_is_not_probed_where_the_application_paused() -> None:
    path, flow, bbr = settled()
    flow.hungry = False
    path.run(7.0)
    flow.hungry = True
    flow.send()
    for _ in range(300):
        path.run(0.001)
        assert bbr.state is not State.PROBE_RTT


def test_startup_goes_on_after_the_round_trip_was_probed() -> None:
    path = Path()
    path.send(10.0, 1)  # never acknowledged: something is always in flight
    now, states = 10.0, []
    while now < 17:
        path.acknowledge(now + 0.1, path.send(now, 4), limited=False)
        path.bbr._probe_rtt_delay = 0.05  # no sample is shorter
        now += 0.1
        states.append(path.bbr.state)
    assert [state for state, _ in itertools.groupby(states)] == [State.STARTUP, State.PROBE_RTT, State.STARTUP]


def test_ten_times_the_bandwidth_is_found() -> None:
    path, flow, _ = settled(rate=RATE / 10)
    path.rate_bits_s *= 10
    path.queue_bytes *= 10
    path.run(9.0)
    before = flow.delivered
    path.run(1.0)
    assert flow.rate_bits_s(before, 1.0) > 0.85 * path.rate_bits_s


def test_tenth_of_the_bandwidth_is_followed_down() -> None:
    path, flow, bbr = settled()
    path.rate_bits_s /= 10
    path.run(3.0)
    assert bbr.rate < 0.5 * RATE / 8
    path.run(14.0)
    assert bbr.max_bw == pytest.approx(RATE / 80, rel=0.1)
    before, dropped, sent = flow.delivered, path.dropped, flow.sent
    path.run(10.0)
    assert flow.rate_bits_s(before, 10.0) > 0.85 * path.rate_bits_s
    assert path.dropped - dropped < 0.05 * (flow.sent - sent) / 1452


def test_policer_is_obeyed() -> None:
    """No queue but the ten datagrams that a pacer may send at once."""
    path, flow, _ = settled(queue=0.3)
    before, dropped, sent = flow.delivered, path.dropped, flow.sent
    path.run(5.0)
    assert flow.rate_bits_s(before, 5.0) > 0.85 * RATE
    assert path.dropped - dropped < 0.02 * (flow.sent - sent) / 1452


def test_path_of_less_than_a_datagram_keeps_four_in_flight() -> None:
    path = Bottleneck(rate_bits_s=256_000, queue_bytes=20_000, seed=1)
    flow = path.flow("bbr", rtt_s=0.01)
    path.run(20.0)
    before = flow.delivered
    path.run(10.0)
    assert flow.congestion.window >= 4 * 1452
    assert flow.rate_bits_s(before, 10.0) > 0.9 * 256_000
