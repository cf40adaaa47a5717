from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from covey.base.errors import StateError, StorageError
from covey.node.storage.files import (
    READ_LIMIT,
    Lock,
    move_private,
    private_directory,
    read_private,
    remove_file,
    write_private,
)

if TYPE_CHECKING:
    from tests.node.storage.conftest import FailingDisks


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_write_private_makes_a_file_for_us_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "secret", b"key")
    finally:
        os.umask(before)
    assert mode(tmp_path / "secret") == 0o600
    assert (tmp_path / "secret").read_bytes() == b"key"
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_write_private_replaces_and_tightens(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)


def test_write_private_replaces_a_symbolic_link_instead_of_following_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"kept")
    (tmp_path / "secret").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".secret.new").symlink_to(tmp_path / "elsewhere")
    write_private(tmp_path / "secret", b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"kept"
    assert (tmp_path / "secret").read_bytes() == b"new"


@pytest.mark.parametrize("dead", [True, False], ids=["power-lost", "one-error"])
@pytest.mark.parametrize("before", [None, b"old"], ids=["new", "replace"])
def test_write_private_leaves_old_or_new_bytes_whichever_call_fails(
    tmp_path: Path, failing_disk: FailingDisks, before: bytes | None, dead: bool
) -> None:
    path = tmp_path / "secret"
    for n in range(1, 50):
        path.unlink(missing_ok=True)
        if before is not None:
            write_private(path, before)
        disk = failing_disk(n, dead)
        try:
            write_private(path, b"new", disk)
        except StorageError:
            assert (path.read_bytes() if path.exists() else None) in (before, b"new")
        if disk.calls < n:
            break
    assert 6 < n < 49
    assert path.read_bytes() == b"new"
    write_private(path, b"again")
    assert path.read_bytes() == b"again"


def test_write_private_on_a_full_disk_says_so(tmp_path: Path, failing_disk: FailingDisks) -> None:
    with pytest.raises(StorageError) as caught:
        write_private(tmp_path / "secret", b"new", failing_disk(3, False))
    assert caught.value.code == "disk-full"
    assert caught.value.next_step
    assert list(tmp_path.iterdir()) == []


def test_write_private_into_nowhere_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        write_private(tmp_path / "missing" / "secret", b"")


def test_read_private_returns_what_was_written(tmp_path: Path) -> None:
    assert read_private(tmp_path / "secret") is None
    write_private(tmp_path / "secret", b"key")
    assert read_private(tmp_path / "secret") == b"key"


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o611])
def test_read_private_refuses_what_others_can_read(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "secret"
    write_private(path, b"key")
    path.chmod(bits)
    with pytest.raises(StorageError) as caught:
        read_private(path)
    assert (caught.value.code, caught.value.next_step) == ("bad-permissions", f"chmod 600 {path}")


def test_read_private_refuses_what_is_no_small_file(tmp_path: Path) -> None:
    write_private(tmp_path / "large", bytes(READ_LIMIT + 1))
    for path in (tmp_path, tmp_path / "large"):
        with pytest.raises(StorageError):
            read_private(path)


def test_remove_file_and_move_private(tmp_path: Path) -> None:
    remove_file(tmp_path / "missing")
    write_private(tmp_path / "a", b"1")
    move_private(tmp_path / "a", tmp_path / "b")
    assert read_private(tmp_path / "b") == b"1"
    remove_file(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError):
        move_private(tmp_path / "a", tmp_path / "b")


def test_private_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_directory(tmp_path / "a" / "b")
        private_directory(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert mode(tmp_path / "a" / "b") == 0o700


def test_private_directory_refuses_what_somebody_may_have_prepared(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch(mode=0o600)
    for name in ("open", "link", "file"):
        with pytest.raises(StorageError):
            private_directory(tmp_path / name)


def test_lock_excludes_and_names_the_holder(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert first.holder() is None
    with first:
        assert mode(tmp_path / "lock") == 0o600
        with pytest.raises(StateError) as caught:
            second.acquire()
        assert caught.value.code == "profile-in-use"
        assert str(os.getpid()) in caught.value.message
        assert second.holder() == os.getpid()
        with pytest.raises(StateError):
            first.acquire()
    with second:
        pass
    second.release()


def test_lock_excludes_another_process_and_ends_with_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from covey.node.storage.files import Lock\n"
        "lock = Lock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match=str(holder.pid)):
            Lock(tmp_path / "lock").acquire()
        holder.kill()
        holder.wait()
    with Lock(tmp_path / "lock"):
        pass


def test_lock_in_a_missing_directory_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        Lock(tmp_path / "missing" / "lock").acquire()


def test_lock_tells_whether_somebody_holds_it_and_takes_nothing(tmp_path: Path) -> None:
    lock, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert not lock.is_held()
    assert not lock.path.exists()
    with other:
        assert lock.is_held()
        assert other.is_held()
    assert not lock.is_held()
    lock.acquire()
    lock.release()
