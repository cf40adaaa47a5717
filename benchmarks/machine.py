"""Where it was measured, and whether the machine had anything else to do."""

from __future__ import annotations

import os
import platform
import ssl
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["Watch", "commit", "facts"]

ROOT = Path(__file__).resolve().parent.parent
_IDLE_SECONDS = 0.5
_BUSY_SHARE = 0.1
"""Of all cores, while we do nothing."""
_STEAL_SHARE = 0.02
"""Of all cores, while we measure: time that the host gave to other virtual machines."""


def facts() -> dict[str, Any]:
    """What a reader needs to compare figures with those of another machine."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()} ({'shared' if _shared_library() else 'static'})",
        "executable": Path(sys.executable).resolve().name,
        "cryptography": metadata.version("cryptography"),
        "openssl": ssl.OPENSSL_VERSION,
        "tcp_congestion_control": _read("/proc/sys/net/ipv4/tcp_congestion_control") or "unknown",
    }


def commit() -> str:
    """The commit that is checked out, with `+` if files differ from it; "" outside of a clone."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        # What a benchmark writes must not make the next one look like that of another commit.
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "src", "benchmarks/*.py", "pyproject.toml"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip() + "+" * bool(changed.stdout.strip())


class Watch:
    """Marks runs during which somebody else wanted the machine.

    Before a run nobody of ours works, so whatever the cores do is foreign; during a run only stolen time can be told
    from our own. Where the kernel does not count (no /proc/stat) nothing is marked.
    """

    def __init__(self) -> None:
        self.marks: list[dict[str, float]] = []

    def before(self) -> None:
        """Looks for half a second at what goes on without us."""
        first = _ticks()
        threading.Event().wait(_IDLE_SECONDS)
        second = _ticks()
        self._begun = second
        self._foreign = _share(first, second, "busy")

    def after(self) -> str:
        """Why the run that ended now is doubtful; "" if it is not."""
        steal = _share(self._begun, _ticks(), "steal")
        mark = {"foreign": round(self._foreign, 3), "steal": round(steal, 3), "load": round(os.getloadavg()[0], 2)}
        self.marks.append(mark)
        if self._foreign > _BUSY_SHARE:
            return f"other programs kept {self._foreign:.0%} of the cores busy before it"
        if steal > _STEAL_SHARE:
            return f"the host took {steal:.0%} of the cores away"
        return ""


def _ticks() -> dict[str, int]:
    line = _read("/proc/stat").partition("\n")[0].split()[1:9]
    if len(line) < 8:
        return {"busy": 0, "steal": 0, "all": 0}
    user, nice, system, idle, waiting, irq, softirq, steal = map(int, line)
    busy = user + nice + system + irq + softirq + steal
    return {"busy": busy, "steal": steal, "all": busy + idle + waiting}


def _share(first: dict[str, int], second: dict[str, int], what: str) -> float:
    return (second[what] - first[what]) / max(1, second["all"] - first["all"])


def _processor() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _shared_library() -> bool:
    import sysconfig

    return bool(sysconfig.get_config_var("Py_ENABLE_SHARED")) and "libpython" in _read("/proc/self/maps")


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
