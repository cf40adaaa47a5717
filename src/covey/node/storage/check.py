"""Is what is on the disk whole? Looks at everything, changes nothing, beside a running node or without one.

Three things are looked at: the profile's directories and files (kind, owner, mode, room), the identity, and the
database: SQLite's own `integrity_check`, and what we promise beyond it. `INVARIANTS` is the table of those promises;
each statement counts the rows that break one. The database is opened read-only and read in one transaction, so a node
that writes meanwhile is seen at one moment.

Everything that is wrong is a `FindingView`; `docs/operations.md` explains each code.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from covey.base.constants import CLOCK_SKEW_SECONDS, MESSAGE_LIMIT
from covey.base.errors import CoveyError, StorageError
from covey.base.paths import Home, check_private
from covey.base.schema import FindingView
from covey.base.types import Identity, identity_text
from covey.crypto.certificates import verify_chain
from covey.crypto.credentials import Credentials, load_recovery
from covey.crypto.events import KeyLog
from covey.crypto.mailbox import MailboxKeys
from covey.crypto.record import Record
from covey.node.storage.aside import moved_aside
from covey.node.storage.files import Lock, read_private
from covey.node.storage.inbox import GAP_LIMIT
from covey.node.storage.migrations import MIGRATIONS
from covey.node.storage.settings import WALL_CLOCK

__all__ = ["CODES", "INVARIANTS", "Invariant", "check_files", "check_identity", "check_store", "in_use", "remembered"]

CODES: Final = frozenset(
    {
        *("bad-permissions", "missing-directory", "disk-low", "disk-read-only", "database-damaged", "store-corrupt"),
        *("store-missing", "store-empty", "store-too-new", "store-old", "store-inconsistent", "store-unreadable"),
        *("identity-missing", "identity-damaged", "identity-expired", "identity-revoked", "recovery-damaged"),
        *("mailbox-damaged", "recovery-foreign", "clock-behind", "peer-damaged"),
    }
)
"""Every code that a check may give."""

LOW_BYTES: Final = 64 << 20
"""Free bytes below which a full disk is near. Ours: sixty of the largest messages."""

DAMAGE_LIMIT: Final = 10
"""Lines of `integrity_check` that are told; the first say enough."""

_RESTORE: Final = "restore it from a backup"


class Invariant(NamedTuple):
    """What must hold: `broken` counts the rows for which it does not."""

    what: str
    broken: str


_OUTBOX_SUM = "SELECT sum(queued), sum(bytes) FROM outbox_recipients WHERE recipient <> x''"
_INBOX_SUM = "SELECT sum(messages), sum(bytes) FROM inbox_usage WHERE sender <> x''"
_KEPT = """(SELECT sender, size FROM inbox
    UNION ALL SELECT sender, length(body) FROM inbox_gaps WHERE id IS NOT NULL)"""
_KNOWN = "(SELECT sender, id FROM inbox UNION ALL SELECT sender, id FROM inbox_gaps WHERE id IS NOT NULL)"

INVARIANTS: Final = (
    Invariant(
        "a message that waits to be sent has its body and its number",
        "SELECT count(*) FROM outbox WHERE result = 'queued' AND (body IS NULL OR number IS NULL)",
    ),
    Invariant(
        "a message with a result has no body any more, and the time of its result",
        "SELECT count(*) FROM outbox WHERE result <> 'queued' AND (body IS NOT NULL OR finished_us IS NULL)",
    ),
    Invariant(
        "the size of a message in the outbox is that of its body, and within the limit",
        f"SELECT count(*) FROM outbox WHERE body IS NOT NULL AND (size <> length(body) OR size > {MESSAGE_LIMIT})",  # noqa: S608 - constants of this module
    ),
    Invariant(
        "what is counted as waiting for a recipient is what waits",
        """SELECT count(*) FROM outbox_recipients AS kept WHERE recipient <> x'' AND (
            queued <> (SELECT count(*) FROM outbox WHERE recipient = kept.recipient AND result = 'queued') OR bytes <>
            (SELECT coalesce(sum(size), 0) FROM outbox WHERE recipient = kept.recipient AND result = 'queued'))""",
    ),
    Invariant(
        "every recipient of a message is counted",
        """SELECT count(DISTINCT recipient) FROM outbox WHERE result = 'queued'
            AND recipient NOT IN (SELECT recipient FROM outbox_recipients)""",
    ),
    Invariant(
        "no number of the outbox is above the last one given",
        """SELECT count(*) FROM outbox JOIN outbox_recipients USING (recipient) WHERE number > last""",
    ),
    Invariant(
        "the sum over all recipients is the sum of the recipients",
        f"""SELECT count(*) FROM outbox_recipients WHERE recipient = x''
            AND (queued, bytes) IS NOT ({_OUTBOX_SUM})""",  # noqa: S608 - constants of this module
    ),
    Invariant(
        "the size of a message in the inbox is that of its body, and within the limit",
        f"SELECT count(*) FROM inbox WHERE size <> length(body) OR size > {MESSAGE_LIMIT}",  # noqa: S608 - constants of this module
    ),
    Invariant(
        "a message is in the inbox once",
        f"SELECT coalesce(sum(extra), 0) FROM (SELECT count(*) - 1 AS extra FROM {_KNOWN} GROUP BY sender, id)",  # noqa: S608 - constants of this module
    ),
    Invariant(
        "what is settled above the watermark is above it, and not next to it",
        """SELECT count(*) FROM inbox_gaps LEFT JOIN inbox_watermarks USING (sender, incarnation)
            WHERE watermark IS NULL OR number <= watermark + 1""",
    ),
    Invariant(
        "no sender holds more gaps open than allowed",
        f"""SELECT count(*) FROM (SELECT count(*) AS gaps FROM inbox_gaps GROUP BY sender, incarnation
            HAVING gaps > {GAP_LIMIT})""",  # noqa: S608 - constants of this module
    ),
    Invariant(
        "a waiting message is whole, a skipped number is empty",
        """SELECT count(*) FROM inbox_gaps WHERE (id IS NULL) <> (body IS NULL) OR (id IS NULL) <> (type IS NULL)
            OR (id IS NULL) <> (received_us IS NULL)""",
    ),
    Invariant(
        "what is counted as a sender's is what the inbox holds of it",
        f"""SELECT count(*) FROM inbox_usage AS kept WHERE sender <> x'' AND (
            messages <> (SELECT count(*) FROM {_KEPT} WHERE sender = kept.sender) OR
            bytes <> (SELECT coalesce(sum(size), 0) FROM {_KEPT} WHERE sender = kept.sender))""",  # noqa: S608 - constants of this module
    ),
    Invariant(
        "every sender of a message is counted",
        f"SELECT count(DISTINCT sender) FROM {_KEPT} WHERE sender NOT IN (SELECT sender FROM inbox_usage)",  # noqa: S608 - constants of this module
    ),
    Invariant(
        "the sum over all senders is the sum of the senders",
        f"SELECT count(*) FROM inbox_usage WHERE sender = x'' AND (messages, bytes) IS NOT ({_INBOX_SUM})",  # noqa: S608 - constants of this module
    ),
    Invariant(
        "no number of the inbox is above the last one given",
        "SELECT count(*) FROM inbox WHERE number > (SELECT seq FROM sqlite_sequence WHERE name = 'inbox')",
    ),
    Invariant(
        "identities have 32 bytes",
        """SELECT (SELECT count(*) FROM peers WHERE length(identity) <> 32)
            + (SELECT count(*) FROM outbox WHERE length(recipient) <> 32)
            + (SELECT count(*) FROM inbox WHERE length(sender) <> 32)""",
    ),
    Invariant(
        "the outbox has its incarnation",
        "SELECT 1 - count(*) FROM settings WHERE key = 'outbox-incarnation' AND length(value) = 8",
    ),
)


def check_store(home: Home, now_us: int) -> list[FindingView]:
    """Everything. `now_us`: wall time, microseconds. Never raises for what it finds."""
    found = check_files(home)
    found += check_identity(home, now_us)
    found += _database(home, now_us)
    return found


def in_use(home: Home) -> int | None:
    """The process that holds the profile's lock, None if nobody does. Takes no lock for longer than this call."""
    if not home.lock_file.exists():
        return None
    lock = Lock(home.lock_file)
    holder = lock.holder()
    return holder if lock.is_held() else None


def remembered(home: Home, key: str) -> str:
    """A setting of the database, "" if it has none or cannot be read now."""
    mode = "ro" if _log_of(home.database).exists() else "ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(f"{home.database.as_uri()}?mode={mode}", uri=True)) as opened:
            row = opened.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
    except sqlite3.Error:
        return ""
    return "" if row is None else bytes(row[0]).decode(errors="replace")


def check_files(home: Home) -> list[FindingView]:
    """Directories and files: kind, owner, mode, and the room on their disk."""
    found: list[FindingView] = []
    for directory in (home.state_dir, home.recovery_dir, home.config_dir, home.run_parent, home.run_dir):
        if directory is not None:
            found += _private(directory, required=directory == home.state_dir)
    for file in _files(home):
        found += _private(file)
    found += [
        FindingView(
            "database-damaged",
            "warning",
            f"{path} was damaged and moved aside; it is kept so that somebody can save what is in it",
            f"sqlite3 {path} .recover; when nothing is missed any more: rm {path}*",
        )
        for path in moved_aside(home.database)
    ]
    return [*found, *_room(home.state_dir)]


def check_identity(home: Home, now_us: int) -> list[FindingView]:
    """The identity file, what it says, and the recovery file beside it."""
    try:
        raw = read_private(home.identity_file)
        if raw is None:
            made = home.database.exists() or home.generation_file.exists() or home.recovery_file.exists()
            what = f"the identity file {home.identity_file} is missing" + (", although it was made before" * made)
            hint = _RESTORE if made else "covey up makes one"
            return [FindingView("identity-missing", "error" if made else "note", what, hint)]
        credentials = Credentials.load_secrets(raw)
    except StorageError:
        return []  # `check_files` says so
    except CoveyError as error:
        return [FindingView("identity-damaged", "error", f"{home.identity_file}: {error}", _RESTORE)]
    return [*_keys(credentials, now_us), *_mailbox(home, credentials), *_recovery(home, credentials)]


def _keys(credentials: Credentials, now_us: int) -> Iterator[FindingView]:
    """An identity file is verified when it is read; what is left is time, and the end of an identity."""
    if credentials.log.revoked:
        yield FindingView("identity-revoked", "error", "this identity is revoked: nobody will talk to it", "covey up")
        return
    try:
        live = credentials.live(now_us)
        if live.transport_keys:
            verify_chain(live.log, live.delegation, live.current.certificate, now_us)
        else:
            live.delegation.verify(live.log, now_us)
    except CoveyError as error:
        severity, hint = ("note", "covey up") if credentials.root is not None else ("error", "bring the root key back")
        what = f"the keys do not hold now ({error.message})" + (
            "; the daemon renews them when it starts" if credentials.root is not None else ", and the root is elsewhere"
        )
        yield FindingView("identity-expired", "error" if severity == "error" else "note", what, hint)


def _mailbox(home: Home, credentials: Credentials) -> Iterator[FindingView]:
    try:
        raw = read_private(home.mailbox_file)
        if raw is not None:
            MailboxKeys.load(raw, credentials.identity)
    except StorageError:
        return
    except CoveyError as error:
        what = f"{home.mailbox_file}: {error}: letters sealed to these keys are lost, their senders repeat them"
        yield FindingView("mailbox-damaged", "warning", what, "covey up moves it aside and makes new ones")


def _recovery(home: Home, credentials: Credentials) -> Iterator[FindingView]:
    try:
        raw = read_private(home.recovery_file)
        recovery = None if raw is None else load_recovery(raw)
    except StorageError:
        return
    except CoveyError as error:
        yield FindingView("recovery-damaged", "error", f"{home.recovery_file}: {error}", _RESTORE)
        return
    if recovery is not None and recovery.log.identity != credentials.identity:
        whose = identity_text(recovery.log.identity)
        what = f"{home.recovery_file} belongs to another identity, {whose}"
        yield FindingView("recovery-foreign", "error", what, "keep it for that one; restore this one's")


def _files(home: Home) -> list[Path]:
    """All that is in the state directory, also what was moved aside or kept as a copy, and the recovery file."""
    kept = [path for path in home.state_dir.glob("*") if path != home.run_dir] if home.state_dir.is_dir() else []
    return [*sorted(kept), home.recovery_file]


def _private(path: Path, *, required: bool = False) -> Iterator[FindingView]:
    """Whether nobody else may read it; a file that is not there is somebody else's finding."""
    try:
        status = path.lstat()
        check_private(path, mode=status.st_mode, owner=status.st_uid, uid=os.getuid())
    except FileNotFoundError:
        if required:
            yield FindingView("missing-directory", "note", f"there is no {path}: nothing was ever kept", "covey up")
    except StorageError as error:
        yield FindingView("bad-permissions", "error", error.message, error.next_step)
    except OSError as error:
        yield FindingView("bad-permissions", "error", f"cannot look at {path}: {error.strerror or error}")


def _room(path: Path) -> Iterator[FindingView]:
    try:
        disk = os.statvfs(path)
    except OSError:
        return
    if disk.f_flag & os.ST_RDONLY:
        yield FindingView(
            "disk-read-only",
            "error",
            f"the disk of {path} is mounted read-only: nothing can be kept, so nothing is received or queued",
            f"look why: findmnt --target {path}",
        )
    free = disk.f_bavail * disk.f_frsize
    if free < LOW_BYTES or (disk.f_files and not disk.f_favail):
        yield FindingView(
            "disk-low",
            "error" if free < MESSAGE_LIMIT or (disk.f_files and not disk.f_favail) else "warning",
            f"{free >> 20} MiB and {disk.f_favail} files are free on the disk of {path}; when it is full, messages are "
            "refused",
            f"free some space: df -h {path}",
        )


def _database(home: Home, now_us: int) -> list[FindingView]:
    path = home.database
    if not path.exists():
        if home.generation_file.exists():
            return [FindingView("store-missing", "error", f"{path} is missing, although it was made before", _RESTORE)]
        return []
    if path.stat().st_size == 0:
        return [FindingView("store-empty", "error", f"{path} is empty", _RESTORE)]
    try:
        if not _log_of(path).exists():
            # Closed cleanly: opened in this way, SQLite makes no files of its own beside it.
            found = _look(f"{path.as_uri()}?immutable=1", path, now_us)
            if not _log_of(path).exists():
                return found  # else a node started meanwhile: what we saw may be half of something
        return _look(f"{path.as_uri()}?mode=ro", path, now_us)
    except sqlite3.DatabaseError as error:
        damaged = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        code = "store-corrupt" if damaged else "store-unreadable"
        return [FindingView(code, "error", f"{path}: {error}", _RESTORE if damaged else f"ls -l {path.parent}")]


def _look(uri: str, path: Path, now_us: int) -> list[FindingView]:
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as opened:
        opened.execute("PRAGMA busy_timeout = 5000")
        opened.execute("BEGIN")
        return list(_inside(opened, path, now_us))


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _inside(database: sqlite3.Connection, path: Path, now_us: int) -> Iterator[FindingView]:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        what = f"{path} is from a newer Covey (schema {version}, this one knows {len(MIGRATIONS)})"
        yield FindingView("store-too-new", "error", what, "pip install --upgrade covey")
        return
    damage = [line for (line,) in database.execute(f"PRAGMA integrity_check({DAMAGE_LIMIT})") if line != "ok"]
    if damage:
        yield FindingView("store-corrupt", "error", f"{path} is damaged: {'; '.join(damage)}", _RESTORE)
        return
    if version < len(MIGRATIONS):
        what = f"{path} has schema {version} of {len(MIGRATIONS)}; its contents were not looked at"
        yield FindingView("store-old", "note", what, "covey up brings it up to date, after keeping a copy")
        return
    for invariant in INVARIANTS:
        (broken,) = database.execute(invariant.broken).fetchone()
        if broken:
            what = f"{path}: it does not hold {broken} times that {invariant.what}"
            yield FindingView("store-inconsistent", "error", what, "this is a defect of covey: report it; " + _RESTORE)
    yield from _peers(database, path)
    row = database.execute("SELECT value FROM settings WHERE key = ?", (WALL_CLOCK,)).fetchone()
    ahead = 0 if row is None else int(row[0]) - now_us
    if ahead > CLOCK_SKEW_SECONDS * 1_000_000:
        yield FindingView(
            "clock-behind",
            "error",
            f"this machine's clock is {ahead / 3.6e9:.1f} hours behind what this agent was certain of; that is "
            "used instead, and what it signs may be refused elsewhere",
            "set the clock; if it is right: covey daemon stop && covey daemon start --trust-clock",
        )


def _peers(database: sqlite3.Connection, path: Path) -> Iterator[FindingView]:
    """What is kept of every peer is signed: it must still verify, and belong to it."""
    for identity, log, record in database.execute("SELECT identity, log, record FROM peers ORDER BY identity"):
        try:
            if log and KeyLog.parse(log).identity != identity:
                raise StorageError("its log is that of another identity")
            if record and Record.parse(record).identity != identity:
                raise StorageError("its record is that of another identity")
        except CoveyError as error:
            whose = identity_text(Identity(identity)) if len(identity) == 32 else identity.hex()
            what = f"{path}: what is kept of peer {whose} does not verify: {error}"
            yield FindingView("peer-damaged", "error", what, f"covey untrust {whose}, then begin anew")
