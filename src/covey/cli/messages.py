"""`send-message`: one message; `lines.py` sends one per line."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated

import typer

from covey.base import errors
from covey.base.errors import CoveyError, RefusedError, UsageError
from covey.base.schema import MessageType, SendView
from covey.cli import bodies, render
from covey.cli.command import Call, Outcome, command
from covey.cli.lines import LineSender
from covey.cli.peers import PeerArgument

__all__ = ["register", "send_message"]


def register(app: typer.Typer) -> None:
    command(app, "send-message")(send_message)


def send_message(
    call: Call,
    peer: PeerArgument,
    data: Annotated[str | None, typer.Option("--data", metavar="TEXT", help="The message itself.")] = None,
    type: Annotated[MessageType, typer.Option("--type", help="What it is.")] = "text",
    file: Annotated[str | None, typer.Option("--file", metavar="FILE|-", help="The message is this file.")] = None,
    lines: Annotated[
        str | None, typer.Option("--lines", metavar="FILE|-", help="One message per line that is not empty.")
    ] = None,
    id: Annotated[
        str | None,
        typer.Option("--id", metavar="HEX", help="The message's id, 32 hex digits; repeating one sends nothing twice."),
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option("--ttl", metavar="SECONDS", min=0.001, help="Give up delivering after this long."),
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0.0, help="Wait this long for the delivery.")
    ] = 5.0,
    require_delivered: Annotated[
        bool, typer.Option("--require-delivered", help="Exit with 8 if it is only queued.")
    ] = False,
) -> Outcome:
    """Send a message to a trusted peer.

    It is delivered now, or kept on disk here and retried until it is delivered.
    """
    message_id = _message_id(id)
    if sum(source is not None for source in (data, file, lines)) != 1:
        raise UsageError(
            "give exactly one of --data, --file and --lines",
            next_step=f"covey send-message {peer} --data hello",
        )
    if lines is not None:
        sender = LineSender(call, peer, type, message_id, ttl, call.within(wait))
        with bodies.open_lines(lines) as opened:
            return sender.send_all(opened, require_delivered=require_delivered)
    body = bodies.from_argument(data) if data is not None else bodies.from_file(file or "")
    bodies.check_body(body, type)
    with call.client(at_least=wait) as client:
        try:
            view = client.post(
                "/v1/messages",
                SendView,
                peer=peer,
                type=type,
                body_b64=bodies.to_base64(body),
                id=message_id,
                ttl=ttl,
                wait=call.within(wait),
            )
        except CoveyError as error:
            if error.code in ("daemon-gone", "timeout"):
                error.next_step = f"repeat the command with --id {message_id}: it is not sent twice"
            raise
    return _sent(view, require_delivered=require_delivered)


def _sent(view: SendView, *, require_delivered: bool) -> Outcome:
    """The outcome of one message, with the error that its result is, if it is one."""
    name = view.name or view.peer
    show = partial(_show_sent, view)
    problem: CoveyError | None = None
    if view.result == "refused":
        problem = RefusedError(
            f"{name} refused the message: {view.reason or 'no reason given'}",
            code="message-refused",
            next_step=f"covey trust {name}",
        )
    elif view.result == "expired":
        problem = errors.TimeoutError(f"the message to {name} expired before it could be delivered", code="expired")
    elif view.result == "cancelled":
        problem = CoveyError(f"the message to {name} was cancelled", code="cancelled")
    elif view.result == "queued" and require_delivered:
        problem = errors.TimeoutError(
            f"the message to {name} is queued, not delivered", code="not-delivered", next_step="covey peers"
        )
    return Outcome(view, show, error=problem)


def _show_sent(view: SendView) -> None:
    detail = f" ({render.safe(view.reason)})" if view.reason else ""
    took = f" in {view.elapsed_ms:.0f} ms" if view.result == "delivered" else ""
    render.line(f"{view.result} to {render.safe(view.name or view.peer)}{took}{detail}  id {view.id}")
    if view.result == "queued":
        render.note("it is on disk here and will be delivered when the peer can be reached")


def _message_id(text: str | None) -> str:
    """A given id, checked, or a new one: made here, so that repeating the command after a crash is safe."""
    if text is None:
        return os.urandom(16).hex()
    if len(text) != 32 or not set(text) <= set("0123456789abcdef"):
        raise UsageError(f"--id {text!r} is not 32 lower-case hex digits", code="bad-id")
    return text
