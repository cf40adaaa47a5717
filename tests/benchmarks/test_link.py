from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from benchmarks.link import Way, carry

Ends = tuple[socket.socket, socket.socket, socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Two devices, each as (what the kernel holds, what the link holds): packets, as TUN devices have them."""
    with ExitStack() as stack:
        near, near_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        far, far_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (near, near_link, far, far_link):
            stack.enter_context(each)
            each.settimeout(10)
        for each in (near_link, far_link):
            each.setblocking(False)
        yield near, near_link, far, far_link


def way(ends: Ends, delay_ms: float = 0.0, *, mbit: float = 0.0, queue: int = 0) -> Way:
    _, near_link, _, far_link = ends
    byte_ns = 8_000 / mbit if mbit else 0.0
    return Way(near_link.fileno(), far_link.fileno(), int(delay_ms * 1e6), byte_ns, queue)


def test_packets_leave_in_order_and_not_before_their_time(ends: Ends) -> None:
    near, _, far, _ = ends
    one = way(ends, 200)
    began = time.monotonic()
    for number in range(5):
        near.send(bytes([number]))
    one.take()
    assert 0 < (one.give() or 0) <= 0.200
    assert select.select([far], [], [], 0)[0] == []
    stop, until = socket.socketpair()
    with until:
        thread = threading.Thread(target=carry, args=([one], until.fileno()))
        with stop:
            thread.start()
            assert [far.recv(9) for _ in range(5)] == [bytes([number]) for number in range(5)]
        assert time.monotonic() - began >= 0.200
        thread.join(10)
    assert one.carried == [5, 5, 0]


def test_limited_link_sends_one_packet_after_the_other_and_drops_the_tail(ends: Ends) -> None:
    near, _, _, _ = ends
    one = way(ends, mbit=0.08, queue=1500)  # 100 ms for 1000 bytes
    for _ in range(4):
        near.send(bytes(1000))
    one.take()
    wait = one.give() or 0
    assert 0 < wait <= 0.100  # the first is still being sent
    assert one.carried[2] == 2  # the third and the fourth found 2000 bytes before them
