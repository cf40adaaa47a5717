"""Other agents: `find`, `peers`, `ping`."""

from __future__ import annotations

import threading
from functools import partial
from typing import Annotated

import msgspec
import typer

from covey.base.schema import Items, PeerView, PingView
from covey.cli import render
from covey.cli.client import path_with
from covey.cli.command import Call, Outcome, command
from covey.cli.node import milliseconds

__all__ = ["PeerArgument", "find", "peers", "ping", "register", "show_peer", "told_text"]

PeerArgument = Annotated[str, typer.Argument(help="A name, address or identity.", show_default=False)]


class PingSummary(msgspec.Struct, frozen=True):
    """What `ping` prints as data."""

    items: list[PingView]
    min_ms: float
    avg_ms: float
    max_ms: float


def register(app: typer.Typer) -> None:
    command(app, "find")(find)
    command(app, "peers")(peers)
    command(app, "ping")(ping)


def find(call: Call, peer: PeerArgument) -> Outcome:
    """Look an agent up in the network."""
    with call.client() as client:
        view = client.get(path_with("/v1/find", peer), PeerView)
    next_step = f"covey handshake {peer}" if view.trust == "unknown" else ""
    return Outcome(view, partial(show_peer, view), next_step)


def peers(call: Call) -> Outcome:
    """List the known agents and how they are reached."""
    with call.client() as client:
        found = client.get("/v1/peers", Items[PeerView])
    return Outcome(found, partial(show_peers, found.items))


def ping(
    call: Call,
    peer: PeerArgument,
    count: Annotated[int, typer.Option("-c", "--count", min=1, max=10_000, help="How many round trips.")] = 4,
    interval: Annotated[float, typer.Option("--interval", min=0.0, help="Seconds between them.")] = 0.5,
) -> Outcome:
    """Measure the round trip to a trusted peer."""
    results: list[PingView] = []
    pause = threading.Event()
    with call.client() as client:
        for number in range(count):
            if number:
                pause.wait(interval)
            view = client.post("/v1/ping", PingView, peer=peer)
            results.append(view)
            if not call.json:
                path = f"{view.path.kind} {view.path.remote}".strip()
                render.line(f"{view.name}: {view.rtt_ms:.2f} ms  {path}")
                render.flush()
    times = [view.rtt_ms for view in results]
    summary = PingSummary(results, min(times), sum(times) / len(times), max(times))
    text = f"min {summary.min_ms:.2f}  avg {summary.avg_ms:.2f}  max {summary.max_ms:.2f} ms"
    return Outcome(summary, partial(render.line, text))


def show_peers(items: list[PeerView]) -> None:
    """A table of peers."""
    render.table(
        ("NAME", "ADDRESS", "TRUST", "CONNECTED", "PATH", "RTT ms", "MTU", "QUEUED"),
        [
            (
                render.safe(peer.name),
                peer.address,
                f"{peer.trust}, {peer.told}" if peer.told in ("queued", "sealed") else peer.trust,
                "yes" if peer.connected else "no",
                *_active_path(peer),
                str(peer.queued),
            )
            for peer in items
        ],
        empty="no peers yet; next: covey handshake PEER",
    )


def show_peer(peer: PeerView) -> None:
    """One peer, all of it."""
    render.line(f"{render.safe(peer.name)}  {peer.address}")
    kind, rtt, mtu = _active_path(peer)
    known = peer.since is not None and peer.trust != "unknown"
    render.fields(
        [
            ("identity", peer.identity),
            ("trust", peer.trust + (f" since {render.when(peer.since)}" if known else "")),
            ("told", told_text(peer)),
            ("reason", render.safe(peer.reason)),
            ("safety number", peer.safety_number),
            ("connected", f"yes, {kind}, {rtt} ms, datagrams of {mtu} bytes" if peer.connected else "no"),
            ("queued", str(peer.queued) if peer.queued else ""),
            ("witnesses", _witness_text(peer)),
            ("warning", render.safe(peer.warning)),
        ]
    )


def told_text(peer: PeerView) -> str:
    """Where our last word about trust is; "" if there is nothing to say."""
    match peer.told:
        case "delivered":
            return "the peer has our word on disk"
        case "sealed":
            where = " and ".join(peer.told_at)
            return f"our word waits, sealed, at {where} until {render.when(peer.told_until)}, or until the peer is up"
        case "queued":
            why = f" ({render.safe(peer.told_problem)})" if peer.told_problem else ""
            return f"our word waits on this machine{why}; it is brought as soon as there is a way"
    return ""


def _active_path(peer: PeerView) -> tuple[str, str, str]:
    """Kind, round trip in milliseconds, and bytes of a full datagram, of the path that carries the data."""
    for path in peer.paths:
        if path.active and peer.connected:
            return path.kind, milliseconds(path.rtt_ms), str(path.mtu)
    return "-", "-", "-"


def _witness_text(peer: PeerView) -> str:
    if not peer.witnesses:
        return ""
    if peer.witnesses == 1:
        return "1 rendezvous: only the safety number protects this first contact"
    return f"{peer.witnesses} rendezvous gave the same answer"
