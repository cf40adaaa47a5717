"""Where a fleet keeps its files: one directory, closed to everybody else.

::

    fleet.db        the store (SQLite), unless the spec names a PostgreSQL
    store           where else the store is
    leader.lock     held by the controller that runs
    nudge           a datagram socket: whoever changed the store wakes the controller
    controller.json where the controller listens, while it runs
    token           the secret from which the tokens of agents' reports are made, 0600
    tokens/         a token for each pool and workload whose agents were started here, 0600
    decisions.jsonl every decision, one a line
    pools/NAME/     a provider's own
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from covey.base.errors import StorageError, UsageError
from covey.base.paths import Home, check_private

__all__ = ["FleetHome"]

_PRIVATE: Final = 0o700


@dataclass(frozen=True, slots=True)
class FleetHome:
    """The directories and files of one fleet."""

    path: Path

    @classmethod
    def locate(cls, given: str | None, env: Mapping[str, str], *, uid: int) -> FleetHome:
        """`given` (`--home`), else ``COVEY_FLEET_HOME``, else `fleet` in Covey's data directory. Nothing is made."""
        named = given or env.get("COVEY_FLEET_HOME")
        if not named:
            return cls(Home.locate(None, env, uid=uid).recovery_dir.parent / "fleet")
        path = Path(named)
        if not path.is_absolute():
            if not given:
                raise UsageError(
                    f"COVEY_FLEET_HOME is {named!r}, which is not an absolute path",
                    code="no-home",
                    next_step='export COVEY_FLEET_HOME="$PWD/' + named + '"',
                )
            path = Path.cwd() / path
        return cls(path)

    def make(self) -> FleetHome:
        """The same, existing and private. Raises `StorageError`."""
        try:
            self.path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            found = os.lstat(self.path)
        except OSError as error:
            raise StorageError(
                f"the fleet's home {self.path} cannot be made: {error.strerror}",
                code="no-home",
                next_step="choose another with --home DIR",
            ) from error
        if not stat.S_ISDIR(found.st_mode):
            raise StorageError(f"the fleet's home {self.path} is not a directory", code="no-home")
        check_private(self.path, mode=found.st_mode, owner=found.st_uid, uid=os.getuid())
        return self

    @property
    def database(self) -> Path:
        return self.path / "fleet.db"

    @property
    def store(self) -> Path:
        """Where the store is, if not here."""
        return self.path / "store"

    @property
    def lock(self) -> Path:
        return self.path / "leader.lock"

    @property
    def nudge(self) -> Path:
        return self.path / "nudge"

    @property
    def listening(self) -> Path:
        return self.path / "controller.json"

    @property
    def token(self) -> Path:
        return self.path / "token"

    @property
    def tokens(self) -> Path:
        return self.path / "tokens"

    @property
    def decisions(self) -> Path:
        return self.path / "decisions.jsonl"

    def pool(self, name: str) -> Path:
        """A provider's own directory; it makes it."""
        return self.path / "pools" / name
