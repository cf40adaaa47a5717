"""What is wrong around an agent: everything that can be found out without its daemon.

`CHECKS` is the list, in the order in which it is shown. A check looks at one thing, changes nothing and raises
nothing: it gives a few words on what it found, and a finding for each thing that is not as it should be. What only
the running daemon knows (`covey status`) is added by the command line, which also compares versions.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from covey.base.config import CONFIG_LIMIT, ConfigFile, bad_config, parse_config, resolve, unknown_variables
from covey.base.errors import CoveyError
from covey.base.paths import Home
from covey.base.schema import CheckView, FindingView
from covey.base.types import parse_endpoint
from covey.net.host import Host
from covey.net.udp import granted_buffers, probe_offload
from covey.node.keys import load_keys
from covey.node.reach import clock_finding, reach
from covey.node.storage.check import check_files, check_identity, check_store, in_use, remembered
from covey.node.storage.settings import NETWORK
from covey.wire.ticket import Ticket

__all__ = ["CHECKS", "CODES", "Patient", "chosen_setting", "chosen_ticket", "examine"]

CODES: Final = frozenset(
    {
        *("bad-config", "unknown-variable", "bad-ticket", "disk-slow", "clock-jumps", "clock-before-us"),
        *("clock-ahead-of-rendezvous", "clock-behind-rendezvous", "port-in-use", "no-offload", "small-udp-buffers"),
        *(
            "rendezvous-silent",
            "no-network",
            "single-rendezvous",
            "leftover-socket",
            "daemon-hangs",
            "socket-elsewhere",
        ),
        *("recovery-file-here", "operational-key-ends", "state-not-on-volume", "ends-at-logout", "runs-as-root"),
    }
)
"""Every code that is not one of `storage.check`."""

BUILT: Final = 1_767_225_600.0
"""Seconds since the epoch of 2026-01-01: no clock that is earlier can be right."""

LOOK_LIMIT: Final = 128 << 20
"""Bytes of a database that are looked at in about a second. Ours."""

SLOW_FSYNC_SECONDS: Final = 0.1
"""Ours: ten durable transactions a second are too few for anybody."""

SMALL_BUFFER: Final = 1 << 20
"""Bytes. Ours: 2 ms at 4 Gbit/s."""

REACH_SECONDS: Final = 3.0
"""How long a rendezvous may take to answer."""

JUMP_SECONDS: Final = 0.5
"""Difference between wall clock and monotonic clock, while we look, that no slewing makes."""


@dataclass(frozen=True)
class Patient:
    """What is looked at."""

    home: Home
    environment: Mapping[str, str]
    host: Host


Result = tuple[str, list[FindingView]]
Check = Callable[[Patient], Awaitable[Result]]


async def examine(patient: Patient) -> list[CheckView]:
    """Every check, in order. A check that fails unforeseen is a defect, and raises."""
    wall, steady = patient.host.wall_us() / 1e6, patient.host.now()
    found = [CheckView(name, *await check(patient)) for name, check in CHECKS]
    drift = (patient.host.wall_us() / 1e6 - wall) - (patient.host.now() - steady)
    return [_with_jump(each, drift) if each.name == "clock" else each for each in found]


async def _settings(patient: Patient) -> Result:
    """Does the daemon understand what it is told?"""
    path = os.fspath(patient.home.config_file)
    found = [
        FindingView("unknown-variable", "warning", f"{name} means nothing to Covey", f"unset {name}")
        for name in unknown_variables(patient.environment)
    ]
    try:
        problem = bad_config(_config(patient))
        if problem is None:
            resolve({}, patient.environment, _config(patient), path)
    except CoveyError as error:
        problem = error  # type: ignore[assignment]
    if problem is not None:
        found.insert(0, FindingView("bad-config", "error", problem.message, problem.next_step or "covey config show"))
    return path if patient.home.config_file.exists() else "no config.toml", found


async def _files(patient: Patient) -> Result:
    """Directories, files, identity and, unless that takes long, the database."""
    home, now_us = patient.home, patient.host.wall_us()
    size = home.database.stat().st_size if home.database.exists() else 0
    if size > LOOK_LIMIT:
        detail = f"{home.state_dir}, the database of {size >> 20} MiB not looked at: covey store check"
        return detail, [*check_files(home), *check_identity(home, now_us)]
    return os.fspath(home.state_dir), check_store(home, now_us)


async def _disk(patient: Patient) -> Result:
    """How long something takes to be on the disk. Its room is with the files."""
    directory = patient.home.state_dir
    if not directory.is_dir() or not os.access(directory, os.W_OK):
        return "not measured", []
    try:
        seconds = _time_fsync(directory / ".doctor")
        free = os.statvfs(directory)
    except OSError as error:
        return f"not measured: {error.strerror}", []  # why it cannot be written is with the files
    detail = f"fsync {seconds * 1000:.1f} ms, {free.f_bavail * free.f_frsize >> 20:,} MiB free"
    if seconds < SLOW_FSYNC_SECONDS:
        return detail, []
    what = f"the disk takes {seconds * 1000:.0f} ms to keep something, and every message waits for that"
    return detail, [FindingView("disk-slow", "warning", what, f"look what else uses it: findmnt --target {directory}")]


async def _clock(patient: Patient) -> Result:
    """Could it be right? What others' clocks say is with the rendezvous."""
    now = patient.host.wall_us() / 1e6
    detail = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now >= BUILT:
        return detail, []
    return detail, [
        FindingView("clock-before-us", "error", f"the clock shows {detail}, before this program was written", "set it")
    ]


async def _keys(patient: Patient) -> Result:
    """How long they last, and where the recovery file is. What is broken is with the files."""
    try:
        view = load_keys(patient.home, patient.host.wall_us())
    except CoveyError as error:
        return error.message, []
    return f"log sequence {view.log_sequence}, {len(view.transport)} transport keys", view.findings


async def _udp(patient: Patient) -> Result:
    """What the kernel does for us, and whether our port is free."""
    offload, (receive, send) = probe_offload(), granted_buffers()
    words = [word for word, works in (("GSO", offload.gso), ("GRO", offload.gro)) if works] or ["no offload"]
    detail = f"{', '.join(words)}, buffers {receive >> 10} and {send >> 10} KiB"
    found = []
    if not (offload.gso and offload.gro):
        what = "the kernel does not cut and join trains of datagrams here: streams cost several times the CPU"
        found.append(FindingView("no-offload", "note", what, "Linux 5.0 and later can, outside of some sandboxes"))
    if min(receive, send) < SMALL_BUFFER:
        what = f"UDP sockets get buffers of {receive >> 10} and {send >> 10} KiB: fast streams will lose packets"
        hint = "sysctl -w net.core.rmem_max=8388608 net.core.wmem_max=4194304"
        found.append(FindingView("small-udp-buffers", "note", what, hint))
    return detail, [*found, *_port(patient)]


def _port(patient: Patient) -> list[FindingView]:
    """A port that was asked for must be free while the daemon is down."""
    try:
        value = resolve({}, patient.environment, _config(patient), "")["listen"]
        host, number = parse_endpoint(value.text or "0.0.0.0:0")
    except CoveyError:
        return []  # said with the settings
    if number == 0 or in_use(patient.home) is not None:
        return []
    try:
        patient.host.udp((host, number)).close()
    except CoveyError as error:
        return [FindingView("port-in-use", "error", error.message, error.next_step)]
    return []


async def _rendezvous(patient: Patient) -> Result:
    """Is each there, and does its clock agree with ours?"""
    try:
        ticket = chosen_ticket(patient)
    except CoveyError as error:
        return "not asked", [FindingView("bad-ticket", "error", error.message, error.next_step)]
    if ticket is None:
        hint = "covey up --network covey1..."
        return "none", [FindingView("no-network", "warning", "this agent belongs to no network", hint)]
    asked = await asyncio.gather(*(reach(patient.host, entry, REACH_SECONDS) for entry in ticket.entries))
    answered = [each for each in asked if each.rtt_ms is not None]
    detail = ", ".join(
        f"{each.endpoint} {each.problem if each.rtt_ms is None else f'{each.rtt_ms:.1f} ms'}" for each in asked
    )
    found = [
        FindingView(
            "rendezvous-silent",
            "warning" if answered else "error",
            f"the rendezvous at {each.endpoint} does not answer ({each.problem})",
            "check that it runs, that its address is right, and that UDP to it is allowed here and there",
        )
        for each in asked
        if each.rtt_ms is None
    ]
    found += [finding for each in answered if (finding := clock_finding(each)) is not None]
    if len(ticket.entries) == 1:
        what = "one rendezvous: a first contact has one witness, and while it is away only known peers are reached"
        found.append(FindingView("single-rendezvous", "note", what, "run a second one and give its ticket too"))
    return detail, found


async def _sockets(patient: Patient) -> Result:
    """Does somebody answer where the command line asks?"""
    home, holder = patient.home, in_use(patient.home)
    found = []
    if home.run_parent is not None:
        what = f"the usual place of the sockets has too long a path; they are in {home.run_dir}"
        found.append(FindingView("socket-elsewhere", "note", what, "a shorter XDG_RUNTIME_DIR or COVEY_HOME"))
    answers = await asyncio.to_thread(_answers, home.api_socket)
    if holder is not None and not answers:
        what = f"process {holder} holds this profile, but nobody answers on {home.api_socket}"
        found.append(FindingView("daemon-hangs", "error", what, f"covey daemon logs; if it hangs: kill {holder}"))
    if holder is None and not answers and _is_socket(home.api_socket):
        what = f"{home.api_socket} is left of a daemon that was killed"
        found.append(FindingView("leftover-socket", "note", what, "nothing: the next daemon replaces it"))
    return ("a daemon answers" if answers else "no daemon answers"), found


async def _surroundings(patient: Patient) -> Result:
    """Containers and service managers, where they decide whether an agent lasts."""
    found = []
    container = _container()
    if container and _filesystem(patient.home.state_dir) == "overlay":
        what = f"this is a container, and {patient.home.state_dir} goes with it: identity, trust and messages too"
        found.append(FindingView("state-not-on-volume", "warning", what, "put COVEY_HOME on a volume of its own"))
    if os.getuid() == 0 and not container:
        what = "this runs as root, which Covey never needs"
        found.append(FindingView("runs-as-root", "note", what, "use a user of its own: docs/operations.md"))
    runtime = patient.environment.get("XDG_RUNTIME_DIR", "")
    user = patient.environment.get("USER", "")
    lingers = os.path.exists(f"/var/lib/systemd/linger/{user}")  # noqa: ASYNC240 - one look
    if not container and os.getuid() != 0 and runtime.startswith("/run/user/") and user and not lingers:
        what = "the service manager ends this user's processes at logout, and removes the sockets"
        found.append(FindingView("ends-at-logout", "note", what, "loginctl enable-linger"))
    return container or "no container", found


CHECKS: Final[tuple[tuple[str, Check], ...]] = (
    ("settings", _settings),
    ("files", _files),
    ("disk", _disk),
    ("clock", _clock),
    ("keys", _keys),
    ("sockets", _sockets),
    ("udp", _udp),
    ("rendezvous", _rendezvous),
    ("surroundings", _surroundings),
)


def _config(patient: Patient) -> ConfigFile:
    path = patient.home.config_file
    try:
        with path.open("rb") as file:
            return parse_config(file.read(CONFIG_LIMIT + 1), os.fspath(path))
    except FileNotFoundError:
        return ConfigFile()
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror or error}"
        return ConfigFile(findings=(FindingView("bad-config", "error", what, f"ls -ld {path}"),))


def chosen_setting(patient: Patient, key: str) -> str | None:
    """What a start would take from the environment, `config.toml` or as a default."""
    return resolve({}, patient.environment, _config(patient), "")[key].text


def chosen_ticket(patient: Patient) -> Ticket | None:
    """The network that a start would join."""
    text = chosen_setting(patient, "network") or remembered(patient.home, NETWORK)
    return Ticket.parse(text) if text else None


def _with_jump(check: CheckView, drift: float) -> CheckView:
    if abs(drift) < JUMP_SECONDS:
        return check
    what = f"the clock was set by {drift:+.1f} s while we looked: something sets it again and again, or just now"
    jump = FindingView("clock-jumps", "warning", what, "let one program set it: timedatectl status")
    return CheckView(check.name, check.detail, [*check.findings, jump])


def _time_fsync(path: Path) -> float:
    """Seconds to make a page of 4 KiB durable; the file is gone afterwards."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, bytes(4096))
        begun = time.monotonic()
        os.fsync(fd)
        return time.monotonic() - begun
    finally:
        os.close(fd)
        os.unlink(path)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
            probe.sendall(b"GET /v1/openapi.json HTTP/1.0\r\nHost: covey\r\n\r\n")
            return probe.recv(12).startswith(b"HTTP/1.")
        except OSError:
            return False


def _is_socket(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISSOCK(path.lstat().st_mode)
    return False


def _container() -> str:
    """What kind of container this is, "" if it is none that we recognise."""
    for marker, kind in (("/run/.containerenv", "Podman"), ("/.dockerenv", "Docker")):
        if Path(marker).exists():
            return kind
    return "Kubernetes" if os.environ.get("KUBERNETES_SERVICE_HOST") else ""


def _filesystem(path: Path) -> str:
    """The type of the filesystem that holds `path`, "" where the system does not tell."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in mounts:
        fields, _, rest = line.partition(" - ")
        point = fields.split(" ")[4]
        if Path(point) in (path, *path.parents) and len(point) >= len(best):
            best, kind = point, rest.split(" ")[0]
    return kind
