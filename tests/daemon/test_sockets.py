from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from covey.base.errors import StorageError
from covey.daemon import sockets


def test_listen_makes_a_private_socket(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with sockets.listen(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_listen_replaces_what_a_killed_daemon_left(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    sockets.listen(path).close()  # the file stays, as after SIGKILL
    assert path.exists()
    with sockets.listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_listen_does_not_remove_a_file(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.write_text("precious")
    with pytest.raises(StorageError, match="in the way"):
        sockets.listen(path)
    assert path.read_text() == "precious"


def test_listen_does_not_follow_a_link(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="in the way"):
        sockets.listen(path)


def test_listen_reports_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot listen"):
        sockets.listen(tmp_path / "missing" / "api.sock")


def test_remove_of_nothing_is_nothing(tmp_path: Path) -> None:
    sockets.remove(tmp_path / "api.sock")
