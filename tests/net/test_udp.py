from __future__ import annotations

import asyncio
import errno
import select
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covey.base.errors import StateError, UsageError
from covey.net.host import train_limit
from covey.net.udp import Offload, UdpSocketPort, _endpoint, bind_failure, granted_buffers, probe_offload

LOOPBACK = ("127.0.0.1", 0)
NOTHING = Offload(gso=False, gro=False)
EVERYTHING = probe_offload()
OFFLOADS = {
    "neither": NOTHING,
    "gso": Offload(gso=EVERYTHING.gso, gro=False),
    "gro": Offload(gso=False, gro=EVERYTHING.gro),
    "both": EVERYTHING,
}
offloads = pytest.mark.parametrize("offload", OFFLOADS.values(), ids=OFFLOADS)

TRAINS = {
    "one byte": (1, 1),
    "one datagram": (1200, 1200),
    "one short datagram": (700, 1200),
    "full train": (1452 * 45, 1452),
    "last is shorter": (1452 * 44 + 17, 1452),
    "sixty-four small ones": (64 * 100, 100),
    "seven jumbo": (8900 * 7, 8900),
    "one of the largest": (65_507, 65_507),
}


def pattern(size: int) -> bytes:
    return bytes((index * 7 + index // 251) % 256 for index in range(size))


def wait_readable(port: UdpSocketPort) -> bool:
    ready, _, _ = select.select([port.fileno()], [], [], 2.0)
    return bool(ready)


def datagrams(port: UdpSocketPort, size: int) -> list[bytes]:
    """Receive `size` bytes and cut them into the datagrams they came in."""
    found: list[bytes] = []
    while size > 0 and wait_readable(port):
        while (got := port.receive()) is not None:
            view, segment, _ = got
            assert 0 < segment <= len(view)
            found += [bytes(view[start : start + segment]) for start in range(0, len(view), segment)]
            size -= len(view)
    return found


@pytest.fixture
def pair(offload: Offload) -> Iterator[tuple[UdpSocketPort, UdpSocketPort]]:
    one, two = UdpSocketPort(LOOPBACK, offload=offload), UdpSocketPort(LOOPBACK, offload=offload)
    yield one, two
    one.close()
    two.close()


@offloads
@pytest.mark.parametrize(("size", "segment"), TRAINS.values(), ids=TRAINS)
def test_train_arrives_as_the_same_datagrams(
    pair: tuple[UdpSocketPort, UdpSocketPort], size: int, segment: int
) -> None:
    one, two = pair
    data = pattern(size)
    assert one.send(memoryview(data), segment, two.local)
    expected = [data[start : start + segment] for start in range(0, size, segment)]
    assert expected == datagrams(two, size)


@offloads
def test_trains_of_mixed_sizes_keep_their_bounds(pair: tuple[UdpSocketPort, UdpSocketPort]) -> None:
    one, two = pair
    expected: list[bytes] = []
    for size, segment in TRAINS.values():
        data = pattern(size)
        assert one.send(memoryview(data), segment, two.local)
        expected += [data[start : start + segment] for start in range(0, size, segment)]
    assert expected == datagrams(two, sum(map(len, expected)))


@offloads
def test_receive_names_the_sender(pair: tuple[UdpSocketPort, UdpSocketPort]) -> None:
    one, two = pair
    one.send(memoryview(b"hello"), 5, two.local)
    assert wait_readable(two)
    got = two.receive()
    assert got is not None
    view, segment, remote = got
    assert (b"hello", 5, one.local) == (bytes(view), segment, remote)
    assert not view.readonly
    assert two.receive() is None


@pytest.mark.skipif(not EVERYTHING.gro, reason="this kernel does not join datagrams")
def test_gro_receives_a_train_in_one_call() -> None:
    one, two = UdpSocketPort(LOOPBACK), UdpSocketPort(LOOPBACK)
    one.send(memoryview(pattern(1452 * 45)), 1452, two.local)
    assert wait_readable(two)
    got = two.receive()
    assert got is not None
    assert (len(got[0]), got[1]) == (1452 * 45, 1452)
    one.close()
    two.close()


@offloads
def test_empty_datagram_is_skipped_and_counted(pair: tuple[UdpSocketPort, UdpSocketPort]) -> None:
    _, two = pair
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.sendto(b"", two.local)
        raw.sendto(b"x", two.local)
        assert datagrams(two, 1) == [b"x"]
    assert two.dropped == 1


@offloads
@pytest.mark.parametrize(
    "remote",
    [("127.0.0.1", 1), ("255.255.255.255", 9), ("::1", 9), ("not an address", 9)],
    ids=["nobody listens", "broadcast", "other family", "no address"],
)
def test_errors_of_a_destination_are_loss(pair: tuple[UdpSocketPort, UdpSocketPort], remote: tuple[str, int]) -> None:
    one, two = pair
    for _ in range(3):
        assert one.send(memoryview(pattern(3000)), 1000, remote)
        assert one.send(memoryview(b"x"), 1, remote)
    assert one.send(memoryview(b"still well"), 10, two.local)
    assert datagrams(two, 10) == [b"still well"]


@offloads
def test_datagram_over_the_mtu_is_loss_and_never_fragments(
    pair: tuple[UdpSocketPort, UdpSocketPort],
) -> None:
    one, _ = pair
    # Loopback has an MTU of 65,536; what does not fit even there is EMSGSIZE.
    assert one.send(memoryview(bytes(65_520)), 65_520, one.local)
    assert one.dropped == 1


def test_gso_refusal_is_remembered_for_the_destination_only() -> None:
    if not EVERYTHING.gso:
        pytest.skip("this kernel does not cut trains")
    one, two, three = (UdpSocketPort(LOOPBACK) for _ in range(3))
    # More than 128 segments are EINVAL on every kernel: a refusal that a test can cause.
    train = memoryview(pattern(200))
    assert one.send(train, 1, two.local)
    assert [bytes([each]) for each in train] == datagrams(two, 200)
    assert one._singles == {two.local}
    assert one.send(train[:40], 20, three.local)
    assert [bytes(train[:20]), bytes(train[20:40])] == datagrams(three, 40)
    assert one._singles == {two.local}
    assert one.offload.gso
    for port in (one, two, three):
        port.close()


@offloads
def test_closed_port_receives_nothing_and_loses_what_it_is_given(offload: Offload) -> None:
    port = UdpSocketPort(LOOPBACK, offload=offload)
    remote = port.local
    port.close()
    port.close()
    assert port.receive() is None
    assert port.send(memoryview(b"xyz"), 1, remote)
    assert port.dropped > 0


def test_port_zero_becomes_a_real_port() -> None:
    port = UdpSocketPort(LOOPBACK)
    assert port.local[0] == "127.0.0.1"
    assert port.local[1] > 0
    port.close()


def test_bound_port_is_refused_with_a_code() -> None:
    port = UdpSocketPort(LOOPBACK)
    with pytest.raises(StateError) as caught:
        UdpSocketPort(port.local)
    assert caught.value.code == "address-in-use"
    port.close()


def test_foreign_address_is_refused_with_a_code() -> None:
    with pytest.raises(UsageError) as caught:
        UdpSocketPort(("203.0.113.1", 0))
    assert caught.value.code == "address-not-local"


def test_other_bind_failures_have_a_code() -> None:
    assert bind_failure(OSError(errno.EACCES, "no"), ("127.0.0.1", 1)).code == "bind-failed"


@pytest.mark.parametrize(("segment", "count"), [(1452, 45), (8900, 7), (1200, 54), (100, 64), (65_507, 1)])
def test_train_limit_is_what_the_protocol_says(segment: int, count: int) -> None:
    assert train_limit(segment) == count


def has_ipv6() -> bool:
    try:
        UdpSocketPort(("::1", 0)).close()
    except (UsageError, StateError):
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback on this machine")
@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6_carries_trains(host: str) -> None:
    one, two = UdpSocketPort(("::1", 0)), UdpSocketPort((host, 0))
    data = pattern(1400 * 45 + 3)
    assert one.send(memoryview(data), 1400, ("::1", two.local[1]))
    assert [data[start : start + 1400] for start in range(0, len(data), 1400)] == datagrams(two, len(data))
    assert two.send(memoryview(b"back"), 4, one.local)
    assert wait_readable(one)
    got = one.receive()
    assert got is not None
    assert got[2] == ("::1", two.local[1])
    one.close()
    two.close()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback on this machine")
def test_ipv6_wildcard_leaves_ipv4_to_a_port_of_its_own() -> None:
    six = UdpSocketPort(("::", 0))
    four = UdpSocketPort(("0.0.0.0", six.local[1]))
    six.close()
    four.close()


def test_port_gives_gso_up_after_too_many_refusals() -> None:
    if not EVERYTHING.gso:
        pytest.skip("this kernel does not cut trains")
    one = UdpSocketPort(LOOPBACK)
    train = memoryview(pattern(200))
    for number in range(1, 67):
        assert one.send(train, 1, (f"127.0.0.{number}", 9))
    assert not one.offload.gso
    two = UdpSocketPort(LOOPBACK)
    assert one.send(train, 20, two.local)
    assert [bytes(train[start : start + 20]) for start in range(0, 200, 20)] == datagrams(two, 200)
    one.close()
    two.close()


@pytest.mark.parametrize(
    ("sockaddr", "endpoint"),
    [
        (("192.0.2.1", 5), ("192.0.2.1", 5)),
        (("2001:db8::1", 5, 0, 0), ("2001:db8::1", 5)),
        (("fe80::1", 5, 0, 3), ("fe80::1%3", 5)),
        (("fe80::1%3", 5, 0, 3), ("fe80::1%3", 5)),
    ],
)
def test_link_local_address_keeps_its_interface(sockaddr: tuple[Any, ...], endpoint: tuple[str, int]) -> None:
    assert _endpoint(sockaddr) == endpoint


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback on this machine")
def test_scoped_address_is_sent_to_its_interface() -> None:
    one, two = UdpSocketPort(("::1%1", 0)), UdpSocketPort(("::1", 0))
    assert one.send(memoryview(b"by number"), 9, ("::1%1", two.local[1]))
    assert datagrams(two, 9) == [b"by number"]
    assert one.send(memoryview(b"by name"), 7, ("::1%lo", two.local[1]))
    assert datagrams(two, 7) == [b"by name"]
    assert one.send(memoryview(b"nowhere, in two"), 8, ("::1%nosuch0", two.local[1]))
    assert one.dropped == 1
    one.close()
    two.close()


@offloads
def test_readable_calls_back_from_the_loop(offload: Offload) -> None:
    async def main() -> bytes:
        one, two = UdpSocketPort(LOOPBACK, offload=offload), UdpSocketPort(LOOPBACK, offload=offload)
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def readable() -> None:
            while (got := two.receive()) is not None:
                heard.set_result(bytes(got[0]))

        two.on_readable(readable)
        one.send(memoryview(b"ping"), 4, two.local)
        try:
            return await asyncio.wait_for(heard, 5)
        finally:
            one.close()
            two.close()

    assert asyncio.run(main()) == b"ping"


class PipePort(UdpSocketPort):
    """The real port on a socket that fills up: loopback UDP hands each datagram over at once."""

    def __init__(self, offload: Offload, path: Path) -> None:
        super().__init__(LOOPBACK, offload=offload)
        self._socket.close()
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)

    def _sockaddr(self, remote: tuple[str, int]) -> Any:
        return self._path


@pytest.mark.parametrize("offload", [NOTHING, Offload(gso=True, gro=False)], ids=["singles", "whole trains"])
def test_full_socket_refuses_calls_back_once_and_loses_nothing(offload: Offload, tmp_path: Path) -> None:
    async def main() -> tuple[bytes, bytes, int, int]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sink:
            sink.bind(str(tmp_path / "sink"))
            sink.setblocking(False)
            port = PipePort(offload, tmp_path / "sink")
            writable = asyncio.Event()
            port.on_writable(writable.set)
            sent, heard, refused, calls = bytearray(), bytearray(), 0, 0
            complete = asyncio.Event()

            def read() -> None:
                heard.extend(empty(sink))
                complete.set()

            asyncio.get_running_loop().add_reader(sink, read)
            for number in range(40):
                train = memoryview(pattern(20_000)[number:])
                while not port.send(train, 1000, LOOPBACK):
                    assert not port.send(train, 1000, LOOPBACK)
                    refused += 1
                    await writable.wait()
                    calls += 1
                    writable.clear()
                sent += train
            while len(heard) < len(sent):
                complete.clear()
                await complete.wait()
            asyncio.get_running_loop().remove_reader(sink)
            port.close()
            return bytes(sent), bytes(heard), refused, calls

    sent, heard, refused, calls = asyncio.run(asyncio.wait_for(main(), 20))
    assert sent == heard
    assert calls == refused > 1


def empty(sink: socket.socket) -> bytes:
    """Everything that waits in `sink`."""
    heard = bytearray()
    while True:
        try:
            heard += sink.recv(65_536)
        except BlockingIOError:
            return bytes(heard)


def test_granted_buffers_are_those_of_a_port() -> None:
    port = UdpSocketPort(("127.0.0.1", 0))
    try:
        sock = port._socket
        real = [sock.getsockopt(socket.SOL_SOCKET, which) for which in (socket.SO_RCVBUF, socket.SO_SNDBUF)]
        share = 2 if sys.platform.startswith("linux") else 1
        assert granted_buffers() == (real[0] // share, real[1] // share)
    finally:
        port.close()
