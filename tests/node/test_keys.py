from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from covey.base.errors import ParseError, StorageError
from covey.base.paths import Home
from covey.crypto.credentials import Credentials
from covey.node.keys import fingerprint, keys_view, load_keys
from covey.node.storage import load_or_create, prepare

NOW_US = 1_800_000_000_000_000
DAY_US = 24 * 3600 * 1_000_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.locate(None, {"COVEY_HOME": str(tmp_path)}, uid=0, temporary=tmp_path)
    prepare(home)
    return home


def test_keys_are_shown_with_their_dates(home: Home) -> None:
    credentials = load_or_create(home, random.Random(1).randbytes, NOW_US)
    view = load_keys(home, NOW_US)
    assert (view.log_sequence, view.log_head, view.revoked) == (0, credentials.log.head.hex(), False)
    assert view.root.fingerprint == fingerprint(credentials.log.root_key)
    assert len(view.root.fingerprint.replace(" ", "")) == 32
    assert view.operational.until == (NOW_US + 30 * DAY_US) / 1e6
    assert [key.until for key in view.transport] == [(NOW_US + 2 * DAY_US) / 1e6]
    assert view.next_transport == (NOW_US + 2 * DAY_US / 3) / 1e6
    assert view.next_operational == (NOW_US + 20 * DAY_US) / 1e6
    assert (view.root_here, view.recovery_here) == (True, True)
    assert [(each.code, each.severity) for each in view.findings] == [("recovery-file-here", "note")]
    assert f"mv {home.recovery_file}" in view.findings[0].hint


def test_no_private_byte_is_in_the_answer(home: Home) -> None:
    credentials = load_or_create(home, random.Random(1).randbytes, NOW_US)
    recovery = home.recovery_file.read_bytes()
    shown = msgspec.json.encode(load_keys(home, NOW_US)).replace(b" ", b"").decode()
    assert credentials.root is not None
    secrets = [credentials.root.seed, credentials.operational.seed, credentials.current.key.private, recovery[13:45]]
    for secret in secrets:
        for start in range(len(secret) - 7):
            assert secret[start : start + 8].hex() not in shown


def test_root_that_is_elsewhere_is_missed_in_time(home: Home) -> None:
    credentials, _ = Credentials.create(random.Random(1).randbytes, NOW_US)
    offline = credentials.without_root()
    early = keys_view(offline, home, NOW_US)
    assert (early.root_here, early.next_operational, early.findings) == (False, None, [])
    for days, severity in ((21, "warning"), (31, "error")):
        (finding,) = keys_view(offline, home, NOW_US + days * DAY_US).findings
        assert (finding.code, finding.severity) == ("operational-key-ends", severity)


def test_identity_that_is_missing_or_damaged_is_an_error(home: Home) -> None:
    with pytest.raises(StorageError) as caught:
        load_keys(home, NOW_US)
    assert caught.value.code == "identity-missing"
    home.identity_file.write_bytes(b"x" * 100)
    home.identity_file.chmod(0o600)
    with pytest.raises(ParseError):
        load_keys(home, NOW_US)
