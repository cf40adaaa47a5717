"""What a machine that loses its power may find on its disk, from a record of the system calls before (`supervisor`).

Promised by the system is only what was synced: a file's bytes by fsync of the file, its name by fsync of the
directory. Of everything since, each sector of 512 bytes is there in any of its later versions or not at all, a file has
any of its sizes since, and directory entries have changed in their order, up to any point. That is what POSIX leaves
open, and more than a file system in use does.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from tests.faults.supervisor import CREATE, Call

__all__ = ["Disk", "Loss"]

SECTOR: Final = 512

Loss = Literal["all", "some", "none"]
"""How much of what was not synced is gone."""

_Names = dict[Path, "_File"]


@dataclass
class _File:
    synced: bytes = b""
    since: list[tuple[int, bytes] | int] = field(default_factory=list)
    """Writes (offset, bytes) and truncations (size) since the last sync."""

    def content(self, changes: Iterable[tuple[int, bytes] | int]) -> bytearray:
        content = bytearray(self.synced)
        for change in changes:
            if isinstance(change, int):
                del content[change:]
                content += bytes(change - len(content))
            else:
                offset, data = change
                content += bytes(max(0, offset + len(data) - len(content)))
                content[offset : offset + len(data)] = data
        return content

    def sync(self) -> None:
        self.synced = bytes(self.content(self.since))
        self.since = []

    def after(self, loss: Loss, chance: random.Random) -> bytes:
        if loss != "some" or not self.since:
            return bytes(self.content(self.since if loss == "none" else ()))
        versions = [self.content(self.since[:count]) for count in range(len(self.since) + 1)]
        size = len(chance.choice(versions))
        found = bytearray()
        while len(found) < size:
            sector = chance.choice(versions)[len(found) : len(found) + SECTOR]
            found += sector.ljust(SECTOR, b"\0")
        return bytes(found[:size])


class Disk:
    """The files of the calls so far. `apply` each call before it happens, `write_into` a folder what is found then."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: _Names = {}
        self._synced: _Names = {}
        self._since: list[tuple[Call, _File]] = []
        """Changes of names since their directory was synced."""

    def apply(self, call: Call) -> None:
        file = self._names.get(call.path)
        match call.name:
            case "open" if call.size & CREATE and file is None:
                self._rename(call, _File())
            case "rename" | "unlink" if file is not None:
                self._rename(call, file)
            case "write" if file is not None:
                file.since.append((call.offset, call.data))
            case "truncate" if file is not None:
                file.since.append(call.size)
            case "sync" if file is not None:
                file.sync()
            case "sync":
                self._sync_directory(call.path)

    def write_into(self, folder: Path, loss: Loss, chance: random.Random) -> None:
        names = self._names if loss == "none" else dict(self._synced)
        if loss == "some":
            for call, file in self._since[: chance.randint(0, len(self._since))]:
                _change(names, call, file)
        for path, file in names.items():
            if not path.name.endswith("-shm"):  # never synced, and made anew by whoever opens the database first
                target = folder / path.relative_to(self._root)
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                target.parent.parent.chmod(0o700)
                target.write_bytes(file.after(loss, chance))
                target.chmod(0o600)

    def _rename(self, call: Call, file: _File) -> None:
        self._since.append((call, file))
        _change(self._names, call, file)

    def _sync_directory(self, directory: Path) -> None:
        elsewhere = {path: file for path, file in self._synced.items() if path.parent != directory}
        self._synced = elsewhere | {path: file for path, file in self._names.items() if path.parent == directory}
        self._since = [(call, file) for call, file in self._since if call.path.parent != directory]


def _change(names: _Names, call: Call, file: _File) -> None:
    if call.name != "open":
        names.pop(call.path, None)
    if call.name != "unlink":
        names[call.target or call.path] = file
