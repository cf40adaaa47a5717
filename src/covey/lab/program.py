"""`python -m covey.lab`, or `covey lab`, which becomes it: a lab that stays until it is taken down.

A lab is kept in `store.py`'s directory and by its keeper; every verb loads it, changes it and saves it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import msgspec

from covey.base.errors import CoveyError, NotFoundError, StorageError, UsageError
from covey.base.exit_codes import exit_code
from covey.base.schema import SCHEMA_VERSION, ErrorView
from covey.lab.kinds import KINDS, kind
from covey.lab.lab import Lab
from covey.lab.namespaces import check_name, environment
from covey.lab.picture import kind_name
from covey.lab.store import Store

__all__ = ["LabView", "MachineView", "main"]

FIRST_MACHINES: Final = ("r1=server", "r2=server", "alice=port-restricted", "bob=symmetric")
"""Of a lab that is made without a word about them."""

_SERVER: Final = "server"
_BESIDE: Final = "beside:"


class MachineView(msgspec.Struct, frozen=True):
    """A machine as data."""

    name: str
    kind: str
    """`server`, a kind's name, or `custom`."""
    ip: str
    ip6: str
    public_ip: str
    box: str
    """Behind which box; "" for none."""


class FaultView(msgspec.Struct, frozen=True):
    """A cut or a black hole as data."""

    one: str
    other: str
    """"" for everybody."""
    over: int
    """Only IP packets larger than so many bytes vanish; 0 for all."""


class LabView(msgspec.Struct, frozen=True):
    """What every command but `exec`, `kinds` and `down` prints as data."""

    machines: list[MachineView]
    faults: list[FaultView]


def main(arguments: Sequence[str]) -> int:
    """The process' exit code."""
    as_json = "--json" in arguments[: arguments.index("--")] if "--" in arguments else "--json" in arguments
    try:
        options = _parser().parse_args(arguments)
        found, text = _carry_out(options)
    except CoveyError as error:
        return _report(error, json=as_json)
    except OSError as error:
        return _report(StorageError(f"{error.strerror}: {error.filename}", code="lab-damaged"), json=as_json)
    if as_json:
        _document(ok=True, data=found)
    elif text:
        _say(text)
    return 0


def _carry_out(options: argparse.Namespace) -> tuple[Any, str]:
    """Data, and the same for people."""
    if options.verb == "kinds":
        return dict(KINDS), "\n".join(KINDS)
    store = Store(options.lab, os.environ)
    if options.verb == "exec":
        _become(store, options)
    with store.held():
        if options.verb == "down":
            return {"was_up": store.end()}, ""
        lab = _up(store, options.machines) if options.verb == "up" else store.load()
        _change(lab, options)
        store.save(lab)
    return _view(lab), lab.text()


def _up(store: Store, words: list[str]) -> Lab:
    """The lab, new or not, with those machines added."""
    machines = [_machine(each) for each in words]
    try:
        lab = store.load()
    except NotFoundError:
        lab = store.make()
        machines = machines or [_machine(each) for each in FIRST_MACHINES]
    try:
        for name, what in machines:
            _add(lab, name, what)
    except CoveyError:
        lab.namespaces.close()  # those of a new lab only: others are not ours to end
        raise
    return lab


def _machine(word: str) -> tuple[str, str]:
    """Name and kind. Raises UsageError."""
    name, _, what = word.partition("=")
    check_name(name)
    if what != _SERVER and not what.startswith(_BESIDE):
        kind(what)
    return name, what


def _add(lab: Lab, name: str, what: str) -> None:
    if what == _SERVER:
        lab.server(name)
    elif what.startswith(_BESIDE):
        lab.agent(name, beside=what.removeprefix(_BESIDE))
    else:
        lab.agent(name, nat=what)


def _change(lab: Lab, options: argparse.Namespace) -> None:
    match options.verb:
        case "cut":
            lab.cut(options.one, options.other, over=options.over)
        case "heal":
            lab.heal(options.one, options.other)
        case "uplink":
            lab.change_uplink(options.name, options.kind)
        case "forget":
            lab.forget(options.name)


def _become(store: Store, options: argparse.Namespace) -> NoReturn:
    with store.held():
        machine = store.load()[options.name]
    argv = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not argv:
        raise UsageError("say what to run", next_step=f"covey lab exec {options.name} -- ip address")
    command = machine.command(argv)
    home = {"COVEY_HOME": str(store.home(machine.name).absolute())}
    os.execvpe(command[0], command, {**home, **environment(), **machine.environment})  # noqa: S606 - what the user asks


def _view(lab: Lab) -> LabView:
    machines = [
        MachineView(each.name, kind_name(each), each.ip, each.ip6, each.public_ip, each.box.name if each.box else "")
        for each in lab.machines.values()
    ]
    faults = [FaultView(each.one.name, each.other.name if each.other else "", each.over) for each in lab.faults]
    return LabView(machines, faults)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, next_step="covey lab --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="covey lab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common = _Parser(add_help=False)
    common.add_argument("--lab", default="default", metavar="NAME", help="which, if there are several")
    common.add_argument("--json", action="store_true", help="print one JSON document")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("up", parents=[common]).add_argument("machines", nargs="*", metavar="NAME=KIND")
    for verb in ("show", "kinds", "down"):
        verbs.add_parser(verb, parents=[common])
    run = verbs.add_parser("exec", parents=[common])
    run.add_argument("name")
    run.add_argument("command", nargs=argparse.REMAINDER)
    for verb in ("cut", "heal"):
        pair = verbs.add_parser(verb, parents=[common])
        pair.add_argument("one")
        pair.add_argument("other", nargs="?")
        if verb == "cut":
            pair.add_argument("--over", type=int, metavar="BYTES")
    uplink = verbs.add_parser("uplink", parents=[common])
    uplink.add_argument("name")
    uplink.add_argument("kind", nargs="?", choices=list(KINDS))
    verbs.add_parser("forget", parents=[common]).add_argument("name")
    return parser


def _report(error: CoveyError, *, json: bool) -> int:
    if json:
        _document(ok=False, error=ErrorView(error.code, error.message, error.next_step))
        return exit_code(error)
    sys.stderr.write(f"error: {error.message} ({error.code})\n")
    if error.next_step:
        sys.stderr.write(f"next: {error.next_step}\n")
    return exit_code(error)


def _document(**fields: Any) -> None:
    _say(msgspec.json.encode({"schema": SCHEMA_VERSION, **fields}).decode())


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
