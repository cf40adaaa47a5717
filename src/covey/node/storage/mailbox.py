"""The mailbox keys on disk: one private file, replaced whole, so that a key that was dropped is gone from it.

Losing it costs the letters that wait, and their senders repeat them; so a damaged file is moved aside and the agent
starts with new keys.
"""

from __future__ import annotations

from covey.base.errors import ParseError, VerifyError
from covey.base.paths import Home
from covey.base.types import Identity
from covey.crypto.mailbox import MailboxKeys
from covey.node.storage.aside import move_aside
from covey.node.storage.files import DISK, Disk, read_private, write_private

__all__ = ["load_mailbox", "save_mailbox"]


def load_mailbox(home: Home, identity: Identity, now_us: int, disk: Disk = DISK) -> tuple[MailboxKeys, str]:
    """The keys, none if there is no file yet; and, if it was damaged, where it was moved ("" if not).

    `now_us`: wall time, microseconds, for the name of what is moved.
    `StorageError`, ``bad-permissions`` if others may read it.
    """
    path = home.mailbox_file
    raw = read_private(path)
    if raw is None:
        return MailboxKeys(), ""
    try:
        return MailboxKeys.load(raw, identity), ""
    except (ParseError, VerifyError):
        return MailboxKeys(), str(move_aside(path, now_us, disk))


def save_mailbox(home: Home, keys: MailboxKeys, disk: Disk = DISK) -> None:
    """Replace the file; on return it is on the disk. Publish the keys only then."""
    write_private(home.mailbox_file, keys.dump(), disk)
