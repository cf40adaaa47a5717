from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from covey.base.config import ConfigFile
from covey.base.errors import StateError, StorageError
from covey.base.paths import Home
from covey.daemon import sockets
from covey.daemon.options import Options, settings
from covey.daemon.program import Daemon
from tests.daemon.memory import MemoryNode, QuietStarter, RunningDaemon, running_daemon
from tests.daemon.test_http import UnixConnection, request


def test_daemon_starts_the_node_before_the_sockets_and_closes_it_after(tmp_path: Path) -> None:
    with running_daemon(tmp_path) as daemon:
        assert daemon.node.started
        assert daemon.home.api_socket.exists()
        assert daemon.home.stream_socket.exists()
    assert daemon.node.closed
    assert not daemon.home.api_socket.exists()
    assert not daemon.home.stream_socket.exists()


def test_node_that_does_not_start_leaves_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_use = StateError("somebody has it", code="profile-in-use")
    monkeypatch.setattr(
        "tests.daemon.memory.MemoryNode.start", lambda self: (_ for _ in ()).throw(in_use), raising=True
    )
    with pytest.raises(StateError) as caught, running_daemon(tmp_path):
        pass
    assert caught.value is in_use
    assert list(tmp_path.rglob("*.sock")) == []


def test_socket_that_cannot_be_made_closes_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "default" / "run"
    run.mkdir(parents=True)
    (run / "stream.sock").write_text("in the way")
    closed: list[bool] = []
    monkeypatch.setattr("tests.daemon.memory.MemoryNode.close", _closing(closed))
    with pytest.raises(StorageError, match="in the way"), running_daemon(tmp_path):
        pass
    assert closed == [True]
    assert not (run / "api.sock").exists()
    assert (run / "stream.sock").read_text() == "in the way"


def test_sockets_of_a_killed_daemon_are_replaced(tmp_path: Path) -> None:
    run = tmp_path / "default" / "run"
    run.mkdir(parents=True)
    for name in ("api.sock", "stream.sock"):
        sockets.listen(run / name).close()
    with running_daemon(tmp_path) as daemon:
        assert request(daemon, "GET", "/v1/status")[0] == 200


def test_stop_finishes_the_running_request(daemon: RunningDaemon) -> None:
    gate = daemon.call(asyncio.Event)
    daemon.node.gates["ping"] = gate
    answers: list[int] = []
    worker = threading.Thread(
        target=lambda: answers.append(request(daemon, "POST", "/v1/ping", b'{"peer": "azure-processor"}')[0])
    )
    worker.start()
    daemon.call(daemon.node.entered.wait)
    daemon.loop.call_soon_threadsafe(daemon.daemon.stop)
    daemon.loop.call_soon_threadsafe(gate.set)
    worker.join(20)
    assert answers == [200]


def test_stop_by_request_is_answered(daemon: RunningDaemon) -> None:
    connection = UnixConnection(daemon.home.api_socket)
    connection.request("POST", "/v1/stop")
    assert json.loads(connection.getresponse().read())["stopping"]
    connection.close()


def test_stop_ends_a_start_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[bool] = []

    async def start(node: MemoryNode) -> None:
        node.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    monkeypatch.setattr(MemoryNode, "start", start)

    async def run() -> None:
        node = MemoryNode()
        daemon = Daemon(
            Home.locate(None, {"COVEY_HOME": str(tmp_path)}, uid=0), node, settings(Options(), ConfigFile(), {})
        )
        serving = asyncio.ensure_future(daemon.serve(QuietStarter()))
        await node.entered.wait()
        daemon.stop()
        with pytest.raises(StateError) as caught:
            await serving
        assert caught.value.code == "stopped"

    asyncio.run(run())
    assert cancelled == [True]


def test_node_that_does_not_close_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def close(node: MemoryNode) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(MemoryNode, "close", close)
    monkeypatch.setattr("covey.daemon.program.CLOSE_SECONDS", 0.01)
    with running_daemon(tmp_path):
        pass


def test_stop_twice_is_stop_once(daemon: RunningDaemon) -> None:
    daemon.loop.call_soon_threadsafe(daemon.daemon.stop)
    daemon.loop.call_soon_threadsafe(daemon.daemon.stop)


def _closing(closed: list[bool]) -> object:
    async def close(self: object) -> None:
        closed.append(True)

    return close
