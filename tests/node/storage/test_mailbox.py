from __future__ import annotations

import stat
from pathlib import Path
from random import Random

import pytest

from covey.base.errors import StorageError
from covey.crypto.credentials import Credentials
from covey.crypto.mailbox import DAY_US, MailboxKeys
from covey.node.storage import Home, load_mailbox, prepare, save_mailbox

NOW = 1_800_000_000_000_000
CREDENTIALS = Credentials.create(Random(1).randbytes, NOW)[0]
KEYS = MailboxKeys().rotated(CREDENTIALS, bytes(32), NOW)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.locate("a", {"COVEY_HOME": str(tmp_path)}, uid=0)
    prepare(home)
    return home


def test_profile_of_an_earlier_covey_has_no_keys_yet(home: Home) -> None:
    assert load_mailbox(home, CREDENTIALS.identity, NOW) == (MailboxKeys(), "")


def test_keys_are_kept_privately(home: Home) -> None:
    save_mailbox(home, KEYS)
    assert load_mailbox(home, CREDENTIALS.identity, NOW) == (KEYS, "")
    assert stat.S_IMODE(home.mailbox_file.stat().st_mode) == 0o600
    home.mailbox_file.chmod(0o644)
    with pytest.raises(StorageError) as caught:
        load_mailbox(home, CREDENTIALS.identity, NOW)
    assert caught.value.code == "bad-permissions"


def test_destroyed_key_is_not_in_the_file(home: Home) -> None:
    seed = bytes(range(32))
    save_mailbox(home, MailboxKeys().rotated(CREDENTIALS, seed, NOW))
    assert seed in home.mailbox_file.read_bytes()
    keys = load_mailbox(home, CREDENTIALS.identity, NOW)[0].rotated(CREDENTIALS, bytes(32), NOW + 8 * DAY_US)
    save_mailbox(home, keys)
    assert seed not in home.mailbox_file.read_bytes()
    assert [path.name for path in home.state_dir.iterdir() if seed in path.read_bytes()] == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another's"])
def test_damaged_file_is_moved_aside_not_overwritten(damage: str, home: Home) -> None:
    save_mailbox(home, KEYS)
    raw = home.mailbox_file.read_bytes()
    other = Credentials.create(Random(2).randbytes, NOW)[0]
    damaged = {
        "cut": raw[:100],
        "flipped": raw[:40] + bytes([raw[40] ^ 1]) + raw[41:],
        "empty": b"",
        "another's": MailboxKeys().rotated(other, bytes(32), NOW).dump(),
    }[damage]
    home.mailbox_file.write_bytes(damaged)
    keys, aside = load_mailbox(home, CREDENTIALS.identity, NOW)
    assert keys == MailboxKeys()
    assert Path(aside).read_bytes() == damaged
    assert not home.mailbox_file.exists()
