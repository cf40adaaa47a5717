from __future__ import annotations

from covey.core import limits
from covey.core.cubic import Cubic
from covey.core.mtu import TALK
from covey.core.path import Path, Route
from covey.core.recovery import Sent

REMOTE = ("10.0.0.2", 4000)


def test_route_of_a_relay_costs_eight_bytes() -> None:
    assert (Route(0, REMOTE, 7).outer, Route(0, REMOTE, 7).relayed) == (8, True)
    assert (Route(0, REMOTE).outer, Route(0, REMOTE).relayed) == (0, False)


def test_path_begins_with_the_size_every_path_must_carry() -> None:
    path = Path(3, Route(0, REMOTE), 5.0, Cubic(limits.INITIAL_MTU))
    assert (path.id, path.counter, path.mtu, path.suspect) == (3, 0, limits.INITIAL_MTU, False)
    assert path.last_sent == 5.0


def path(congestion_window: int = 1_000_000) -> Path:
    made = Path(0, Route(0, REMOTE), 0.0, Cubic(limits.INITIAL_MTU))
    made.recovery.congestion.window = congestion_window
    made.bulk_bytes = TALK
    return made


def sent(counter: int, size: int) -> Sent:
    return Sent(counter, 1, 0.0, size, size, items=[("ping",)])


def test_path_uses_what_a_probe_proved_and_congestion_control_knows() -> None:
    a = path()
    assert a.next_mtu_probe(0.0) == 1472
    a.on_mtu_probe(1472, arrived=True)
    assert a.mtu == a.recovery.congestion.datagram == 1472


def test_path_of_ipv6_has_twenty_bytes_less() -> None:
    a = Path(0, Route(0, ("2001:db8::1", 4000)), 0.0, Cubic(limits.INITIAL_MTU))
    a.bulk_bytes = TALK
    assert a.next_mtu_probe(0.0) == 1452


def test_path_in_trouble_is_not_probed() -> None:
    a = path()
    a.recovery.pto_count = 1
    assert a.next_mtu_probe(0.0) == 0
    a.recovery.pto_count = 0
    a.suspect = True
    assert a.next_mtu_probe(0.0) == 0
    a.suspect = False
    assert a.next_mtu_probe(0.0) == 1472


def test_path_that_loses_large_datagrams_and_carries_small_ones_goes_back() -> None:
    a = path()
    a.on_mtu_probe(1472, arrived=True)
    small, large = sent(9, 100), sent(1, 1472)
    a.weigh_losses([small], [large])
    a.weigh_losses([small], [large])
    a.weigh_losses([small, sent(10, 1472)], [large])  # one arrived: those were chance
    a.weigh_losses([small], [large])
    a.weigh_losses([small], [small])  # says nothing
    a.weigh_losses([small], [large])
    assert a.mtu == 1472
    a.weigh_losses([small], [large])
    assert a.mtu == a.recovery.congestion.datagram == limits.INITIAL_MTU
    assert a.next_mtu_probe(0.0) == 1472


def test_lost_probes_of_the_size_are_no_evidence() -> None:
    a = path()
    a.on_mtu_probe(1472, arrived=True)
    for _ in range(5):
        a.weigh_losses([sent(9, 100)], [Sent(1, 1, 0.0, 8972, 8972, items=[("mtu", 8972)])])
    assert a.mtu == 1472
