"""Fetches rivals into a cache of the user's, outside the repository; nothing is installed on the system.

Wheels with `pip install --target`, Debian's packages with `apt-get download` and `dpkg -x`. Both ask whatever
registries this machine is configured for. What is there already is not asked for again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from covey.bench.pair import Failed

__all__ = ["Debian", "cache", "debian", "wheel", "wheel_directories"]

_SECONDS = 600.0
_WORDS = 300
"""Characters of what a tool said that are repeated."""
_PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def cache(environment: Mapping[str, str] = os.environ) -> Path:
    """`$COVEY_BENCH_CACHE`, or `covey-bench` in the user's cache directory."""
    given = environment.get("COVEY_BENCH_CACHE")
    if given:
        return Path(given)
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "covey-bench"


def wheel_directories() -> list[Path]:
    """Every wheel that was fetched for this version of Python, each in a directory with what it needs."""
    return sorted((cache() / _PYTHON).glob("*[0-9]"))


def wheel(requirement: str) -> None:
    """Fetches `name==version` with all that it needs. Raises Failed."""
    target = cache() / _PYTHON / requirement
    _fetch(
        target,
        [[sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target", ".", requirement]],
    )


class Debian:
    """Files of Debian's packages, which stand below `root` as they would below `/`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def program(self, name: str) -> str:
        """The path of one of their programs."""
        for directory in ("usr/bin", "usr/sbin"):
            if (self.root / directory / name).exists():
                return str(self.root / directory / name)
        raise Failed(f"no {name} in {self.root}")

    def version(self, package: str) -> str:
        """Upstream's: "1.6.1" of "nebula_1.6.1+dfsg-3+b4_amd64.deb"."""
        for file in self.root.glob(f"{package}_*.deb"):
            found = re.match(r"[^_]*_(?:\d+%3a)?([0-9.]+)", file.name)
            if found:
                return found[1].rstrip(".")
        return "?"


def debian(*packages: str) -> Debian:
    """Fetches and unpacks packages, without what they depend on. Raises Failed."""
    missing = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise Failed(f"comes from Debian, and {missing[0]} is not here")
    target = cache() / "debian" / "+".join(packages)
    # apt gives its privileges up for a download, and complains when the directory is not open to everybody.
    download = ["apt-get", "-o", "APT::Sandbox::User=root", "-qq", "download", *packages]
    _fetch(target, [download, ["sh", "-c", 'for each in *.deb; do dpkg -x "$each" . || exit; done']])
    return Debian(target)


def _fetch(target: Path, commands: Sequence[Sequence[str]]) -> None:
    if target.is_dir():
        return
    working = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        working.mkdir(parents=True)
        for command in commands:
            done = subprocess.run(command, cwd=working, capture_output=True, text=True, timeout=_SECONDS, check=False)
            if done.returncode:
                said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
                raise Failed(f"{Path(command[0]).name}: {said[-1][-_WORDS:]}")
        working.rename(target)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(str(error)) from error
    finally:
        shutil.rmtree(working, ignore_errors=True)
