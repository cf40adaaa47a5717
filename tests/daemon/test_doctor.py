from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from covey.base.paths import Home
from covey.base.schema import CheckView
from covey.daemon import doctor
from covey.daemon.doctor import CHECKS, CODES, Patient, examine
from covey.net.real import RealHost
from covey.net.udp import Offload
from covey.node.storage import Lock, Store, load_or_create, prepare
from covey.node.storage.settings import NETWORK
from covey.wire.ticket import Ticket, TicketEntry

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.locate(None, {"COVEY_HOME": str(tmp_path)}, uid=0, temporary=tmp_path)
    prepare(home)
    host = RealHost()
    load_or_create(home, host.random, host.wall_us())
    Store.open(home, host.random, host.wall_us(), durable=False).close()
    home.recovery_file.unlink()
    return home


def look(
    home: Home, environment: Mapping[str, str] | None = None, host: RealHost | None = None
) -> dict[str, CheckView]:
    host = host or RealHost()
    try:
        found = asyncio.run(examine(Patient(home, environment or {}, host)))
    finally:
        host.close()
    assert [each.name for each in found] == [name for name, _ in CHECKS]
    return {each.name: each for each in found}


def codes(check: CheckView) -> list[str]:
    return [each.code for each in check.findings]


@contextlib.contextmanager
def udp_port() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_healthy_agent_without_a_network_is_only_without_a_network(home: Home) -> None:
    found = look(home)
    for name in ("settings", "files", "disk", "clock", "keys", "sockets"):
        assert (name, codes(found[name]), found[name].result) == (name, [], "ok")
    assert codes(found["rendezvous"]) == ["no-network"]
    assert re.fullmatch(r"fsync [0-9.]+ ms, [0-9,]+ MiB free", found["disk"].detail)
    assert not list(home.state_dir.glob(".doctor*"))


def test_settings_that_cannot_be_are_found(home: Home) -> None:
    home.config_file.write_text("listen = 5\n")
    found = look(home, {"COVEY_HOSTNAM": "x"})
    assert codes(found["settings"]) == ["bad-config", "unknown-variable"]
    assert f"{home.config_file}:1" in found["settings"].findings[0].what
    home.config_file.unlink()
    assert codes(look(home, {"COVEY_LISTEN": "nowhere"})["settings"]) == ["bad-config"]


def test_file_others_may_read_is_found(home: Home) -> None:
    home.identity_file.chmod(0o644)
    found = look(home)
    assert codes(found["files"]) == ["bad-permissions"]
    assert found["files"].result == "error"


def test_large_database_is_left_to_store_check(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.database.write_bytes(b"damaged")
    assert codes(look(home)["files"]) == ["store-corrupt"]
    monkeypatch.setattr(doctor, "LOOK_LIMIT", 0)
    found = look(home)["files"]
    assert (codes(found), "covey store check" in found.detail) == ([], True)


def test_slow_disk_is_found(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SLOW_FSYNC_SECONDS", 0.0)
    assert codes(look(home)["disk"]) == ["disk-slow"]


class ShiftedHost(RealHost):
    """A machine with a wrong clock, which is set by `jump_us` between two looks."""

    def __init__(self, offset_us: int = 0, jump_us: int = 0) -> None:
        super().__init__()
        self._offset_us, self._jump_us = offset_us, jump_us

    def wall_us(self) -> int:
        self._offset_us += self._jump_us
        return super().wall_us() + self._offset_us


def test_clock_that_cannot_be_right_is_found(home: Home) -> None:
    assert "clock-before-us" in codes(look(home, host=ShiftedHost(offset_us=-50 * 365 * 86_400_000_000))["clock"])


def test_clock_that_is_set_while_we_look_is_found(home: Home) -> None:
    assert codes(look(home, host=ShiftedHost(jump_us=1_000_000))["clock"]) == ["clock-jumps"]


def test_recovery_file_is_advice(home: Home) -> None:
    home.recovery_file.write_bytes(b"")
    home.recovery_file.chmod(0o600)
    assert [(each.code, each.severity) for each in look(home)["keys"].findings] == [("recovery-file-here", "note")]


def test_port_that_somebody_else_has_is_found_unless_it_is_our_daemon(home: Home) -> None:
    with udp_port() as number:
        environment = {"COVEY_LISTEN": f"127.0.0.1:{number}"}
        assert codes(look(home, environment)["udp"]) == ["port-in-use"]
        with Lock(home.lock_file):
            assert codes(look(home, environment)["udp"]) == []


def test_small_buffers_and_missing_offload_are_notes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SMALL_BUFFER", 1 << 40)
    monkeypatch.setattr(doctor, "probe_offload", lambda: Offload(gso=True, gro=False))
    found = look(home)["udp"]
    assert {(each.code, each.severity) for each in found.findings} == {
        ("no-offload", "note"),
        ("small-udp-buffers", "note"),
    }


def test_daemon_that_hangs_is_found(home: Home) -> None:
    with Lock(home.lock_file), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(os.fspath(home.api_socket))
        silent.listen()
        (finding,) = look(home)["sockets"].findings
    assert (finding.code, finding.severity) == ("daemon-hangs", "error")
    assert f"kill {os.getpid()}" in finding.hint


def test_socket_of_a_killed_daemon_is_only_noted(home: Home) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(os.fspath(home.api_socket))
    assert [(each.code, each.severity) for each in look(home)["sockets"].findings] == [("leftover-socket", "note")]


def test_sockets_that_had_to_move_are_noted(tmp_path: Path) -> None:
    environment = {"COVEY_HOME": str(tmp_path / ("x" * 100))}
    with tempfile.TemporaryDirectory() as short:  # shorter than pytest's, which depends on its workers
        home = Home.locate(None, environment, uid=0, temporary=Path(short))
        prepare(home)
        assert "socket-elsewhere" in codes(look(home, environment)["sockets"])


def test_rendezvous_that_is_silent_is_found(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REACH_SECONDS", 0.1)
    with udp_port() as number:
        ticket = Ticket((TicketEntry(b"r" * 32, (f"127.0.0.1:{number}",)),))  # type: ignore[arg-type]
        store = Store.open(home, os.urandom, 1, durable=False)
        store.settings.set(NETWORK, str(ticket))
        store.close()
        found = look(home)["rendezvous"]
        assert [(each.code, each.severity) for each in found.findings] == [
            ("rendezvous-silent", "error"),
            ("single-rendezvous", "note"),
        ]
        assert found.detail == f"127.0.0.1:{number} no answer"


def test_ticket_that_is_none_is_found(home: Home) -> None:
    assert codes(look(home, {"COVEY_NETWORK": "covey1nonsense"})["rendezvous"]) == ["bad-ticket"]


def test_state_that_goes_with_its_container_is_found(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_container", lambda: "Podman")
    monkeypatch.setattr(doctor, "_filesystem", lambda path: "overlay")
    found = look(home)["surroundings"]
    assert (found.detail, codes(found)) == ("Podman", ["state-not-on-volume"])


def test_filesystem_of_a_path_is_that_of_its_nearest_mount() -> None:
    assert doctor._filesystem(Path("/proc/self/fd")) == "proc"


def test_operations_page_explains_every_code() -> None:
    section = OPERATIONS.read_text().partition("| `covey doctor` also says |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| ([^|]*) \|", section, re.MULTILINE)
    assert {code for cell in cells for code in re.findall(r"`([a-z-]+)`", cell)} == CODES
