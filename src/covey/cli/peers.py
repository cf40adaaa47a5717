"""Other agents: `find` and `peers`, and how their paths are shown."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated

import typer

from covey.base.schema import Items, PathView, PeerView
from covey.cli import render
from covey.cli.client import path_with
from covey.cli.command import Call, Outcome, command
from covey.cli.node import milliseconds

__all__ = [
    "PeerArgument",
    "advice",
    "find",
    "kind",
    "peers",
    "percent",
    "register",
    "show_paths",
    "show_peer",
    "told_text",
]

PeerArgument = Annotated[str, typer.Argument(help="A name, address or identity.", show_default=False)]


def register(app: typer.Typer) -> None:
    command(app, "find")(find)
    command(app, "peers")(peers)


def find(call: Call, peer: PeerArgument) -> Outcome:
    """Look an agent up in the network."""
    with call.client() as client:
        view = client.get(path_with("/v1/find", peer), PeerView)
    next_step = f"covey handshake {peer}" if view.trust == "unknown" else ""
    return Outcome(view, partial(show_peer, view), next_step)


def peers(
    call: Call,
    peer: Annotated[str | None, typer.Argument(help="Only this one, with all its paths.", show_default=False)] = None,
) -> Outcome:
    """List the known agents, how they are reached, and why so."""
    with call.client() as client:
        if peer is not None:
            view = client.get(path_with("/v1/peers", peer), PeerView)
            return Outcome(view, partial(show_peer, view))
        found = client.get("/v1/peers", Items[PeerView])
    return Outcome(found, partial(show_peers, found.items))


def show_peers(items: list[PeerView]) -> None:
    """A table of peers."""
    render.table(
        ("NAME", "ADDRESS", "TRUST", "PATH", "WHY", "RTT ms", "LOSS", "MTU", "QUEUED"),
        [
            (
                render.safe(peer.name),
                peer.address,
                f"{peer.trust}, {peer.told}" if peer.told in ("queued", "sealed") else peer.trust,
                *_row(peer),
                str(peer.queued),
            )
            for peer in items
        ],
        empty="no peers yet; next: covey handshake PEER",
    )
    for peer in items:
        if peer.change:
            render.line(advice(peer))


def advice(peer: PeerView) -> str:
    """Why the peer is reached as it is and what to change, in one line."""
    return f"{render.safe(peer.name or peer.address)}: {peer.why_text} ({peer.why}). Change: {render.safe(peer.change)}"


def show_peer(peer: PeerView) -> None:
    """One peer, all of it."""
    render.line(f"{render.safe(peer.name)}  {peer.address}")
    known = peer.since is not None and peer.trust != "unknown"
    render.fields(
        [
            ("identity", peer.identity),
            ("trust", peer.trust + (f" since {render.when(peer.since)}" if known else "")),
            ("told", told_text(peer)),
            ("reason", render.safe(peer.reason)),
            ("safety number", peer.safety_number),
            ("connected", "yes" if peer.connected else "no"),
            ("why", f"{peer.why_text} ({peer.why})" if peer.why else ""),
            ("change", render.safe(peer.change)),
            ("queued", str(peer.queued) if peer.queued else ""),
            ("witnesses", _witness_text(peer)),
            ("warning", render.safe(peer.warning)),
        ]
    )
    if peer.connected:
        show_paths(peer.paths)


def show_paths(paths: list[PathView]) -> None:
    """A table of the ways to one peer."""
    now = time.time()
    render.table(
        ("USED", "PATH", "REMOTE", "RTT ms", "LOSS", "MTU", "AGE", "SENT", "RECEIVED", "WHY"),
        [
            (
                "yes" if path.active else "no",
                kind(path),
                path.remote,
                milliseconds(path.rtt_ms),
                percent(path.loss),
                str(path.mtu),
                render.ago(path.since, now) if path.since is not None else "-",
                render.amount(path.sent_bytes),
                render.amount(path.received_bytes),
                path.reason,
            )
            for path in sorted(paths, key=lambda path: not path.active)
        ],
        empty="no path",
    )


def kind(path: PathView) -> str:
    """`direct`, `relay`, `relay websocket`, `direct fibre (cost 5)`."""
    words: list[str] = [path.kind]
    if path.transport != "udp":
        words.append(path.transport)
    if path.relay not in ("", "rendezvous"):
        words.append(f"by {render.safe(path.relay)}")
    if path.label:
        words.append(render.safe(path.label))
    if path.cost:
        words.append(f"(cost {path.cost})")
    return " ".join(words)


def percent(share: float) -> str:
    """`0 %`, `0.2 %`, `12 %`."""
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.1 else f"{100 * share:.1f} %"


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


def _row(peer: PeerView) -> tuple[str, str, str, str, str]:
    """Of the path that carries the data: kind, reason, round trip in milliseconds, loss, bytes of a full datagram."""
    for path in peer.paths:
        if path.active and peer.connected:
            return kind(path), peer.why, milliseconds(path.rtt_ms), percent(path.loss), str(path.mtu)
    return "none", peer.why or "-", "-", "-", "-"


def _witness_text(peer: PeerView) -> str:
    if not peer.witnesses:
        return ""
    if peer.witnesses == 1:
        return "1 rendezvous: only the safety number protects this first contact"
    return f"{peer.witnesses} rendezvous gave the same answer"
