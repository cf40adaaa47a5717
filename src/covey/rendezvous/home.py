"""What a rendezvous keeps on disk: identity, cache, and where it listened, so that its ticket stays good.

One directory, `--home` or the place of a profile called `rendezvous`, 0700. Its lock keeps a second process
out.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from covey.base.errors import StateError, StorageError
from covey.base.paths import Home
from covey.crypto.credentials import Credentials
from covey.node.storage.aside import finish_move, move_aside
from covey.node.storage.files import Lock, read_private, write_private
from covey.node.storage.identity import load_or_create, save
from covey.node.storage.paths import locate, prepare
from covey.rendezvous.mailboxes import MailboxStore
from covey.rendezvous.store import RendezvousStore

__all__ = ["Place", "Remembered", "WebSocketPlace", "place"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

PROFILE: Final = "rendezvous"


class WebSocketPlace(msgspec.Struct, frozen=True):
    """Where WebSockets are served, and how the server proves itself there."""

    host: str
    port: int
    certificate: str
    """File, with the certificates in between."""
    key: str
    advertise: tuple[str, ...] = ()


class Remembered(msgspec.Struct, frozen=True):
    """Where the last run of this home listened, and what its ticket said."""

    host: str
    port: int
    advertise: tuple[str, ...] = ()
    network: str = ""
    """The ticket of all rendezvous of the network, this one among them."""
    websocket: WebSocketPlace | None = None


class Place:
    """The files of one rendezvous. Use `held()` around everything else."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.database = home.state_dir / "rendezvous.db"
        self.mail_database = home.state_dir / "mailboxes.db"
        self._listen_file = home.state_dir / "listen.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the directories and hold the lock. `StateError` ``rendezvous-in-use``."""
        prepare(self.home)
        lock = Lock(self.home.lock_file)
        try:
            lock.acquire()
        except StateError as error:
            holder = f", process {lock.holder()}" if lock.holder() else ""
            raise StateError(
                f"a rendezvous already runs in {self.home.state_dir}{holder}",
                code="rendezvous-in-use",
                next_step="stop it, or give this one a directory of its own: covey rendezvous --home DIR",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def credentials(self, random: Callable[[int], bytes], now_us: int) -> Credentials:
        """The identity of this home, made at the first start. `StorageError` as of `load_or_create`."""
        if self.database.exists() and not self.home.identity_file.exists():
            raise self._identity_missing()
        try:
            return load_or_create(self.home, random, now_us)
        except StorageError as error:
            if error.code != "identity-missing":
                raise
            raise self._identity_missing() from error

    def save(self, credentials: Credentials) -> None:
        save(self.home, credentials)

    def open_store(self, now_us: int) -> RendezvousStore:
        """The cache. A damaged one is moved aside and begun anew: agents publish again. `StorageError`.

        `now_us`: wall time, microseconds.
        """
        return self._open(RendezvousStore, self.database, now_us, "names may change hands")

    def open_mailboxes(self, now_us: int) -> MailboxStore:
        """The sealed letters; likewise: whoever wrote them still has them in its outbox. `StorageError`."""
        return self._open(MailboxStore, self.mail_database, now_us, "its letters wait for their senders to come back")

    def _open(self, make: Callable[[Path], T], path: Path, now_us: int, consequence: str) -> T:
        finish_move(path)
        try:
            return make(path)
        except StorageError as error:
            if error.code != "store-corrupt":
                raise
            aside = move_aside(path, now_us)
            _log.error("%s; it was moved to %s and an empty one takes its place: %s", error, aside, consequence)
        return make(path)

    def put_aside(self, path: Path, now_us: int) -> None:
        """One of the two databases, found damaged while in use."""
        if path.exists():
            _log.error("%s was damaged and is now %s", path, move_aside(path, now_us))

    def remembered(self) -> Remembered | None:
        """Of the last run; None if there was none, or nobody can read what it wrote."""
        raw = read_private(self._listen_file)
        try:
            return None if raw is None else msgspec.json.decode(raw, type=Remembered)
        except msgspec.DecodeError as error:
            _log.error("%s is damaged (%s): what it said of the last run is forgotten", self._listen_file, error)
            return None

    def remember(self, what: Remembered) -> None:
        if what != self.remembered():
            write_private(self._listen_file, msgspec.json.encode(what) + b"\n")

    def _identity_missing(self) -> StorageError:
        return StorageError(
            f"the identity file {self.home.identity_file} is missing, although a rendezvous ran here before",
            code="identity-missing",
            next_step="restore it from a backup, or start another network: covey rendezvous --home DIR",
        )


def place(directory: str | None, environment: Mapping[str, str]) -> Place:
    """The files below `directory`, or in the user's state directory. Touches nothing. `UsageError`."""
    if directory is not None:
        state = Path(directory).absolute()
        recovery = state / "recovery"
    else:
        profile = locate(PROFILE, environment)
        state, recovery = profile.state_dir, profile.recovery_dir
    # No sockets and no configuration file: these two of a profile's directories are the same here.
    return Place(Home(PROFILE, config_dir=state, state_dir=state, recovery_dir=recovery, run_dir=state))
