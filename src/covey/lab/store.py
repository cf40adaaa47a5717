"""A lab that outlives the command that made it: what `covey lab` keeps between commands.

One directory for each lab, `$XDG_RUNTIME_DIR/covey-lab/NAME` (without that variable `/tmp/covey-UID/lab/NAME`), with
`lab.json`, the files of what runs on boxes, a COVEY_HOME for each machine, and a lock which commands hold in turn. The
namespaces are the keeper's; a keeper that is gone, or a process that has its number now, has no lab.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from covey.base.errors import NotFoundError, StateError, StorageError
from covey.base.paths import TEMPORARY, check_private
from covey.lab.faults import Fault
from covey.lab.kinds import Kind
from covey.lab.lab import Lab
from covey.lab.machine import Machine
from covey.lab.namespaces import Namespaces, check_name

__all__ = ["Store"]

_FILE: Final = "lab.json"
_LOCK: Final = "lock"
_LIMIT: Final = 4 << 20
"""Bytes of that file: 10,000 machines."""
_END_SECONDS: Final = 30.0


class _Machine(msgspec.Struct, frozen=True):
    name: str
    kind: Kind | None
    box: str
    ip: str
    ip6: str
    device: str
    link: str
    mtu: int
    lan: str
    lan6: str
    hosts: int
    environment: dict[str, str]


class _Fault(msgspec.Struct, frozen=True):
    one: str
    other: str
    over: int


class _Lab(msgspec.Struct, frozen=True):
    pid: int
    namespace: int
    """The inode of the keeper's network namespace."""
    rootless: bool
    machines: list[_Machine]
    faults: list[_Fault]
    counts: dict[str, int]


class Store:
    """The directory of one lab."""

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        check_name(name)
        runtime = environment.get("XDG_RUNTIME_DIR", "")
        self._parents = [Path(runtime) / "covey-lab"] if runtime.startswith("/") else _temporary()
        self.directory = self._parents[-1] / name
        self._file = self.directory / _FILE

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other command works on this lab meanwhile. Makes the directory."""
        for each in (*self._parents, self.directory):
            each.mkdir(mode=0o700, exist_ok=True)
            status = each.lstat()
            check_private(each, mode=status.st_mode, owner=status.st_uid, uid=os.getuid())
        with (self.directory / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # --- for a command that holds it -------------------------------------------------------------------------------

    def make(self) -> Lab:
        """A new lab, which nothing ends but `end`. StateError `lab-is-up` if there is one."""
        if self._read() is not None:
            raise StateError("the lab is up already", code="lab-is-up", next_step="covey lab down")
        namespaces = Namespaces.make("nft", stay=True)
        return Lab(namespaces, self.directory)

    def load(self) -> Lab:
        """The lab as the last command left it. NotFoundError `no-lab`."""
        found = self._read()
        if found is None:
            raise NotFoundError("there is no lab", code="no-lab", next_step="covey lab up")
        lab = Lab(Namespaces(found.pid, rootless=found.rootless), self.directory, built=True)
        lab.counts.update(found.counts)
        for each in found.machines:
            lab.machines[each.name] = _machine(lab, each)
        for each in found.machines:
            lab.machines[each.name].box = lab.machines.get(each.box)
        for fault in found.faults:
            lab.faults.cut(lab[fault.one], lab[fault.other] if fault.other else None, fault.over)
        return lab

    def home(self, machine: str) -> Path:
        """Where Covey's files of a machine are, which end with the lab: agents that share one would be one agent."""
        return self.directory / "homes" / machine

    def save(self, lab: Lab) -> None:
        """Keeps the lab as it is now."""
        namespaces = lab.namespaces
        found = _Lab(
            namespaces.pid,
            _namespace(namespaces.pid),
            namespaces.rootless,
            [_facts(each) for each in lab.machines.values()],
            [_fault(each) for each in lab.faults],
            dict(lab.counts),
        )
        beside = self._file.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(found))
        beside.replace(self._file)

    def end(self) -> bool:
        """Ends the lab and every process in it; whether there was one."""
        found = self._read()
        if found is not None:
            end_keeper(found.pid)
        for each in self.directory.iterdir():
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)
            elif each.name != _LOCK:  # somebody may wait for it
                each.unlink()
        return found is not None

    def _read(self) -> _Lab | None:
        try:
            with self._file.open("rb") as file:
                found = msgspec.json.decode(file.read(_LIMIT), type=_Lab)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise StorageError(
                f"{self._file} cannot be read: {error}", code="lab-damaged", next_step=f"rm -r {self.directory}"
            ) from error
        return found if _namespace(found.pid) == found.namespace else None


def end_keeper(pid: int) -> None:
    """Tells a keeper to end its lab, and waits until it has."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(watch, signal.SIGTERM)
        if not select.select([watch], [], [], _END_SECONDS)[0]:
            signal.pidfd_send_signal(watch, signal.SIGKILL)
    finally:
        os.close(watch)


def _temporary() -> list[Path]:
    parent = TEMPORARY / f"covey-{os.getuid()}"
    return [parent, parent / "lab"]


def _namespace(pid: int) -> int:
    """0 if there is no such process, or none of ours."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


def _facts(machine: Machine) -> _Machine:
    facts = {name: getattr(machine, name) for name in _Machine.__struct_fields__}
    return _Machine(**{**facts, "box": "" if machine.box is None else machine.box.name})


def _machine(lab: Lab, facts: _Machine) -> Machine:
    machine = Machine(lab.namespaces, facts.name, facts.kind)
    for name in _Machine.__struct_fields__:
        if name not in ("name", "kind", "box"):
            setattr(machine, name, getattr(facts, name))
    return machine


def _fault(fault: Fault) -> _Fault:
    return _Fault(fault.one.name, "" if fault.other is None else fault.other.name, fault.over)
