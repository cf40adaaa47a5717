"""This agent's own identity on disk: made once, never made again by mistake.

Two files. The identity file holds what is in use; its rename into place is the moment the identity exists.
The recovery file holds the next root key (PROTOCOL 4). It is written first, under a staging name, and gets
its own name after that moment, so a crash anywhere leaves no identity and a staged file that the next start
overwrites, or a whole identity and a staged file that the next start moves into place. A recovery file with
its own name is never touched.
"""

from __future__ import annotations

from pathlib import Path

from covey.base.errors import CoveyError, ParseError, StorageError, VerifyError
from covey.base.paths import Home
from covey.crypto.credentials import Credentials, Random, dump_recovery, load_recovery
from covey.node.storage.files import DISK, Disk, move_private, read_private, write_private

__all__ = ["load_or_create", "save"]


def load_or_create(home: Home, random: Random, now_us: int, disk: Disk = DISK) -> Credentials:
    """The identity of this profile; a new one if, and only if, there are no traces of an older one.

    `now_us`: wall time, microseconds. Hold the profile's lock and have the directories made
    (`paths.prepare`).
    `StorageError`: ``identity-damaged``, ``identity-missing``, ``bad-permissions``.
    """
    raw = read_private(home.identity_file)
    if raw is None:
        _refuse_if_used(home)
        return _create(home, random, now_us, disk)
    try:
        credentials = Credentials.load_secrets(raw)
    except (ParseError, VerifyError) as error:
        raise StorageError(
            f"the identity file {home.identity_file} is damaged: {error}",
            code="identity-damaged",
            next_step=f"restore it from a backup, then: chmod 600 {home.identity_file}",
        ) from error
    _finish_recovery(home, credentials, disk)
    return credentials


def save(home: Home, credentials: Credentials, disk: Disk = DISK) -> None:
    """Replace the identity file, after a change of keys; on return it is on the disk. Use the keys only
    then."""
    write_private(home.identity_file, credentials.dump_secrets(), disk)


def _create(home: Home, random: Random, now_us: int, disk: Disk) -> Credentials:
    credentials, roots = Credentials.create(random, now_us)
    write_private(_staged(home), dump_recovery(credentials.log, roots.next_root), disk)
    save(home, credentials, disk)
    _finish_recovery(home, credentials, disk)
    return credentials


def _refuse_if_used(home: Home) -> None:
    for trace in (home.database, home.generation_file, home.recovery_file):
        if trace.exists():
            raise StorageError(
                f"the identity file {home.identity_file} is missing, although {trace} exists",
                code="identity-missing",
                next_step="restore it from a backup, or start another profile: covey --profile NAME up",
            )


def _finish_recovery(home: Home, credentials: Credentials, disk: Disk) -> None:
    """Give a staged recovery file its name, if it belongs to this identity and none has the name yet."""
    if not _staged(home).exists() or home.recovery_file.exists():
        return
    staged = read_private(_staged(home))
    try:
        matches = staged is not None and load_recovery(staged).log.identity == credentials.identity
    except CoveyError:
        matches = False
    if matches:
        move_private(_staged(home), home.recovery_file, disk)


def _staged(home: Home) -> Path:
    return home.recovery_dir / "next-root-key.staged"
