"""Network namespaces in one user namespace of our own: in it we may do what root may, and nobody needs to be root.

`unshare -Urnm` makes them, with a file system of our own on /run, without which `ip netns add` fails (PROTOCOL 39).
Where that is not allowed and we are root already, it works without the user namespace. A `keeper` process holds them;
when this process goes, however it goes, so do they, with all that runs in them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from covey.base.errors import CoveyError, StateError, UsageError
from covey.lab import keeper

__all__ = ["ROOT", "Namespaces", "check_name", "environment", "missing_packages"]

ROOT: Final = "internet"
"""The namespace that is there from the start; the others have a name in /run/netns."""

_SECONDS: Final = 30.0
"""For a program that builds, on a machine that may be busy."""

_PACKAGES: Final = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux", "nsenter": "util-linux"}
"""Debian's, of each program."""

_NEEDED: Final = ("ip", "unshare", "nsenter")

_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where they are; a user's PATH may lack these."""

_BEGIN: Final = 'mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && exec "$@"'


class Namespaces:
    """Network namespaces by name. A context manager.

    Raises StateError `lab-unavailable` if the system does not let us, `lab-command-failed` if a program says no.
    """

    def __init__(self, pid: int, *, rootless: bool, process: subprocess.Popen[str] | None = None) -> None:
        self.pid = pid
        """The keeper's."""
        self.rootless = rootless
        self._keeper = process
        """None if another process started it: then they are not ours to end."""

    @classmethod
    def make(cls, *programs: str, stay: bool = False) -> Namespaces:
        """New ones, for somebody who needs these programs as well. `stay`: they outlive this process."""
        missing = missing_packages(*_NEEDED, *programs)
        if missing:
            raise StateError(
                "the lab needs programs that are not there",
                code="lab-unavailable",
                next_step=f"apt-get install --no-install-recommends {' '.join(missing)}",
            )
        rootless = True
        try:
            process = _begin(["unshare", "-Urnm"], stay)
        except StateError:
            if os.geteuid() != 0:
                raise
            rootless = False
            process = _begin(["unshare", "-nm"], stay)
        return cls(process.pid, rootless=rootless, process=process)

    def __enter__(self) -> Namespaces:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the namespaces and every process in them. More than once does nothing."""
        if self._keeper is not None:
            _end(self._keeper)
            self._keeper = None

    # --- using -----------------------------------------------------------------------------------------------------

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """`argv`, so that it runs in that namespace."""
        return enter(self.pid, name, argv, rootless=self.rootless)

    def run(
        self,
        name: str,
        *argv: str,
        check: bool = True,
        timeout: float | None = _SECONDS,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Runs a program to its end in a namespace; what it printed."""
        try:
            done = subprocess.run(  # noqa: S603 - what the lab's owner asks for
                self.command(name, argv),
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                stdin=subprocess.DEVNULL,
                timeout=timeout,
                env=environment() if env is None else env,
            )
        except subprocess.TimeoutExpired:
            raise _failed(name, " ".join(argv), f"no end within {timeout:g} s") from None
        if check and done.returncode:
            raise _failed(name, " ".join(argv), done.stderr or str(done.returncode))
        return done.stdout

    def popen(self, name: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a program in a namespace. Its pid is the program's own."""
        options.setdefault("env", environment())
        return subprocess.Popen(self.command(name, argv), **options)  # noqa: S603 - as above

    def remove(self, name: str) -> None:
        """Ends one namespace and what runs in it."""
        self.kill(name)
        self.build((ROOT, f"ip netns del {name}"))

    def kill(self, name: str) -> None:
        """Ends what runs in one namespace."""
        self.build((ROOT, f"for pid in $(ip netns pids {name}); do kill -9 $pid || true; done"))

    def build(self, *steps: tuple[str, str]) -> None:
        """Runs shell scripts, each in a namespace, all at the same time."""
        started = [(name, script, self._shell(name, script)) for name, script in steps if script]
        for name, script, process in started:
            try:
                _, said = process.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise _failed(name, script, f"no end within {_SECONDS:g} s") from None
            if process.returncode:
                raise _failed(name, script, said)

    def _shell(self, name: str, script: str) -> subprocess.Popen[str]:
        # The mount namespace as well: `ip netns add` and `ip -n` look into our /run.
        argv = enter(self.pid, name, ["sh", "-ec", script], rootless=self.rootless, mounts=True)
        return subprocess.Popen(  # noqa: S603 - our own scripts
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd="/",
        )


def _begin(unshare: list[str], stay: bool) -> subprocess.Popen[str]:
    argv = [sys.executable, "-I", "-S", str(Path(keeper.__file__).resolve()), *(["--stay"] if stay else [])]
    started = subprocess.Popen(  # noqa: S603 - our own program
        [*unshare, "sh", "-ec", _BEGIN, "sh", *argv],
        stdin=subprocess.DEVNULL if stay else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,  # an interrupt at the terminal is for its lab to act on
    )
    assert started.stdout is not None
    assert started.stderr is not None
    if started.stdout.readline().strip() != keeper.READY:
        started.terminate()
        why = started.stderr.read().strip()
        _end(started)
        raise StateError(
            f"no network namespaces: {why}",
            code="lab-unavailable",
            next_step="allow unprivileged user namespaces (user.max_user_namespaces), or run as root",
        )
    started.stdout.close()
    started.stderr.close()
    return started


def enter(pid: int, name: str, argv: Sequence[str], *, rootless: bool, mounts: bool = False) -> list[str]:
    """`argv`, so that it runs in the namespace `name` of the keeper `pid`."""
    user = ["-U", "--preserve-credentials"] if rootless else []
    mount = ["-m", "-r"] if mounts else []  # -r: who stands in a chroot goes on standing there
    net = "-n" if name == ROOT else f"--net=/proc/{pid}/root/run/netns/{name}"
    return ["nsenter", "-t", str(pid), *user, *mount, net, "--", *argv]


def missing_packages(*programs: str) -> list[str]:
    """The Debian packages to install before these programs are there."""
    path = environment()["PATH"]
    return sorted({_PACKAGES[each] for each in programs if shutil.which(each, path=path) is None})


def check_name(name: str) -> str:
    """The name of a machine: it becomes a file and a word on command lines. Raises UsageError `bad-name`."""
    if not (
        name.isascii() and name.replace("-", "").replace("_", "").isalnum() and name[0].isalnum() and len(name) < 32
    ):
        raise UsageError(f"{name!r} is no name for a machine: letters, digits, - and _, at most 31", code="bad-name")
    return name


def environment(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """With the directories of `ip` and `nft` in PATH, also for who is not root."""
    return {**given, "PATH": f"{given.get('PATH', '/usr/bin:/bin')}:{_PATH}"}


def _failed(name: str, what: str, said: str) -> CoveyError:
    return CoveyError(f"in {name}: {what}: {said.strip()}", code="lab-command-failed")


def _end(process: subprocess.Popen[str]) -> None:
    """Its input ends, and so does it; one without input is told by signal."""
    if process.stdin is None:
        process.terminate()
    pipes: tuple[IO[str] | None, ...] = (process.stdin, process.stdout, process.stderr)
    for pipe in pipes:
        if pipe is not None:
            pipe.close()
    try:
        process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
