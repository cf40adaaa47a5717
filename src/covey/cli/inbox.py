"""`inbox`: the messages that arrived."""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated, NoReturn

import msgspec
import typer

from covey.base.errors import CoveyError, UsageError
from covey.base.schema import CountView, Items, MessageView
from covey.cli import bodies, render
from covey.cli.client import path_with
from covey.cli.command import Call, Outcome, command, group
from covey.cli.follow import follow as follow_stream

__all__ = ["acknowledge", "clear", "list_messages", "register", "show"]

PREVIEW = 60
"""Characters of a message that the list shows."""

AllOption = Annotated[bool, typer.Option("--all", help="Also those that are acknowledged.")]
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1000, help="At most this many.")]
AfterOption = Annotated[
    int | None, typer.Option("--after", metavar="N", min=0, help="Only those with a higher number.", show_default=False)
]


def register(app: typer.Typer) -> None:
    inbox = typer.Typer(rich_markup_mode=None)
    group(inbox)(list_messages)
    command(inbox, "list")(list_messages)
    command(inbox, "show")(show)
    command(inbox, "ack")(acknowledge)
    command(inbox, "clear")(clear)
    app.add_typer(inbox, name="inbox")


def list_messages(
    call: Call,
    all: AllOption = False,
    limit: LimitOption = 100,
    after: AfterOption = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Show every message as it arrives.")] = False,
    ack: Annotated[
        bool, typer.Option("--ack", help="With --follow: acknowledge each message once it is written.")
    ] = False,
) -> Outcome:
    """List the messages that arrived.

    With --follow: the unread ones in full, then every new one, until Ctrl-C (exit code 130). None is missed or shown
    twice, also when the daemon restarts. Listing, showing and following leave a message unread; `inbox ack` marks it
    as read, or --ack does as soon as it is on standard output. A daemon that went away is waited for, with --timeout
    that long at most.
    """
    if follow:
        return _follow(call, 0 if all and after is None else after, acknowledge=ack)
    if ack:
        raise UsageError("--ack goes with --follow", next_step="covey inbox ack NUMBER")
    with call.client() as client:
        found = client.get("/v1/inbox", Items[MessageView], all=all, limit=limit, after=after or 0)
    next_step = ""
    if len(found.items) == limit:
        next_step = f"covey inbox --after {found.items[-1].number}"
    elif found.items:
        next_step = f"covey inbox show {found.items[0].number}"
    return Outcome(found, partial(_show_list, found.items), next_step)


def show(
    call: Call,
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="Its number, or its id.", show_default=False)],
    raw: Annotated[bool, typer.Option("--raw", help="Write the body alone, byte for byte.")] = False,
) -> Outcome:
    """Show one message with its body."""
    with call.client() as client:
        view = client.get(path_with("/v1/inbox", number), MessageView)
    if raw:
        return Outcome(view, partial(_write_raw, view))
    return Outcome(view, partial(_show_message, view), "" if view.acknowledged else f"covey inbox ack {view.number}")


def acknowledge(
    call: Call,
    numbers: Annotated[list[int], typer.Argument(metavar="NUMBER...", min=1, show_default=False)],
) -> Outcome:
    """Mark messages as handled; they are no longer listed."""
    with call.client() as client:
        result = client.post("/v1/inbox/acknowledge", CountView, numbers=numbers)
    return Outcome(result, partial(render.line, f"{result.count} acknowledged"))


def clear(
    call: Call, all: Annotated[bool, typer.Option("--all", help="Also those not acknowledged.")] = False
) -> Outcome:
    """Remove the acknowledged messages from the disk."""
    with call.client() as client:
        result = client.post("/v1/inbox/clear", CountView, all=all)
    return Outcome(result, partial(render.line, f"{result.count} removed"))


def _follow(call: Call, after: int | None, *, acknowledge: bool) -> NoReturn:
    """`after`: all above this number; None begins with the unread ones."""
    written: list[int] = []

    def acknowledge_written() -> None:
        """What could not be acknowledged because the daemon went away is, when it is back."""
        if written:
            with call.client() as client:
                client.post("/v1/inbox/acknowledge", CountView, numbers=written)
            written.clear()

    for frame in follow_stream(
        call, "/v1/inbox/follow", None if after is None else str(after), on_connected=acknowledge_written
    ):
        message = msgspec.json.decode(frame.data, type=MessageView)
        if call.json:
            render.document(message)
        else:
            render.line(_one_line(message))
        render.flush()
        if acknowledge:
            written.append(message.number)
            try:
                acknowledge_written()
            except CoveyError as error:
                if error.code not in ("not-running", "daemon-gone"):
                    raise
    raise AssertionError("following never ends by itself")


def _one_line(message: MessageView) -> str:
    text = f"(binary, {message.size} bytes)" if message.type == "binary" else message.body
    sender = message.sender_name or message.sender
    return render.safe(f"{message.number}  {render.when(message.received)}  {sender}  {text}")


def _show_list(items: list[MessageView]) -> None:
    render.table(
        ("N", "FROM", "TYPE", "RECEIVED", "SIZE", "MESSAGE"),
        [
            (
                str(message.number),
                render.safe(message.sender_name or message.sender),
                message.type,
                render.when(message.received),
                str(message.size),
                _preview(message),
            )
            for message in items
        ],
        empty="no messages",
    )


def _preview(message: MessageView) -> str:
    text = "(binary)" if message.type == "binary" else message.body
    text = render.safe(text[: PREVIEW * 2])
    return text if len(text) <= PREVIEW else text[: PREVIEW - 3] + "..."


def _show_message(message: MessageView) -> None:
    render.fields(
        [
            ("number", str(message.number) + ("  acknowledged" if message.acknowledged else "")),
            ("from", f"{render.safe(message.sender_name)}  {message.sender}".strip()),
            ("received", render.when(message.received)),
            ("type", f"{message.type}, {message.size} bytes"),
            ("id", message.id),
        ]
    )
    render.line()
    if message.type == "binary":
        render.note("binary: write it to a file with --raw > FILE")
    else:
        render.line(render.safe(message.body, newlines=True))


def _write_raw(message: MessageView) -> None:
    body = bodies.from_base64(message.body) if message.type == "binary" else message.body.encode()
    sys.stdout.flush()
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()
