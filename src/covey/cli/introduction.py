"""Meeting by a one-time code: `introduce`, on either side of it."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from typing import Annotated

import typer

from covey.base import errors
from covey.base.constants import INTRODUCTION_LIMIT_SECONDS, INTRODUCTION_SECONDS
from covey.base.errors import RefusedError, StateError, UsageError
from covey.base.schema import SCHEMA_VERSION, IntroductionView, PeerView
from covey.cli import render
from covey.cli.command import Call, Outcome, command
from covey.cli.peers import show_peer

__all__ = ["introduce", "register"]

STDIN = "-"
_LINE_LIMIT = 1000
_ENTER_SECONDS = 20.0
"""How long a code is tried; behind a NAT or a slow rendezvous it takes a second or two."""


def register(app: typer.Typer) -> None:
    command(app, "introduce")(introduce)


def introduce(
    call: Call,
    invitation: Annotated[
        str,
        typer.Argument(metavar="[CODE@PLACE]", help="What the other side was given; - to be asked for it."),
    ] = "",
    window: Annotated[
        float,
        typer.Option(
            "--window",
            metavar="SECONDS",
            min=1.0,
            max=INTRODUCTION_LIMIT_SECONDS,
            help="How long the code is good for.",
        ),
    ] = INTRODUCTION_SECONDS,
    ask: Annotated[bool, typer.Option("--ask", help="Only meet; trust is left to covey approve.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the code and do not wait for anybody.")] = False,
) -> Outcome:
    """Meet an agent that no network tells of, by a one-time code.

    Without an argument, prints a code for the other side and waits for it; with --json that is one object with the
    code and, when somebody came or the time is over, another.
    """
    if invitation:
        return _enter(call, _read() if invitation == STDIN else invitation, ask=ask)
    if no_wait:
        with call.client() as client:
            view = client.post("/v1/introduction", IntroductionView, seconds=window, ask=ask)
        return Outcome(view, partial(_show_code, view, window))
    return _give(call, window, ask=ask)


def _give(call: Call, window: float, *, ask: bool) -> Outcome:
    ended: IntroductionView | None = None
    try:
        with call.client(at_least=window) as client:
            view = client.post("/v1/introduction", IntroductionView, seconds=window, ask=ask)
            if call.json:
                render.document({"schema": SCHEMA_VERSION, "ok": True, "data": view})
            else:
                _show_code(view, window)
                render.note("waiting; Ctrl-C makes the code worthless")
            render.flush()
            ended = client.post("/v1/introduction/wait", IntroductionView, wait=call.within(window + 1.0))
    finally:
        # Also after Ctrl-C, at whatever moment: a code that nobody waits for must not stay good.
        if ended is None or ended.state == "open":
            with call.client() as client, contextlib.suppress(StateError):
                client.post("/v1/introduction/close", IntroductionView)
    if ended.peer is not None:
        return _introduced(ended, ended.peer)
    if ended.problem is None:
        late = errors.TimeoutError("nobody came in the time given", next_step="covey introduce, for another code")
        return Outcome(ended, _nothing, error=late)
    kind = errors.TimeoutError if ended.state == "expired" else RefusedError
    problem = ended.problem
    return Outcome(ended, _nothing, error=kind(problem.message, code=problem.code, next_step=problem.next_step))


def _enter(call: Call, invitation: str, *, ask: bool) -> Outcome:
    with call.client(at_least=_ENTER_SECONDS + 10.0) as client:
        peer = client.post("/v1/introduce", PeerView, invitation=invitation, wait=call.within(_ENTER_SECONDS), ask=ask)
    return _introduced(peer, peer)


def _introduced(data: IntroductionView | PeerView, peer: PeerView) -> Outcome:
    name = render.safe(peer.name) or peer.identity
    next_steps = {
        "trusted": f"covey send-message {name} --data hello",
        "pending": f"covey approve {name}",
        "requested": f"{name} has to approve: covey trust {name} tells when it did",
    }
    return Outcome(data, partial(_show_met, peer), next_steps.get(peer.trust, f"covey handshake {name}"))


def _read() -> str:
    """The invitation from standard input, so that it is in no list of processes and no history."""
    if sys.stdin.isatty():
        print("invitation (CODE@PLACE): ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline(_LINE_LIMIT).strip()
    if not line:
        raise UsageError("no invitation was given", code="bad-invitation", next_step="covey introduce CODE@PLACE")
    return line


def _show_code(view: IntroductionView, window: float) -> None:
    render.fields([("code", view.code), ("good for", f"{window:g} s, one use"), ("at", ", ".join(view.places))])
    render.line()
    render.line("The other side runs:")
    render.line()
    render.line(f"  covey introduce {view.invitation}")
    render.line()
    render.note("whoever enters it first is the one who is met: tell it to one person, over a channel you trust")


def _show_met(peer: PeerView) -> None:
    show_peer(peer)
    render.note("the other side sees the same safety number, if nobody else had the code")


def _nothing() -> None:
    """The code was shown already; only the error is left to say."""
