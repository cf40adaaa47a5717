"""`events`: what happens to this agent."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import msgspec
import typer

from covey.cli import render
from covey.cli.client import path_with_query
from covey.cli.command import Call, Outcome, command
from covey.cli.follow import follow as follow_stream

__all__ = ["events", "register"]


class RecentEvents(msgspec.Struct):
    """The daemon's answer; events are kept as they came, so that one of a newer daemon is shown too."""

    items: list[dict[str, Any]]
    position: str


def register(app: typer.Typer) -> None:
    command(app, "events")(events)


def events(
    call: Call,
    type: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only this type, or a family as message.*; repeatable."),
    ] = None,
    number: Annotated[
        int, typer.Option("-n", "--lines", metavar="N", min=1, max=1024, help="How many of the last ones.")
    ] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what happens, until Ctrl-C.")] = False,
) -> Outcome:
    """Show what happened to this agent lately.

    Peers, trust, messages, names: the daemon remembers the last 1024 events of its present run. With --follow, --json
    prints one object per line; an event `gap` says that some are missing, for example after a restart of the daemon.
    """
    types = ",".join(type or ())
    with call.client() as client:
        found = client.get("/v1/events/recent", RecentEvents, types=types or None, limit=number)
    if follow:
        for event in found.items:
            _show(call, event)
        render.flush()
        for frame in follow_stream(call, path_with_query("/v1/events", types=types or None), found.position):
            _show(call, frame.decoded())
            render.flush()
    return Outcome({"items": found.items}, partial(_show_all, call, found.items))


def _show_all(call: Call, items: list[dict[str, Any]]) -> None:
    if not items:
        render.note("nothing happened yet in this run of the daemon")
    for event in items:
        _show(call, event)


def _show(call: Call, event: dict[str, Any]) -> None:
    if call.json:
        render.document(event)
        return
    fields = dict(event)
    head = [render.when(fields.pop("time", None)), f"{fields.pop('event', ''):<18}"]
    name, peer = fields.pop("name", ""), fields.pop("peer", "")
    for hidden in ("schema", "id"):
        fields.pop(hidden, None)
    rest = [f"{key}={_text(value)}" for key, value in fields.items() if value not in ("", None)]
    render.line(render.safe("  ".join([*head, *([name or peer] if name or peer else []), *rest])))


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
