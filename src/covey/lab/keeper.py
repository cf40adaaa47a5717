"""Keeps a lab's namespaces: the first process in them, and the one that ends whatever else runs there.

Started by `namespaces.py` as a file, with the standard library alone. It says READY, then waits until its input ends
(its lab is gone, however it went) or, with `--stay`, until a signal. Then it kills every process that stands in one of
its network namespaces, also those whose parents are gone, and leaves; the namespaces go with it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

READY = "ready"
NAMES = Path("/run/netns")
"""Where `ip netns add` puts them; /run is a file system of our own."""


def main() -> None:
    ended = {signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, ended)
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()
    sys.stdout.close()
    if "--stay" in sys.argv:
        signal.sigwait(ended)
    else:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ended)
        signal.signal(signal.SIGTERM, _leave)
        signal.signal(signal.SIGHUP, _leave)
        try:
            while os.read(0, 4096):
                pass
        except _Left:
            pass
    kill_all(namespaces())


class _Left(BaseException):
    pass


def _leave(*_: object) -> None:
    raise _Left


def namespaces() -> set[int]:
    """The inodes of ours: the one we stand in, and those with a name."""
    found = {_inode("/proc/self/ns/net")}
    if NAMES.is_dir():
        found.update(_inode(str(each)) for each in NAMES.iterdir())
    return found


def kill_all(ours: set[int]) -> None:
    """Until none is left: one may have forked while we looked."""
    while True:
        found = [int(each) for each in os.listdir("/proc") if each.isdigit() and _stands_in(each, ours)]
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _stands_in(pid: str, ours: set[int]) -> bool:
    if int(pid) == os.getpid():
        return False
    try:
        return _inode(f"/proc/{pid}/ns/net") in ours and not _is_zombie(pid)
    except OSError:
        return False  # gone, or none of ours: another user's


def _is_zombie(pid: str) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _inode(path: str) -> int:
    return os.stat(path).st_ino


if __name__ == "__main__":
    main()
