from __future__ import annotations

from covey.net.arrivals import ARRIVALS_BYTES, ARRIVALS_LIMIT, Arrival, Arrivals
from covey.wire.datagram import HEADER, PACKET, RELAY_HEADER, RELAYED

REMOTE = ("10.0.0.1", 1)


def packet(index: int, size: int = 100, *, path: int = 0, counter: int = 0) -> bytes:
    return HEADER.pack(PACKET, path, 1, index, counter).ljust(size, b"\0")


def put(arrivals: Arrivals, *datagrams: bytes) -> None:
    train = memoryview(bytearray(b"".join(datagrams)))
    arrivals.put(train, len(datagrams[0]), REMOTE, 3)
    train[:] = bytes(len(train))  # what the port lent it takes back


def drain(arrivals: Arrivals) -> list[Arrival]:
    taken = []
    while (arrival := arrivals.take()) is not None:
        taken.append(arrival)
    return taken


def index_of(arrival: Arrival) -> int:
    return HEADER.unpack_from(arrival.view)[3]


def test_flow_with_little_goes_before_flow_with_much() -> None:
    arrivals = Arrivals()
    for counter in range(5):
        put(arrivals, packet(1, counter=counter))
    first = arrivals.take()
    put(arrivals, packet(2))
    assert first is not None
    assert [index_of(arrival) for arrival in [first, *drain(arrivals)]] == [1, 2, 1, 1, 1, 1]


def test_flows_take_turns_and_keep_their_order() -> None:
    arrivals = Arrivals()
    for counter in range(3):
        for index in (1, 2):
            put(arrivals, packet(index, counter=counter))
    taken = drain(arrivals)
    assert [index_of(arrival) for arrival in taken] == [1, 2, 1, 2, 1, 2]
    assert [HEADER.unpack_from(arrival.view)[4] for arrival in taken] == [0, 0, 1, 1, 2, 2]
    assert arrivals.count == 0


def test_paths_of_a_session_and_circuits_of_a_relay_are_flows() -> None:
    arrivals = Arrivals()
    for _ in range(2):
        put(arrivals, packet(1))
    arrivals.take()
    put(arrivals, packet(1, path=7))
    put(arrivals, RELAY_HEADER.pack(RELAYED, 0, 0, 9) + packet(1))
    put(arrivals, b"\x01 no packet")
    kinds = [bytes(arrival.view[:2]) for arrival in drain(arrivals)]
    assert kinds == [b"\x04\x07", b"\x05\x00", b"\x01 ", b"\x04\x00"]


def test_last_datagram_of_a_train_may_be_of_another_flow() -> None:
    arrivals = Arrivals()
    put(arrivals, packet(1), packet(1), packet(2, 40))
    sizes = [(index_of(arrival), len(arrival.view), arrival.segment) for arrival in drain(arrivals)]
    assert sizes == [(2, 40, 40), (1, 200, 100)]


def test_whole_train_of_one_flow_stays_whole() -> None:
    arrivals = Arrivals()
    put(arrivals, packet(1), packet(1), packet(1, 40))
    (arrival,) = drain(arrivals)
    assert (len(arrival.view), arrival.segment, arrival.remote, arrival.port) == (240, 100, REMOTE, 3)


def test_bytes_and_trains_are_bounded() -> None:
    arrivals = Arrivals()
    while not arrivals.full:
        put(arrivals, *[packet(1, 1000)] * 60)
    assert ARRIVALS_BYTES <= arrivals.count * 60_000 < ARRIVALS_BYTES + 60_000
    drain(arrivals)
    assert not arrivals.full
    while not arrivals.full:
        put(arrivals, b"\x00")
    assert arrivals.count == ARRIVALS_LIMIT


def test_flood_of_made_up_flows_does_not_stop_the_others() -> None:
    arrivals = Arrivals()
    for _ in range(10):
        put(arrivals, packet(1))
    arrivals.take()
    for index in range(1000, 1090):
        put(arrivals, packet(index))
    taken = [index_of(arrival) for arrival in drain(arrivals)]
    assert [at for at, index in enumerate(taken) if index == 1] == [9 * number + 7 for number in range(9)]
    assert len(taken) == 99
