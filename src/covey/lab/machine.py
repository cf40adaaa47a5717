"""A machine of the lab: a network namespace in which programs run."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from covey.base.errors import CoveyError
from covey.lab import lend
from covey.lab.kinds import Kind
from covey.lab.namespaces import ROOT, Namespaces, environment

__all__ = ["Machine", "python_argv"]

RUN_SECONDS: Final = 120.0
"""For a program that `run` waits for, unless told otherwise."""

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Machine:
    """An agent's host, a server, or a box. Made by the lab."""

    def __init__(self, namespaces: Namespaces, name: str, kind: Kind | None = None) -> None:
        self.name = name
        self.kind = kind
        """Of the network it stands in; of a box, its own; None for a server."""
        self.box: Machine | None = None
        """What stands between it and the internet."""
        self.ip = ""
        self.ip6 = ""
        """Its own addresses, as it sees them; "" for none."""
        self.device = "eth0"
        """The way out."""
        self.link = ""
        """The other end of `device`, at the box or in the internet."""
        self.mtu = 1500
        """Of that link, bytes."""
        self.lan = ""
        self.lan6 = ""
        """Of a box: the prefixes of the network inside, as "192.168.1" and "2001:db8:101:"; "" for none."""
        self.hosts = 0
        """Of a box: how many machines were ever inside."""
        self.environment: dict[str, str] = {}
        """What its programs find besides the environment of the lab's own process."""
        self.programs: list[subprocess.Popen[Any]] = []
        """What was started here."""
        self._namespaces = namespaces

    def __repr__(self) -> str:
        return f"<Machine {self.name} {self.ip or self.ip6}>"

    @property
    def gateway(self) -> str:
        """The namespace where `link` is."""
        return ROOT if self.box is None else self.box.name

    @property
    def public_ip(self) -> str:
        """The IPv4 address that the internet sees; "" for none."""
        return self.ip if self.box is None else self.box.public_ip

    def addresses(self) -> list[str]:
        """Every address by which others know it: its own and those of the boxes before it."""
        own = [each for each in (self.ip, self.ip6) if each]
        return own if self.box is None else [*own, *self.box.addresses()]

    # --- programs --------------------------------------------------------------------------------------------------

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv`, so that it runs here. Its environment is the caller's to give."""
        return self._namespaces.command(self.name, argv)

    def run(self, *argv: str, check: bool = True, timeout: float | None = RUN_SECONDS) -> str:
        """Runs a program to its end; what it printed.

        CoveyError `lab-command-failed` if it fails and `check`, or if it does not end in time.
        """
        return self._namespaces.run(self.name, *argv, check=check, timeout=timeout, env=self._environment())

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a program. It dies with the lab; its pid is its own."""
        env = options.pop("env", None)
        started = self._namespaces.popen(self.name, argv, env=self._environment(env), **options)
        self.programs.append(started)
        return started

    def python(self, module_or_code: str, *arguments: str, check: bool = True) -> str:
        """As `run`, with this Python: a module's name, or code."""
        return self.run(*python_argv(module_or_code, *arguments), check=check)

    def popen_python(self, module_or_code: str, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
        """As `popen`, with this Python."""
        return self.popen(python_argv(module_or_code, *arguments), **options)

    def nft(self, rules: str) -> str:
        """Loads nftables rules."""
        return self.run("nft", rules)

    def sockets(
        self,
        count: int = 1,
        *,
        family: socket.AddressFamily = socket.AF_INET,
        kind: socket.SocketKind = socket.SOCK_DGRAM,
    ) -> list[socket.socket]:
        """Sockets that stand in this machine's network, for our own process to use; at most 200 at a time."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            fd = theirs.fileno()
            words = [str(int(each)) for each in (fd, family, kind, count)]
            argv = [sys.executable, "-I", "-S", str(Path(lend.__file__).resolve()), *words]
            with self._namespaces.popen(self.name, argv, pass_fds=(fd,)):
                theirs.close()
                _, fds, _, _ = socket.recv_fds(ours, 1, count)
        if len(fds) != count:
            raise CoveyError(f"in {self.name}: no sockets", code="lab-command-failed")
        return [socket.socket(fileno=each) for each in fds]

    def _environment(self, env: dict[str, str] | None = None) -> dict[str, str]:
        return {**environment(os.environ if env is None else env), **self.environment}


def python_argv(module_or_code: str, *arguments: str) -> list[str]:
    """This Python with a module's name, or code."""
    option = "-m" if _MODULE.fullmatch(module_or_code) else "-c"
    return [sys.executable, option, module_or_code, *arguments]
