"""`key`: the keys behind this agent's identity. No private byte ever leaves the daemon's side."""

from __future__ import annotations

import time
from functools import partial

import msgspec
import typer

from covey.base.errors import CoveyError, UsageError
from covey.base.schema import KeysView, KeyView, NodeView
from covey.cli import launch, render
from covey.cli.command import Call, Outcome, command, group

__all__ = ["KeyShow", "Witnesses", "register", "show"]


class Witnesses(msgspec.Struct, frozen=True):
    """The rendezvous that hold this agent's present log and record for others."""

    connected: int
    rendezvous: int


class KeyShow(msgspec.Struct, frozen=True):
    """What `key show` prints as data."""

    keys: KeysView
    witnesses: Witnesses | None
    """None: the daemon does not run, so nobody can say."""


def register(app: typer.Typer) -> None:
    key = typer.Typer(help="Show the keys behind this agent's identity.", rich_markup_mode=None)
    group(key)(choose)
    command(key, "show")(show)
    app.add_typer(key, name="key")


def choose(call: Call) -> Outcome:
    """Show the keys behind this agent's identity."""
    raise UsageError("say what to do with the keys", next_step="covey key show")


def show(call: Call) -> Outcome:
    """Show identity, log, fingerprints and dates of the keys.

    Nothing that is shown is secret. Works without the daemon.
    """
    keys = launch.ask(call, "keys", KeysView)
    data = KeyShow(keys, _witnesses(call))
    return Outcome(data, partial(_show, data))


def _witnesses(call: Call) -> Witnesses | None:
    try:
        with call.client() as client:
            view = client.get("/v1/status", NodeView)
    except CoveyError:
        return None
    return Witnesses(sum(each.connected for each in view.rendezvous), len(view.rendezvous))


def _show(data: KeyShow) -> None:
    keys, now = data.keys, time.time()
    render.line(f"{keys.identity}  {keys.address}")
    fields = [
        ("log", f"sequence {keys.log_sequence}, head {keys.log_head}" + ("  REVOKED" if keys.revoked else "")),
        ("root key", f"{keys.root.fingerprint}  {'here' if keys.root_here else 'kept elsewhere'}"),
        ("next root", f"{keys.next_root.fingerprint}  (its commitment)"),
        ("operational", f"{keys.operational.fingerprint}  {_life(keys.operational, now)}"),
    ]
    fields += [
        ("transport" if number == 0 else "", f"{key.fingerprint}  {_life(key, now)}")
        for number, key in enumerate(keys.transport)
    ]
    fields += [
        ("renewal", _renewal(keys)),
        ("recovery file", f"{keys.recovery_file}  {'on this machine' if keys.recovery_here else 'not here'}"),
        ("witnesses", _witness_text(data.witnesses)),
    ]
    render.fields(fields)
    render.findings(keys.findings)


def _life(key: KeyView, now: float) -> str:
    if key.until is None:
        return ""
    return f"until {render.when(key.until)}" + ("" if now < key.until else "  over")


def _renewal(keys: KeysView) -> str:
    parts = []
    if keys.next_transport is not None:
        parts.append(f"transport by {render.when(keys.next_transport)}")
    if keys.next_operational is not None:
        parts.append(f"operational by {render.when(keys.next_operational)}")
    else:
        parts.append("operational: only with the root key")
    return ", ".join(parts) + ", by the daemon"


def _witness_text(witnesses: Witnesses | None) -> str:
    if witnesses is None:
        return "unknown: the daemon does not run"
    return f"{witnesses.connected} of {witnesses.rendezvous} rendezvous hold this log for others"
