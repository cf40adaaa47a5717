"""What is said about this agent itself: `status`, `id`, `version`."""

from __future__ import annotations

import time
from functools import partial

import typer

from covey.base.schema import NodeView
from covey.cli import render
from covey.cli.command import Call, Outcome, command

__all__ = ["id_card", "own_version", "register", "show_status", "status", "version"]


def register(app: typer.Typer) -> None:
    command(app, "status")(status)
    command(app, "id")(id_card)
    command(app, "version")(version)


def status(call: Call) -> Outcome:
    """Show this agent, its network and what needs attention."""
    with call.client() as client:
        view = client.get("/v1/status", NodeView)
    next_step = "covey pending" if view.peers_pending else "covey inbox" if view.inbox_unread else ""
    return Outcome(view, partial(show_status, view), next_step)


def id_card(call: Call) -> Outcome:
    """Show the name, address and identity of this agent."""
    with call.client() as client:
        view = client.get("/v1/status", NodeView)
    data = {"name": view.name, "address": view.address, "identity": view.identity}
    return Outcome(data, partial(render.fields, list(data.items())))


def version(call: Call) -> Outcome:
    """Print the version of this command."""
    number = own_version()
    return Outcome({"version": number}, partial(render.line, f"covey {number}"))


def own_version() -> str:
    """Of the installed package; `0+unknown` for a tree that was never installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("covey")
    except PackageNotFoundError:
        return "0+unknown"


def show_status(view: NodeView) -> None:
    """`view` for people: the verdict, what there is to say, a block of fields, the rendezvous."""
    connected = f"{view.peers_connected} connected" + (f" ({view.peers_direct} direct)" if view.peers_connected else "")
    peers = f"{view.peers_trusted} trusted, {connected}, {view.peers_pending} pending"
    if view.degraded:
        render.verdict("degraded", f"{view.name} is up, with {render.tally(view.degraded)}")
    else:
        render.verdict("ok", f"{view.name} is up, nothing is degraded")
    render.findings(view.findings)
    render.fields(
        [
            ("address", view.address),
            ("identity", view.identity),
            ("profile", view.profile),
            (
                "running for",
                f"{render.ago(view.started, time.time())} (pid {view.pid}, version {view.version})",
            ),
            ("listens on", ", ".join(view.listen)),
            ("peers", peers),
            ("messages", f"{view.inbox_unread} unread, {view.outbox_queued} waiting to be delivered"),
            ("network", view.network or "none"),
            *_relaying(view),
        ]
    )
    if view.rendezvous:
        render.line()
        render.table(
            ("RENDEZVOUS", "CONNECTED BY", "RTT ms", "SEES US AS", "PROBLEM"),
            [
                (
                    each.endpoint,
                    each.transport if each.connected else "no",
                    milliseconds(each.rtt_ms),
                    each.observed,
                    render.safe(each.problem),
                )
                for each in view.rendezvous
            ],
            empty="",
        )


def _relaying(view: NodeView) -> list[tuple[str, str]]:
    """Who relays for this agent, and what it relays for others; nothing where nobody does."""
    rows = []
    if view.relays:
        names = (f"{render.safe(each.name)} ({milliseconds(each.rtt_ms)} ms)" for each in view.relays)
        rows.append(("relays", ", ".join(names)))
    if view.relayed is not None:
        carried = f"{view.relayed.circuits} circuits, {render.amount(view.relayed.forwarded_bytes)} passed on"
        rows.append(("relayed for peers", f"{carried}, {render.amount(view.relayed.dropped_bytes)} dropped"))
    return rows


def milliseconds(value: float | None) -> str:
    """`12.3`, or `-` if it was never measured."""
    return "-" if value is None else f"{value:.1f}"
