from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from covey.base import errors
from covey.base.errors import CoveyError
from covey.base.paths import Home
from covey.base.schema import NodeView
from covey.cli.client import Client, error_from


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.locate("default", {"COVEY_HOME": str(tmp_path)}, uid=os.getuid())
    home.run_dir.mkdir(mode=0o700, parents=True)
    return home


@pytest.fixture
def listener(home: Home) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home.api_socket))
        listening.listen()
        yield listening


def answer_once(listener: socket.socket, answer: bytes) -> threading.Thread:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_error_from_restores_class_code_and_next_step() -> None:
    error = error_from(403, b'{"code": "c", "message": "m", "next_step": "n", "added_later": 1}')
    assert type(error) is errors.RefusedError
    assert (error.code, error.message, error.next_step) == ("c", "m", "n")


@pytest.mark.parametrize(("status", "body"), [(418, b'{"code": "c", "message": "m"}'), (500, b"<html>")])
def test_error_from_takes_anything(status: int, body: bytes) -> None:
    assert type(error_from(status, body)) is CoveyError


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "daemon-gone"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "daemon-gone"),
        (b"nonsense\r\n\r\n", "daemon-gone"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "daemon-version"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{", "daemon-version"),
    ],
)
def test_broken_answer_is_an_error(home: Home, listener: socket.socket, answer: bytes, code: str) -> None:
    thread = answer_once(listener, answer)
    with Client(home, timeout=5) as client, pytest.raises(CoveyError) as caught:
        client.get("/v1/status", NodeView)
    thread.join()
    assert caught.value.code == code


def test_daemon_that_hangs_is_a_timeout(home: Home, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covey.cli.client.GRACE_SECONDS", 0.0)
    with Client(home, timeout=0.05) as client, pytest.raises(errors.TimeoutError):
        client.get("/v1/status", NodeView)
