"""A stream through the API and `stream.sock` to the services `sink` and `echo` of a peer."""

from __future__ import annotations

import hashlib
import resource
import socket
from pathlib import Path

import pytest

from tests.e2e.stage import Agent, accepted

Pair = tuple[Agent, Agent]
MIB = 1 << 20
GIB = 1 << 30


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_stream_to_sink_counts_and_hashes_every_byte(pair: Pair, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    with _attached(pair[0], pair[1].name, "sink") as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = _read_all(connection)
    assert answer == b"ok\n" + size.to_bytes(8, "big") + hashlib.sha256(data).digest()


def test_stream_to_echo_brings_back_what_it_was_given(pair: Pair) -> None:
    data = bytes(range(256)) * 400
    with _attached(pair[0], pair[1].name, "echo") as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert _read_all(connection) == b"ok\n" + data


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of processes from /proc")
def test_writer_stops_while_nobody_reads_and_memory_stays_flat(pair: Pair) -> None:
    """A program that writes to an echo and does not read: every queue between fills up to its bound and no further."""
    aws, azure = pair
    piece = bytes(range(256)) * 1024
    with _attached(aws, azure.name, "echo") as connection:
        assert connection.recv(3, socket.MSG_WAITALL) == b"ok\n"
        before = [_memory(agent) for agent in pair]
        connection.settimeout(2.0)  # far longer than any pause of a stream that flows
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < GIB:
                sent += connection.send(piece[sent % len(piece) :])
        grown = [_memory(agent) - each for agent, each in zip(pair, before, strict=True)]
        assert sent < 64 * MIB
        assert max(grown) < 64 * MIB, f"{grown} bytes for {sent} in queues"
        connection.settimeout(30)
        connection.shutdown(socket.SHUT_WR)
        back = _read_all(connection)
    assert len(back) == sent
    assert back[-1] == (sent - 1) % 256


def test_stream_to_a_service_that_nobody_offers_ends_without_data(pair: Pair) -> None:
    with _attached(pair[0], pair[1].name, "no-such-service") as connection:
        assert _read_all(connection) == b"ok\n"


def test_token_is_good_once(pair: Pair) -> None:
    aws, azure = pair
    offer = aws.api.post("/v1/streams", peer=azure.name, service="sink").data
    with _connected(offer["socket"]) as first:
        first.sendall(offer["token"].encode() + b"\n")
        first.shutdown(socket.SHUT_WR)
        assert _read_all(first).startswith(b"ok\n")
    with _connected(offer["socket"]) as second:
        second.sendall(offer["token"].encode() + b"\n")
        assert _read_all(second).startswith(b"error bad-token ")


def test_bench_moves_bytes_that_the_peer_confirms(pair: Pair) -> None:
    found = accepted(pair[0], "bench", pair[1].name, "--megabytes", "3")
    assert found["bytes"] == 3 << 20
    assert found["gbit_s"] > 0
    assert 0 < found["rtt_ms_min"] <= found["rtt_ms_p50"] <= found["rtt_ms_max"]


def _memory(agent: Agent) -> int:
    """Resident bytes of its daemon."""
    pid = agent.api.get("/v1/status").data["pid"]
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _attached(agent: Agent, peer: str, service: str) -> socket.socket:
    answer = agent.api.post("/v1/streams", peer=peer, service=service)
    assert answer.ok, answer.data
    connection = _connected(answer.data["socket"])
    connection.sendall(answer.data["token"].encode() + b"\n")
    return connection


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(30)
    try:
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _read_all(connection: socket.socket) -> bytes:
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass  # how a reset stream ends
    return b"".join(pieces)
