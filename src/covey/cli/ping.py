"""`ping`: how long a round trip to a peer takes, which way it goes, and why that way."""

from __future__ import annotations

import threading
from functools import partial
from typing import Annotated

import msgspec
import typer

from covey.base.errors import UnreachableError
from covey.base.reasons import REASONS, reason
from covey.base.schema import PeerView, PingView
from covey.cli import render
from covey.cli.client import Client, path_with
from covey.cli.command import Call, Outcome, command
from covey.cli.peers import PeerArgument, advice, kind, percent, show_paths

__all__ = ["PingSummary", "ping", "register"]

_UNTIL_DIRECT_COUNT = 20
"""Round trips with `--until-direct`: at the usual interval ten seconds, as long as a round of probes lasts."""


_SETTLED_COUNT = 4
"""Round trips that find the same limit in the way: candidates are exchanged and NATs are measured by then."""


class PingSummary(msgspec.Struct, frozen=True):
    """What `ping` prints as data."""

    items: list[PingView]
    """Those that were answered."""
    sent: int
    min_ms: float
    avg_ms: float
    max_ms: float
    peer: PeerView
    """With all its paths afterwards, why the data takes the one it takes, and what to change."""

    @property
    def loss(self) -> float:
        return 1 - len(self.items) / self.sent


def register(app: typer.Typer) -> None:
    command(app, "ping")(ping)


def ping(
    call: Call,
    peer: PeerArgument,
    count: Annotated[
        int | None, typer.Option("-c", "--count", min=1, max=10_000, help="How many round trips; 4.")
    ] = None,
    interval: Annotated[float, typer.Option("--interval", min=0.0, help="Seconds between them.")] = 0.5,
    until_direct: Annotated[
        bool, typer.Option("--until-direct", help="Until the path is direct, at most 20 times; fails if it is not.")
    ] = False,
) -> Outcome:
    """Measure the round trip to a trusted peer.

    Shows the path, why the data takes it, and what to change if it could be better. With --until-direct it also ends
    when what stands in the way does not pass by itself.
    """
    most = count if count is not None else _UNTIL_DIRECT_COUNT if until_direct else 4
    answered: list[PingView] = []
    sent = 0
    pause = threading.Event()
    with call.client() as client:
        while sent < most and not (until_direct and _is_settled(answered)):
            if sent:
                pause.wait(interval)
            sent += 1
            view = _round_trip(client, peer, may_fail=bool(answered))
            if view is not None:
                answered.append(view)
            if not call.json:
                render.line(_line(answered[-1].name, view))
                render.flush()
        known = client.get(path_with("/v1/peers", answered[-1].identity), PeerView)
    times = [view.rtt_ms for view in answered]
    summary = PingSummary(answered, sent, min(times), sum(times) / len(times), max(times), known)
    relayed = until_direct and answered[-1].path.kind != "direct"
    return Outcome(summary, partial(_show, summary), error=_not_direct(known) if relayed else None)


def _is_settled(answered: list[PingView]) -> bool:
    """The path is direct, or what keeps it from that does not pass by itself."""
    last = [each.path for each in answered[-_SETTLED_COUNT:]]
    if last and last[-1].kind == "direct":
        return True
    return len(last) == _SETTLED_COUNT and all(reason(path.reason).standing != "passing" for path in last)


def _round_trip(client: Client, peer: str, *, may_fail: bool) -> PingView | None:
    """None if nothing came back. Who never answered is not lost but unreachable: that is raised."""
    try:
        return client.post("/v1/ping", PingView, peer=peer)
    except UnreachableError:
        if not may_fail:
            raise
        return None


def _line(name: str, view: PingView | None) -> str:
    if view is None:
        return f"{render.safe(name)}: no answer"
    path = view.path
    why = "" if path.reason == "direct" else f"  ({path.reason})"
    return f"{render.safe(name)}: {view.rtt_ms:.2f} ms  {kind(path)} {path.remote}{why}"


def _show(summary: PingSummary) -> None:
    show_paths(summary.peer.paths)
    if summary.peer.change:
        render.line(advice(summary.peer))
    render.line(
        f"{len(summary.items)} of {summary.sent} answered, {percent(summary.loss)} lost  "
        f"min {summary.min_ms:.2f}  avg {summary.avg_ms:.2f}  max {summary.max_ms:.2f} ms"
    )


def _not_direct(peer: PeerView) -> UnreachableError:
    why = peer.why if peer.why in REASONS else "peer-silent"
    return UnreachableError(f"the path is relayed: {peer.why_text}", code=why, next_step=peer.change)
