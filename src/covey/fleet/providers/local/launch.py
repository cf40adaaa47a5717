"""What an agent's process runs first: takes its place in the files and cgroups, then becomes the agent's program.

supervisord starts it by path, `python -I -S launch.py RECORD.json`, so that nothing but the standard library is read
(8 ms). It ends with `exec`: the agent has the pid that supervisord knows.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import Any, NoReturn

INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER")
"""What an agent gets of the environment that the pool was started in; the rest could hold the operator's secrets."""

LARGEST_SECRET = 64 << 10

NOT_FOUND = 127
"""What a shell's exit status is when there is no such program."""


def main(path: str) -> NoReturn:
    with open(path, encoding="utf-8") as file:
        record = json.load(file)
    pool = os.path.dirname(os.path.dirname(os.path.abspath(path)))
    drained = os.path.exists(os.path.join(pool, "drain", record["id"]))
    _write_pid(pool, record["id"], waiting=drained)
    if drained:
        _wait_for_the_end()
    for cgroup in record.get("cgroups", ()):
        _join(cgroup)
    try:
        environment = _environment(record)
        os.chdir(record["directory"])
        os.execvpe(record["command"][0], record["command"], environment)  # noqa: S606 - what the user's spec says
    except OSError as error:
        sys.exit(f"covey: {record['command'][0]} cannot be started: {error.strerror or error} ({error.filename})")


def _write_pid(pool: str, id: str, *, waiting: bool) -> None:
    path = os.path.join(pool, "pids", id)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump({"pid": os.getpid(), "start": _start(), "waiting": waiting}, file)
    os.replace(path + ".new", path)


def _start() -> int:
    """Clock ticks since boot at which this process began; 0 where there is no /proc."""
    try:
        with open("/proc/self/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return 0


def _wait_for_the_end() -> NoReturn:
    """A drained agent that ended by itself is not started again; its place is kept until it is removed."""
    while True:
        signal.pause()


def _join(cgroup: str) -> None:
    """Limits are given where they can be: an agent without is better than none."""
    try:
        with open(os.path.join(cgroup, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write("0")
    except OSError as error:
        print(f"covey: no limits from {cgroup}: {error.strerror}", file=sys.stderr, flush=True)  # noqa: T201 - its log


def _environment(record: dict[str, Any]) -> dict[str, str]:
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    # The programs that were installed beside Covey are found first: `python3` is the one that can import it.
    beside = os.path.dirname(sys.executable)
    environment["PATH"] = os.pathsep.join([beside, environment.get("PATH", os.defpath)])
    environment["PYTHONUNBUFFERED"] = "1"
    environment |= record["env"]
    with contextlib.suppress(OSError), open(environment.get("COVEY_FLEET_REPORT_FILE", ""), encoding="utf-8") as file:
        environment["COVEY_FLEET_REPORT"] = file.read().strip()
    for name, source in record.get("secrets", {}).items():
        environment[name] = _secret(source)
    return environment


def _secret(source: str) -> str:
    kind, _, where = source.partition(":")
    if kind == "env" and where in os.environ:
        return os.environ[where]
    if kind == "file":
        with open(where, encoding="utf-8") as file:
            return file.read(LARGEST_SECRET).rstrip("\n")
    sys.exit(f"covey: no secret at {source}: a local pool reads file:PATH and env:NAME")


if __name__ == "__main__":
    main(sys.argv[1])
