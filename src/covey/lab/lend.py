"""Opens sockets where it stands and hands them to whoever started it: `python lend.py FD FAMILY TYPE COUNT`."""

from __future__ import annotations

import socket
import sys


def main() -> None:
    to, family, kind, count = map(int, sys.argv[1:])
    with socket.socket(fileno=to) as channel:
        sockets = [socket.socket(family, kind) for _ in range(count)]
        socket.send_fds(channel, [b"."], [each.fileno() for each in sockets])


if __name__ == "__main__":
    main()
