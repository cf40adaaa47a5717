"""What congestion control is to a path: two numbers out, what happened to the packets in.

`window` and `rate` are all that the sender asks for. Recovery reports every run that left, was acknowledged or was
lost; a controller answers by changing the two. Controllers know nothing of streams, frames or timers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from covey.base.types import CongestionControl
from covey.core.bbr import Bbr
from covey.core.cubic import Cubic

if TYPE_CHECKING:
    from covey.core.recovery import Sent
    from covey.core.rtt import Rtt

__all__ = ["Congestion", "controller"]


class Congestion(Protocol):
    """The controller of one path. All sizes in bytes of UDP payload, times in seconds, rates in bytes per second.

    Order of calls for one acknowledgement: `undo` if it proves the last loss a mistake, `on_lost` for what it shows to
    be lost, then `on_acked` (RFC 9002, A.7). `in_flight` is up to date after each.
    """

    datagram: int
    """Size of a full datagram; set by the path whenever its MTU changes."""
    window: int
    """What may be in flight."""
    rate: float
    """How fast it may leave."""
    in_flight: int

    def on_sent(self, run: Sent) -> None:
        """An ack-eliciting run left, with `run.time` as the time."""

    def on_acked(self, now: float, size: int, newest: Sent, rtt: Rtt, limited: bool) -> None:
        """`size` bytes arrived, `newest` the last run among them; `rtt` knows of it already.

        `limited`: window or rate, not the application, held back the last transmission.
        """

    def on_lost(self, now: float, size: int, runs: list[Sent]) -> bool:
        """`runs`, `size` bytes together, oldest first, are taken for lost. True if that began a new reduction."""
        ...

    def on_discarded(self, size: int) -> None:
        """In-flight bytes that will never be acknowledged, for a reason that has nothing to do with congestion."""

    def on_persistent_congestion(self, now: float) -> None:
        """Nothing came through for several probe timeouts (RFC 9002, 7.6)."""

    def on_round_trip(self, rtt: Rtt) -> None:
        """The round trip was measured before anything was sent."""

    def undo(self, now: float) -> None:
        """Everything that the last reduction took for lost has arrived after all."""


def controller(algorithm: CongestionControl, datagram: int, random: Callable[[int], bytes]) -> Congestion:
    """A new controller for a path of `datagram` bytes. `random(n)`: n bytes, for those that draw lots."""
    return Bbr(datagram, random) if algorithm == "bbr" else Cubic(datagram)
