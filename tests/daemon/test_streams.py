from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest

from covey.daemon import streams
from tests.daemon.memory import PEER_NAME, MemoryStream, RunningDaemon, running_daemon


def offer(daemon: RunningDaemon, window: int = 1 << 20) -> tuple[str, MemoryStream]:
    def make() -> tuple[str, MemoryStream]:
        stream = MemoryStream(window)
        return daemon.daemon.offer_stream(stream).token, stream

    token, stream = daemon.call(make)
    return token, stream


def connect(daemon: RunningDaemon) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(os.fspath(daemon.home.stream_socket))
    return connection


def attach(daemon: RunningDaemon, token: str) -> socket.socket:
    connection = connect(daemon)
    connection.sendall(token.encode() + b"\n")
    assert read_line(connection) == b"ok\n"
    return connection


def read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (piece := connection.recv(1)):
        line += piece
    return line


def read_all(connection: socket.socket) -> bytes:
    data = bytearray()
    while piece := connection.recv(1 << 16):
        data += piece
    return bytes(data)


def is_dropped(connection: socket.socket) -> bool:
    """True once the other side is gone; it must not have sent anything before."""
    with contextlib.suppress(ConnectionError):
        if connection.recv(1):
            return False
        connection.sendall(b"x")
        return False
    return True


def test_bytes_pass_both_ways_until_both_sides_finish(daemon: RunningDaemon) -> None:
    token, stream = offer(daemon)
    with attach(daemon, token) as connection:
        connection.sendall(b"hello")
        assert connection.recv(5, socket.MSG_WAITALL) == b"hello"
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""
    assert stream.finished
    assert stream.reset_code is None


def test_bytes_sent_with_the_token_are_not_lost(daemon: RunningDaemon) -> None:
    token, _ = offer(daemon)
    with connect(daemon) as connection:
        connection.sendall(token.encode() + b"\nfirst bytes")
        assert read_line(connection) == b"ok\n"
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"first bytes"


def test_token_may_arrive_in_pieces(daemon: RunningDaemon) -> None:
    token, _ = offer(daemon)
    with connect(daemon) as connection:
        for byte in token.encode() + b"\n":
            connection.sendall(bytes([byte]))
        assert read_line(connection) == b"ok\n"


def test_half_close_leaves_the_other_direction_open(daemon: RunningDaemon) -> None:
    token, stream = offer(daemon)
    with attach(daemon, token) as connection:
        daemon.call(lambda: stream.write(b"theirs"))
        daemon.call(stream.finish)
        assert read_all(connection) == b"theirs"
        connection.sendall(b"ours, after they finished")
        connection.shutdown(socket.SHUT_WR)


def test_slow_peer_holds_the_socket_back(daemon: RunningDaemon) -> None:
    token, stream = offer(daemon, window=64 * 1024)
    data = os.urandom(8 << 20)
    with attach(daemon, token) as connection:
        echoed: list[bytes] = []
        reader = threading.Thread(target=lambda: echoed.append(read_all(connection)))
        reader.start()
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        reader.join(20)
    assert echoed == [data]
    assert stream.most_held <= 64 * 1024


def test_program_that_does_not_read_holds_the_stream_back(daemon: RunningDaemon) -> None:
    token, stream = offer(daemon, window=64 * 1024)
    with attach(daemon, token) as connection:
        connection.setblocking(False)
        sent = 0
        blocks = 0
        while blocks < 100:  # the daemon, the kernel and the stream are full; nothing accepts more
            try:
                sent += connection.send(b"x" * 65_536)
                blocks = 0
            except BlockingIOError:
                blocks += 1
                daemon.call(lambda: None)
        assert sent < 8 << 20
        assert stream.most_held <= 64 * 1024


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"no such token\n", b"error bad-token"),
        (b"\n", b"error bad-token"),
        (b"\xff\xfe\n", b"error bad-token"),
        (b"x" * 200, b"error usage"),
        (b"x" * 200 + b"\n", b"error usage"),
    ],
)
def test_bad_first_line_is_refused(daemon: RunningDaemon, line: bytes, answer: bytes) -> None:
    with connect(daemon) as connection:
        connection.sendall(line)
        assert read_line(connection).startswith(answer)
        assert read_all(connection) == b""


def test_token_works_once(daemon: RunningDaemon) -> None:
    token, _ = offer(daemon)
    with attach(daemon, token), connect(daemon) as second:
        second.sendall(token.encode() + b"\n")
        assert read_line(second).startswith(b"error bad-token")


def test_program_that_leaves_before_its_token_is_nobody(daemon: RunningDaemon) -> None:
    with connect(daemon) as connection:
        connection.sendall(b"half a tok")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""


def test_offer_nobody_takes_is_reset(daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "OFFER_SECONDS", 0.01)
    token, stream = offer(daemon)
    daemon.call(stream.reset_seen.wait)
    with connect(daemon) as connection:
        connection.sendall(token.encode() + b"\n")
        assert read_line(connection).startswith(b"error bad-token")


def test_peers_reset_drops_the_connection(daemon: RunningDaemon) -> None:
    token, stream = offer(daemon)
    with attach(daemon, token) as connection:
        daemon.call(lambda: stream.reset(7))
        assert is_dropped(connection)


def test_dropped_connection_resets_the_stream(daemon: RunningDaemon) -> None:
    token, stream = offer(daemon)
    stream.ends_with_us = False
    connection = attach(daemon, token)
    connection.close()
    daemon.call(lambda: stream.write(b"for nobody"))
    daemon.call(stream.reset_seen.wait)
    assert stream.reset_code == 0


def test_stop_resets_what_is_attached_and_what_is_offered(tmp_path: Path) -> None:
    with running_daemon(tmp_path) as daemon:
        token, stream = offer(daemon)
        unclaimed = offer(daemon)[1]
        connection = attach(daemon, token)
    with connection:
        assert is_dropped(connection)
    assert stream.reset_code == 0
    assert unclaimed.reset_code == 0


def test_connection_of_another_user_is_closed_unanswered(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, _ = offer(daemon)
    other = os.getuid() + 1
    monkeypatch.setattr("covey.daemon.peercred.os.getuid", lambda: other)
    with connect(daemon) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(token.encode() + b"\n")
        assert is_dropped(connection)


def test_name_of_the_fixture_peer_is_known(daemon: RunningDaemon) -> None:
    stream = daemon.call(lambda: daemon.node.open(PEER_NAME, "echo"))
    assert daemon.node.streams == [stream]
