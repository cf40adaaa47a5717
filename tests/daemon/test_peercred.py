from __future__ import annotations

import os
import socket

from covey.daemon.peercred import peer_uid


def test_peer_uid_is_that_of_the_connecting_process() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_uid(ours) == os.getuid()
