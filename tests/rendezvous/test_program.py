"""The process, as a user or a script starts it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from covey.base.errors import CoveyError, UsageError
from covey.base.paths import Home
from covey.base.types import identity_text, parse_endpoint
from covey.net.real import RealHost
from covey.node import Node
from covey.rendezvous import ready
from covey.rendezvous.program import Options, parse_options
from covey.wire import rendezvous as wire
from covey.wire.relay import Relaying
from covey.wire.ticket import Ticket
from tests.net.tls import certificate
from tests.rendezvous.world import Agent

LOOPBACK = ("--listen", "127.0.0.1:0")


class Process:
    """A rendezvous that has said it serves."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "covey.rendezvous", "--home", str(home), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stdout is not None
        self.line = self.popen.stdout.readline()

    @property
    def ticket(self) -> Ticket:
        return Ticket.parse(self.line)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, the rest of standard output, standard error."""
        self.popen.send_signal(number)
        out, err = self.popen.communicate(timeout=20)
        return self.popen.returncode, out, err


@contextlib.contextmanager
def running(home: Path, *arguments: str) -> Iterator[Process]:
    process = Process(home, *arguments)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.stop(signal.SIGKILL)
        for stream in (process.popen.stdout, process.popen.stderr):
            if stream is not None:
                stream.close()


def attempt(home: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "covey.rendezvous", "--home", str(home), *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_ticket_is_all_of_standard_output_and_a_signal_ends_it_with_0(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with running(tmp_path / "home", *LOOPBACK) as process:
            ticket = process.ticket
            code, out, err = process.stop(number)
        assert (code, out) == (0, "")
        assert f"covey up --network {ticket}" in err
        assert identity_text(ticket.entries[0].identity) in err
        assert "only agents on this machine" in err


def test_joined_rendezvous_is_in_the_ticket_also_after_a_restart_without_a_word(tmp_path: Path) -> None:
    with running(tmp_path / "one", *LOOPBACK) as one, running(tmp_path / "two", *LOOPBACK) as alone:
        first = one.ticket
        alone.stop()
        with running(tmp_path / "two", *LOOPBACK, "--join", str(first)) as two:
            both = two.ticket
            _, _, err = two.stop()
        assert both.entries[0] == first.entries[0]
        assert [entry.identity for entry in both.entries[1:]] == [alone.ticket.entries[0].identity]
        assert "names 2 rendezvous" in err
        with running(tmp_path / "two", "--json") as again:
            said = json.loads(again.line)
            again.stop()
        assert (Ticket.parse(said["ticket"]), said["rendezvous"]) == (both, 2)
        one.stop()


def test_drain_timeout_is_how_long_a_client_that_stays_is_waited_for(tmp_path: Path) -> None:
    async def main(process: Process) -> None:
        host = RealHost()
        agent = Agent(host, "127.0.0.1")
        try:
            await agent.join(process.ticket)
            begun = time.monotonic()
            process.popen.send_signal(signal.SIGTERM)
            await agent.pushed(wire.Restarting)
            assert await agent.lookup(wire.BY_IDENTITY, agent.identity) == [], "it answers until it ends"
            await asyncio.to_thread(process.popen.wait)
            assert 0.7 < time.monotonic() - begun < 5.0
        finally:
            await agent.close()
            host.close()

    with running(tmp_path / "home", *LOOPBACK, "--drain-timeout", "1") as process:
        asyncio.run(main(process))


def test_json_says_the_same_in_one_line_and_logs_in_lines(tmp_path: Path) -> None:
    with running(tmp_path / "home", *LOOPBACK, "--json") as process:
        said = json.loads(process.line)
        code, out, err = process.stop()
    assert (code, out) == (0, "")
    entry = Ticket.parse(said["ticket"]).entries[0]
    assert said == {
        "schema": 1,
        "event": "serving",
        "ticket": said["ticket"],
        "identity": identity_text(entry.identity),
        "listen": list(entry.endpoints),
        "endpoints": list(entry.endpoints),
        "rendezvous": 1,
    }
    logged = [json.loads(line) for line in err.splitlines()]
    assert [line["event"] for line in logged] == ["draining", "stopped"]


def test_a_restart_without_a_word_gives_the_same_ticket(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, *LOOPBACK, "--advertise", "rv.example.com:7") as process:
        first = process.ticket
        process.stop()
    assert first.entries[0].endpoints == ("rv.example.com:7",)
    with running(home, "--json") as process:
        again = json.loads(process.line)
        process.stop(signal.SIGKILL)
    assert Ticket.parse(again["ticket"]) == first
    with running(home, *LOOPBACK) as process:  # port 0: the same one, but nothing is advertised
        assert process.ticket.entries[0].endpoints == tuple(again["listen"])
        process.stop()


def test_a_port_that_is_taken_is_given_up_only_for_port_0(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, *LOOPBACK) as process:
        port = int(process.ticket.entries[0].endpoints[0].rpartition(":")[2])
        process.stop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        code, out, err = attempt(home)
        assert (code, out) == (1, "")
        assert "(address-in-use)" in err
        assert "next: " in err
        with running(home, *LOOPBACK) as process:
            assert not process.ticket.entries[0].endpoints[0].endswith(f":{port}")
            process.stop()


def test_one_home_has_one_process(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, *LOOPBACK) as process:
        code, out, _ = attempt(home, *LOOPBACK, "--json")
        assert code == 1
        error = json.loads(out)["error"]
        assert error["code"] == "rendezvous-in-use"
        assert str(process.popen.pid) in error["message"]
        process.stop()


def test_its_files_are_private_and_a_lost_identity_is_an_error(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, *LOOPBACK) as process:
        process.stop()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home, *home.iterdir())}
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes
    (home / "identity").unlink()
    code, _, err = attempt(home, *LOOPBACK)
    assert code == 9
    assert "(identity-missing)" in err
    (home / "recovery" / "next-root-key").unlink()
    assert "(identity-missing)" in attempt(home, *LOOPBACK)[2]
    assert not (home / "identity").exists()


def test_a_damaged_cache_is_moved_aside_and_filled_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, *LOOPBACK) as process:
        ticket = process.line
        process.stop()
    (home / "rendezvous.db").write_bytes(b"not a database at all" * 100)
    (home / "listen.json").write_bytes(b"{")
    with running(home, *LOOPBACK) as process:
        assert process.ticket.entries[0].identity == Ticket.parse(ticket).entries[0].identity
        _, _, err = process.stop()
    (aside,) = (found for found in home.iterdir() if "damaged" in found.name)
    assert aside.read_bytes() == b"not a database at all" * 100
    assert str(aside) in err
    assert "listen.json is damaged" in err


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (["--listen", "nonsense"], "bad-listen", 2),
        (["--listen", "127.0.0.1:99999"], "bad-listen", 2),
        (["--advertise", "example.com"], "bad-advertise", 2),
        (["--advertise", "example.com:0"], "bad-advertise", 2),
        ([word for port in "12345" for word in ("--advertise", f"x:{port}")], "bad-advertise", 2),
        (["--lissten", "127.0.0.1:0"], "usage", 2),
        (["--log-level", "loud"], "usage", 2),
        (["--listen", "192.0.2.77:0"], "address-not-local", 2),
        (["--listen", "no-such-host.invalid:0"], "host-not-found", 6),
    ],
)
def test_a_command_line_that_cannot_be_is_one_clear_error(
    arguments: list[str], code: str, status: int, tmp_path: Path
) -> None:
    got, out, err = attempt(tmp_path / "home", *arguments)
    assert (got, out) == (status, "")
    assert f"({code})\n" in err
    assert "Traceback" not in err


def test_options_are_read() -> None:
    environment = {"COVEY_LOG_LEVEL": "DEBUG"}
    assert parse_options(["--drain-timeout", "30"], {}).drain_timeout == 30.0
    terms = parse_options(["--relay-rate", "125000", "--jurisdiction", "eu"], {}).relaying
    assert terms == Relaying(True, 125_000, "eu")
    assert parse_options([], {}).relaying == Relaying(True, 0, "")
    assert parse_options([], {}) == Options(None, (), None, False, "info")
    given = ["--listen", "[::1]:5", "--advertise", "a:1", "--advertise", "a:1", "--json", "--home", "x"]
    assert parse_options(given, environment) == Options(("::1", 5), ("a:1",), "x", True, "debug")
    with pytest.raises(UsageError):
        parse_options(["--lis", "127.0.0.1:0"], {})


@pytest.mark.parametrize(
    ("endpoints", "where"),
    [
        (["127.0.0.1:1"], "this machine"),
        (["[::1]:1"], "this machine"),
        (["127.0.0.1:1", "192.168.1.2:1"], "this network"),
        (["10.1.2.3:1"], "this network"),
        (["[fe80::1%2]:1"], "this network"),
        (["8.8.8.8:1"], ""),
        (["10.1.2.3:1", "rv.example.com:1"], ""),
    ],
)
def test_who_cannot_follow_the_ticket_is_said(endpoints: list[str], where: str) -> None:
    assert (where in ready.reach(endpoints)) if where else ready.reach(endpoints) == ""


def test_agents_meet_through_a_real_process_and_hear_it_stop(tmp_path: Path) -> None:
    async def main(process: Process) -> None:
        host = RealHost()
        a, b = Agent(host, "127.0.0.1"), Agent(host, "127.0.0.1")
        try:
            for agent in (a, b):
                await agent.join(process.ticket)
            assert (await a.pushed(wire.Observed)).endpoint == f"127.0.0.1:{a.port.local[1]}"
            assert await a.publish("azure-processor") == wire.NAME_HELD
            assert await b.lookup(wire.BY_NAME, b"azure-processor") == [a.identity]
            connection = await b.meet(a)
            payload = os.urandom(1_000_000)
            stream = await b.transport.open(connection, "echo")
            echoed = asyncio.ensure_future(stream.read_exactly(len(payload)))
            await stream.write(payload)
            assert await echoed == payload
            assert connection.session is not None
            assert connection.session.active.route.relayed
            process.popen.send_signal(signal.SIGTERM)
            for agent in (a, b):
                await agent.pushed(wire.Restarting)
                await agent.ended.wait()
        finally:
            await a.close()
            await b.close()
            host.close()

    with running(tmp_path / "home", *LOOPBACK) as process:
        asyncio.run(asyncio.wait_for(main(process), 30))
        assert process.popen.wait(10) == 0
        out, err = process.popen.communicate()
        assert out == ""
        assert "127.0.0.1" not in err.replace(f"listening {process.ticket.entries[0].endpoints[0]}", "")


def test_published_records_survive_a_kill(tmp_path: Path) -> None:
    async def publish(ticket: Ticket) -> bytes:
        host = RealHost()
        agent = Agent(host, "127.0.0.1")
        try:
            await agent.join(ticket)
            assert await agent.publish("steady") == wire.NAME_HELD
        finally:
            await agent.close()
            host.close()
        return agent.identity

    async def look(ticket: Ticket) -> list[bytes]:
        host = RealHost()
        agent = Agent(host, "127.0.0.1")
        try:
            await agent.join(ticket)
            return [*await agent.lookup(wire.BY_NAME, b"steady")]
        finally:
            await agent.close()
            host.close()

    with running(tmp_path / "home", *LOOPBACK) as process:
        identity = asyncio.run(publish(process.ticket))
        before = process.ticket
        process.stop(signal.SIGKILL)
    with running(tmp_path / "home") as process:
        assert process.ticket == before
        assert asyncio.run(look(process.ticket)) == [identity]
        process.stop()


def test_the_default_place_is_beside_the_profiles(tmp_path: Path) -> None:
    environment = {**os.environ, "COVEY_HOME": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "covey.rendezvous", *LOOPBACK],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("covey1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert (tmp_path / "rendezvous" / "state" / "rendezvous.db").exists()
    assert (tmp_path / "rendezvous" / "recovery" / "next-root-key").exists()


def remove_database(home: Path) -> None:
    for path in home.glob("rendezvous.db*"):
        path.unlink()


def replace_database_by_noise(home: Path) -> None:
    (home / "noise").write_bytes(b"noise" * 9999)
    (home / "noise").rename(home / "rendezvous.db")


@pytest.mark.parametrize("lose", [remove_database, replace_database_by_noise])
def test_a_cache_that_is_lost_while_in_use_is_filled_again(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    home = tmp_path / "home"

    async def found(asker: Node) -> None:
        """Asked anew each time, since who was found once is remembered."""
        while True:
            with contextlib.suppress(CoveyError):
                assert (await asker.find("a")).name == "a"
                return
            await asyncio.sleep(0.1)

    async def main(ticket: str) -> None:
        def node(name: str) -> Node:
            return Node(name, network=ticket, home=home_in(tmp_path / name), listen="127.0.0.1:0")

        async with node("a") as a, node("b") as b:
            await found(b)
            lose(home)
            while not a.view().degraded:  # noqa: ASYNC110 - it hears the rendezvous go
                await asyncio.sleep(0.05)
            async with node("c") as c:
                await found(c)

    with running(home, *LOOPBACK) as process:
        asyncio.run(asyncio.wait_for(main(process.line.strip()), 50))
        code, out, err = process.stop()
    assert (code, out) == (0, "")
    assert "a database is lost: beginning anew" in err
    assert "Traceback" not in err


def home_in(folder: Path) -> Home:
    return Home.locate(None, {"COVEY_HOME": str(folder)}, uid=os.getuid(), temporary=Path("/tmp"))


# --- WebSockets -------------------------------------------------------------------------------------------------------


def test_certificate_makes_it_serve_websockets_also_after_a_restart(tmp_path: Path) -> None:
    files = certificate(tmp_path, "127.0.0.1")
    serving = ("--certificate", files.certificate, "--key", files.key, "--websocket", "127.0.0.1:0")
    with running(tmp_path / "home", *LOOPBACK, *serving) as process:
        (entry,) = process.ticket.entries
        (websocket,) = entry.websockets
        assert websocket.startswith("127.0.0.1:")
        with socket.create_connection(parse_endpoint(websocket)):
            pass
        assert process.stop()[0] == 0
    with running(tmp_path / "home") as process:
        assert process.ticket.entries == (entry,), "the ticket is the same"
        assert process.stop()[0] == 0


def test_advertised_websockets_are_those_of_the_ticket(tmp_path: Path) -> None:
    files = certificate(tmp_path, "rv.example.com")
    serving = ("--certificate", files.certificate, "--key", files.key, "--websocket", "127.0.0.1:0")
    with running(tmp_path / "home", *LOOPBACK, *serving, "--advertise-websocket", "rv.example.com:443") as process:
        (entry,) = process.ticket.entries
        assert entry.websockets == ("rv.example.com:443",)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--certificate", "here.pem"), "bad-certificate"),
        (("--websocket", "nonsense"), "bad-websocket"),
        (("--advertise-websocket", "rv.example.com:0"), "bad-advertise"),
    ],
)
def test_websocket_that_makes_no_sense_is_refused(arguments: tuple[str, ...], code: str) -> None:
    with pytest.raises(UsageError) as info:
        parse_options(arguments, {})
    assert info.value.code == code


def test_websocket_without_its_certificate_is_not_served(tmp_path: Path) -> None:
    status, out, err = attempt(tmp_path / "home", *LOOPBACK, "--certificate", "gone.pem", "--key", "gone.pem")
    assert status != 0
    assert "(certificate-file)" in err
    assert out == ""
