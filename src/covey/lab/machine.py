"""A machine of the lab: a network namespace in which programs run."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from covey.base.errors import CoveyError
from covey.lab import lend
from covey.lab.kinds import Kind
from covey.lab.namespaces import ROOT, Namespaces

__all__ = ["Machine"]

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Machine:
    """An agent's host, a server, or a NAT box. Made by the lab."""

    def __init__(self, namespaces: Namespaces, name: str, kind: Kind | None = None) -> None:
        self.name = name
        self.kind = kind
        """Of the network it stands in, or, of a box, the kind of the box; None for a server."""
        self.box: Machine | None = None
        """What stands between it and the internet, or None."""
        self.ip = ""
        self.ip6 = ""
        """Its own addresses, as it sees them; "" for none."""
        self.device = "eth0"
        """The way out."""
        self.gateway = ROOT
        """Where the other end of `device` is: the namespace of a box, or the internet."""
        self.link = ""
        """That other end's name."""
        self.mtu = 1500
        self.environment: dict[str, str] = {}
        """What its programs find besides the environment of the lab's own process."""
        self._namespaces = namespaces

    def __repr__(self) -> str:
        return f"<Machine {self.name} {self.ip or self.ip6}>"

    @property
    def public_ip(self) -> str:
        """The IPv4 address that the internet sees."""
        return self.box.public_ip if self.box is not None else self.ip

    @property
    def gateway_is_named(self) -> bool:
        return self.gateway != ROOT

    def addresses(self) -> list[str]:
        """Every address by which others know it: its own and those of the boxes before it."""
        own = [each for each in (self.ip, self.ip6) if each]
        return own if self.box is None else [*own, *self.box.addresses()]

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv`, so that it runs here. Its environment is the caller's to give."""
        return self._namespaces.command(self.name, argv)

    def run(self, *argv: str, check: bool = True) -> str:
        """Runs a program to its end; what it printed. CoveyError `lab-command-failed` if it fails and `check`."""
        return self._namespaces.run(self.name, *argv, check=check, env=self._environment())

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a program. It dies with the lab; its pid is its own."""
        env = options.pop("env", None)
        return self._namespaces.popen(self.name, argv, env=self._environment(env), **options)

    def python(self, module_or_code: str, *arguments: str, check: bool = True) -> str:
        """As `run`, with this Python: a module's name, or code."""
        return self.run(*python_argv(module_or_code, *arguments), check=check)

    def popen_python(self, module_or_code: str, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
        """As `popen`, with this Python."""
        return self.popen(python_argv(module_or_code, *arguments), **options)

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
            argv = [sys.executable, "-I", "-S", str(Path(lend.__file__).resolve())]
            words = [str(int(each)) for each in (fd, family, kind, count)]
            with self.popen([*argv, *words], pass_fds=(fd,)):
                theirs.close()
                _, fds, _, _ = socket.recv_fds(ours, 1, count)
        if len(fds) != count:
            raise CoveyError(f"in {self.name}: no sockets", code="lab-command-failed")
        return [socket.socket(fileno=each) for each in fds]

    def nft(self, rules: str) -> str:
        """Loads nftables rules."""
        return self.run("nft", rules)

    def _environment(self, env: dict[str, str] | None = None) -> dict[str, str]:
        return {**(os.environ if env is None else env), **self.environment}


def python_argv(module_or_code: str, *arguments: str) -> list[str]:
    option = "-m" if _MODULE.fullmatch(module_or_code) else "-c"
    return [sys.executable, option, module_or_code, *arguments]
