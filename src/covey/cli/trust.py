"""Who may talk to this agent: `handshake`, `pending`, `approve`, `reject`, `trust`, `untrust`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from covey.base import errors
from covey.base.errors import RefusedError
from covey.base.schema import Items, PeerView
from covey.cli import render
from covey.cli.client import path_with
from covey.cli.command import Call, Outcome, command
from covey.cli.peers import PeerArgument, show_peer

__all__ = ["approve", "handshake", "pending", "register", "reject", "trust", "untrust"]

PendingArgument = Annotated[
    str,
    typer.Argument(help="A name, address, identity or safety number.", show_default=False),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="A word to the peer.", show_default=False)]


def register(app: typer.Typer) -> None:
    command(app, "handshake")(handshake)
    command(app, "pending")(pending)
    command(app, "approve")(approve)
    command(app, "reject")(reject)
    command(app, "trust")(trust)
    command(app, "untrust")(untrust)


def handshake(
    call: Call,
    peer: PeerArgument,
    reason: ReasonOption = "",
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0.0, help="Wait this long for the peer's answer."),
    ] = 0.0,
) -> Outcome:
    """Ask an agent for mutual trust.

    It is mutual at once if that agent had asked us before. If it is away, the request waits for it, sealed, at its
    rendezvous, for up to seven days; "told" in the answer says where.
    """
    with call.client(at_least=wait) as client:
        view = client.post("/v1/handshake", PeerView, peer=peer, reason=reason, wait=call.within(wait))
    show = partial(show_peer, view)
    name = render.safe(view.name) or peer
    if view.trust == "trusted":
        return Outcome(view, show, f"covey send-message {name} --data hello")
    if view.trust == "rejected":
        refusal = f"{name} declined" + (f": {view.reason}" if view.reason else "")
        return Outcome(view, show, error=RefusedError(refusal, code="trust-rejected"))
    if wait:
        late = errors.TimeoutError(
            f"{name} has not answered within {wait:g} s; the request stays open",
            code="no-answer-yet",
            next_step=f"covey trust {name}",
        )
        return Outcome(view, show, error=late)
    away = {"sealed": f"{name} is away and finds the request when it is up. ", "queued": f"{name} has not got it yet. "}
    step = f"{name} has to approve; compare the safety number with its owner, then: covey trust {name}"
    return Outcome(view, show, away.get(view.told, "") + step)


def pending(call: Call) -> Outcome:
    """List the agents that ask for trust."""
    with call.client() as client:
        found = client.get("/v1/pending", Items[PeerView])
    next_step = f"covey approve {render.safe(found.items[0].name)}" if found.items else ""
    return Outcome(found, partial(_show_pending, found.items), next_step)


def approve(call: Call, peer: PendingArgument) -> Outcome:
    """Trust an agent that asked.

    Compare the safety number with its owner first, over another channel.
    """
    with call.client() as client:
        view = client.post("/v1/approve", PeerView, peer=peer)
    return Outcome(view, partial(show_peer, view), f"covey send-message {render.safe(view.name)} --data hello")


def reject(call: Call, peer: PendingArgument, reason: ReasonOption = "") -> Outcome:
    """Decline an agent that asked."""
    with call.client() as client:
        view = client.post("/v1/reject", PeerView, peer=peer, reason=reason)
    return Outcome(view, partial(show_peer, view))


def trust(call: Call, peer: PendingArgument) -> Outcome:
    """Show the trust in one peer and its safety number."""
    with call.client() as client:
        view = client.get(path_with("/v1/peers", peer), PeerView)
    next_step = f"covey approve {render.safe(view.name)}" if view.trust == "pending" else ""
    return Outcome(view, partial(show_peer, view), next_step)


def untrust(call: Call, peer: PendingArgument) -> Outcome:
    """End the trust in a peer.

    Its streams are cut and its messages refused.
    """
    with call.client() as client:
        view = client.post("/v1/untrust", PeerView, peer=peer)
    return Outcome(view, partial(show_peer, view))


def _show_pending(items: list[PeerView]) -> None:
    render.table(
        ("NAME", "ADDRESS", "SAFETY NUMBER", "SINCE", "REASON"),
        [
            (
                render.safe(peer.name),
                peer.address,
                peer.safety_number,
                render.when(peer.since),
                render.safe(peer.reason),
            )
            for peer in items
        ],
        empty="nobody is waiting for an answer",
    )
