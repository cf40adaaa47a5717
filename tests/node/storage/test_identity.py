from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from covey.base.errors import StorageError
from covey.base.paths import Home
from covey.crypto.credentials import load_recovery
from covey.node.storage.files import read_private, write_private
from covey.node.storage.identity import load_or_create, save
from covey.node.storage.paths import prepare

if TYPE_CHECKING:
    from tests.node.storage.conftest import FailingDisks

NOW = 1_800_000_000_000_000


class Seeded:
    def __init__(self, seed: int) -> None:
        self.state = seed.to_bytes(8, "big")

    def __call__(self, size: int) -> bytes:
        self.state = hashlib.sha256(self.state).digest()
        return (self.state * (size // 32 + 1))[:size]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.locate(None, {"COVEY_HOME": str(tmp_path / "h")}, uid=0, temporary=tmp_path)
    home.state_dir.mkdir(parents=True, mode=0o700)
    home.recovery_dir.mkdir(parents=True, mode=0o700)
    return home


def test_load_or_create_makes_an_identity_once(home: Home) -> None:
    made = load_or_create(home, Seeded(1), NOW)
    again = load_or_create(home, Seeded(2), NOW)
    assert again.identity == made.identity
    assert again.dump_secrets() == made.dump_secrets()


def test_load_or_create_keeps_the_next_root_in_the_recovery_file_only(home: Home) -> None:
    made = load_or_create(home, Seeded(1), NOW)
    recovery = load_recovery(read_private(home.recovery_file) or b"")
    assert recovery.log.identity == made.identity
    assert [path.name for path in home.recovery_dir.iterdir()] == [home.recovery_file.name]
    for path in home.state_dir.iterdir():
        assert recovery.next_root.seed not in path.read_bytes()


def test_load_or_create_lives_without_the_recovery_file(home: Home) -> None:
    """The user is told to move it offline."""
    made = load_or_create(home, Seeded(1), NOW)
    home.recovery_file.unlink()
    assert load_or_create(home, Seeded(2), NOW).identity == made.identity
    assert not home.recovery_file.exists()


@pytest.mark.parametrize("dead", [True, False], ids=["power-lost", "one-error"])
def test_load_or_create_leaves_nothing_or_a_whole_identity_whichever_call_fails(
    home: Home, failing_disk: FailingDisks, dead: bool
) -> None:
    expected = load_or_create(home, Seeded(1), NOW).identity
    for n in range(1, 60):
        for path in (*home.state_dir.iterdir(), *home.recovery_dir.iterdir()):
            path.unlink()
        disk = failing_disk(n, dead)
        completed = True
        try:
            assert load_or_create(home, Seeded(1), NOW, disk).identity == expected
        except StorageError:
            completed = False
        committed = home.identity_file.exists()
        after = load_or_create(home, Seeded(2), NOW)
        assert committed == (after.identity == expected)
        assert committed or not completed
        assert load_recovery(read_private(home.recovery_file) or b"").log.identity == after.identity
        if disk.calls < n:
            break
    assert 12 < n < 59


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:-1],
        lambda raw: raw + b"\n",
        lambda raw: bytes(len(raw)),
        lambda raw: raw[:40] + bytes([raw[40] ^ 1]) + raw[41:],
        lambda raw: b"covey-rc" + raw[8:],
    ],
    ids=["empty", "half", "short", "long", "zeros", "bit", "kind"],
)
def test_load_or_create_never_replaces_a_damaged_identity(home: Home, damage: object) -> None:
    load_or_create(home, Seeded(1), NOW)
    damaged = damage(home.identity_file.read_bytes())  # type: ignore[operator]
    write_private(home.identity_file, damaged)
    with pytest.raises(StorageError) as caught:
        load_or_create(home, Seeded(2), NOW)
    assert caught.value.code == "identity-damaged"
    assert str(home.identity_file) in caught.value.message
    assert caught.value.next_step
    assert home.identity_file.read_bytes() == damaged


@pytest.mark.parametrize("trace", ["database", "generation_file", "recovery_file"])
def test_load_or_create_never_replaces_an_identity_that_vanished(home: Home, trace: str) -> None:
    write_private(getattr(home, trace), b"something")
    with pytest.raises(StorageError) as caught:
        load_or_create(home, Seeded(1), NOW)
    assert caught.value.code == "identity-missing"
    assert not home.identity_file.exists()


def test_load_or_create_refuses_an_identity_others_can_read(home: Home) -> None:
    load_or_create(home, Seeded(1), NOW)
    home.identity_file.chmod(0o644)
    with pytest.raises(StorageError) as caught:
        load_or_create(home, Seeded(1), NOW)
    assert caught.value.code == "bad-permissions"


def test_load_or_create_ignores_a_staged_file_of_another_identity(home: Home) -> None:
    other = load_or_create(home, Seeded(1), NOW)
    staged = home.recovery_dir / "next-root-key.staged"
    home.recovery_file.rename(staged)
    home.identity_file.unlink()
    made = load_or_create(home, Seeded(2), NOW)
    assert made.identity != other.identity
    assert load_recovery(read_private(home.recovery_file) or b"").log.identity == made.identity

    write_private(staged, b"rubbish")
    home.recovery_file.unlink()
    assert load_or_create(home, Seeded(3), NOW).identity == made.identity
    assert not home.recovery_file.exists()


def test_save_replaces_the_identity_file(home: Home) -> None:
    made = load_or_create(home, Seeded(1), NOW)
    rotated = made.rotate_transport(bytes(range(32)), NOW + 1)
    save(home, rotated)
    assert load_or_create(home, Seeded(2), NOW).dump_secrets() == rotated.dump_secrets()


def test_prepare_then_create(tmp_path: Path) -> None:
    home = Home.locate(None, {"COVEY_HOME": str(tmp_path)}, uid=0, temporary=tmp_path)
    prepare(home)
    assert load_or_create(home, Seeded(1), NOW).address_nonce == 0
