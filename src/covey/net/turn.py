"""One turn: what moves the sans-IO endpoint (PROTOCOL 26).

::

    receive every waiting train -> expire a passed deadline -> dispatch events -> transmit until None ->
    dispatch events -> set one timer

A turn starts from a readable port, a writable port after a full one, the timer, or `wake()`. It is bounded,
so that acknowledgements leave while data still arrives and other tasks of the loop get their share; a turn
that stops at a bound schedules the next. Nothing here waits, and nothing here spins: an endpoint whose
passed deadline does not move is asked again after a millisecond.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from covey.net.arrivals import Arrivals
from covey.net.host import Host, UdpPort

__all__ = ["Driver", "Endpoint", "Train"]

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)

OUT_SIZE: Final = 65_536
"""Bytes of the buffer that `transmit` fills: one train."""

RECEIVE_LIMIT: Final = 32
"""Trains taken from one port in a turn, then it is time to acknowledge: 2 MB, or 2 to 4 ms of work."""

TRANSMIT_LIMIT: Final = 64
"""Trains sent in a turn, then it is time to listen."""

BRISK_TURNS: Final = 256
"""So many turns are short after somebody waited for an answer: a tenth of a second of full load."""
BRISK_TRAINS: Final = 8
"""Trains sent, and large ones received, in a short turn: a millisecond of work. Less if something arrives."""
BRISK_RECEIVED: Final = 64
"""Trains received in a short turn, however small they are."""
BULK_BYTES: Final = 4096
"""A train of more is of somebody who sends much."""

SLACK_S: Final = 1e-6
"""A deadline this near has passed: nobody notices a microsecond, and floats round by less."""

HORIZON_S: Final = 60.0
"""Longest single timer: loop timers stand still in suspend while `Host.now` goes on."""

NEAR_S: Final = 0.005
"""A timer that fires this soon is left as it is, unless the endpoint is hurried: a deadline may be so much late."""

PAUSE_S: Final = 0.001
"""Wait before an endpoint whose passed deadline did not move is asked again. asyncio cannot wait less."""

FAULT_PAUSE_S: Final = 0.1
"""Wait after the endpoint itself raised, so that a bug fills a log and not a core."""


class Train(Protocol):
    """What `Endpoint.transmit` wrote into the buffer it was lent."""

    @property
    def local(self) -> int:
        """Index of the port to send from, as `Driver.add_port` gave it."""
        ...

    @property
    def remote(self) -> tuple[str, int]:
        """IP literal and port."""
        ...

    @property
    def size(self) -> int:
        """Bytes, from the start of the buffer."""
        ...

    @property
    def segment(self) -> int:
        """Bytes of each datagram; the last may be shorter."""
        ...


class Endpoint(Protocol[E_co]):
    """The sans-IO core as the driver sees it. No call may block or raise; `now` never goes back."""

    def receive(self, now: float, view: memoryview, segment: int, local: int, remote: tuple[str, int]) -> None:
        """A train arrived on port `local`. `view` is lent until the call returns."""
        ...

    def transmit(self, now: float, out: memoryview) -> Train | None:
        """Write the next train into `out` (65,536 bytes, lent until the next call); None: nothing now."""
        ...

    def deadline(self) -> float | None:
        """When `expire` wants to be called, in seconds of `now`; None for never."""
        ...

    def expire(self, now: float) -> None:
        """The deadline has passed. Afterwards it lies later, or is None."""
        ...

    @property
    def hurried(self) -> bool:
        """Whether the deadline may have moved to less than `NEAR_S` from now. Calling `deadline` may reset it."""
        ...

    def events(self) -> Iterable[E_co]:
        """What happened since the last call, in order; each event is handed out once."""
        ...


class Driver(Generic[E]):
    """Moves one endpoint over its ports. Create it, and call everything, inside the running loop.

    `on_event` is called in a turn, for each event. It may call the endpoint, `wake`, `add_port`,
    `remove_port` and `close`. An exception from it is a bug above: the loop's exception handler gets it and
    the driver goes on. The same holds for the endpoint: the call that raised counts as done, and the driver
    pauses before it tries again.
    """

    def __init__(self, host: Host, endpoint: Endpoint[E], on_event: Callable[[E], None]) -> None:
        self._host = host
        self._endpoint = endpoint
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._ports: dict[int, UdpPort] = {}
        self._next_index = 0
        self._readable: dict[int, None] = {}
        self._out = memoryview(bytearray(OUT_SIZE))
        self._parked: tuple[int, memoryview, int, tuple[str, int]] | None = None
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed = float("-inf")
        """When the timer fires, or fired, on the host's clock."""
        self._floor = 0.0
        self._will_transmit = False
        self._in_turn = False
        self._closed = False
        self._brisk = 0
        """Short turns left."""
        self._heavy = 0
        """The same turns, while large trains arrive: what is received is ordered by flow."""
        self._arrivals = Arrivals()
        self.dropped = 0
        """Trains for a port that is gone. Only grows."""

    @property
    def blocked(self) -> bool:
        """Whether a train waits for a full socket; until it left, nothing is transmitted."""
        return self._parked is not None

    def add_port(self, port: UdpPort) -> int:
        """Drive `port` too and own it; its index, never used again. What waits in it is read next turn."""
        index = self._next_index
        self._next_index += 1
        self._ports[index] = port
        port.on_readable(partial(self._became_readable, index))
        port.on_writable(self.turn)
        self._readable[index] = None
        self.wake()
        return index

    def remove_port(self, index: int) -> None:
        """Close a port and forget it; a train parked for it is lost. `KeyError` for an unknown index."""
        self._ports.pop(index).close()
        self._readable.pop(index, None)
        if self._parked is not None and self._parked[0] == index:
            self._parked = None
            self.dropped += 1
            self.wake()

    def wake(self) -> None:
        """Have one turn soon. Call it after queueing commands; any number of calls make one turn."""
        if self._soon is None and not self._will_transmit and not self._closed:
            self._soon = self._loop.call_soon(self.turn)

    def flush(self) -> None:
        """Have the turn now that `wake` asked for, if it did: a trip round the loop less.

        Not while more waits to be received: a task that reads and flushes would then never let another one run.
        """
        if self._soon is not None and not self._in_turn and not self._readable and not self._arrivals:
            self.turn()

    def hasten(self) -> None:
        """Somebody waits for answers: turns are short for a while, and nobody's question waits behind bulk."""
        self._brisk = BRISK_TURNS

    def close(self) -> None:
        """Stop and close every port. Unsent trains are lost: call `turn()` before for a last word."""
        self._closed = True
        if self._soon is not None:
            self._soon.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._soon = self._timer = self._parked = None
        for port in self._ports.values():
            port.close()
        self._ports.clear()
        self._readable.clear()

    def turn(self) -> None:
        """One turn, now. Never raises, except that a call from within a turn is a `RuntimeError`."""
        if self._closed:
            return
        if self._in_turn:
            raise RuntimeError("turn() was called from within a turn; call wake()")
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._in_turn = self._will_transmit = True
        endpoint = self._endpoint
        stuck: float | None = None
        now = self._floor
        more = sound = False
        try:
            if self._brisk:
                self._brisk -= 1
            if self._arrivals or (self._heavy and self._readable):
                more = self._receive_by_flow()
            elif self._readable:
                more = self._receive()
            now = self._now()
            if self._armed <= now + SLACK_S:
                stuck = self._expire(now)
            for event in endpoint.events():
                self._hand_out(event)
            more = self._transmit(now) or more
            self._will_transmit = False
            for event in endpoint.events():
                self._hand_out(event)
            sound = True
        except Exception as error:
            self._report("the endpoint raised", error)
        finally:
            self._in_turn = self._will_transmit = False
        if not sound:
            self._set_timer(stuck, sound)
            return
        if more:
            self.wake()
        if self._timer is None or endpoint.hurried or self._armed > now + NEAR_S:
            self._set_timer(stuck, sound)

    def _now(self) -> float:
        now = self._host.now()
        return max(self._floor, now)

    def _receive(self) -> bool:
        """Hand every waiting train to the endpoint. True: a port may hold more than a turn takes."""
        more = False
        for index in tuple(self._readable):
            port = self._ports[index]
            for _ in range(RECEIVE_LIMIT):
                train = port.receive()
                if train is None:
                    del self._readable[index]
                    break
                view, segment, remote = train
                if self._brisk and len(view) > BULK_BYTES:
                    self._heavy = self._brisk
                try:
                    self._endpoint.receive(self._now(), view, segment, index, remote)
                except Exception as error:
                    self._report("the endpoint raised on a received train", error)
            else:
                more = True
        return more

    def _receive_by_flow(self) -> bool:
        """As `_receive`, in the order of `Arrivals`: bulk only until something else arrives. True: some is left."""
        arrivals, endpoint = self._arrivals, self._endpoint
        self._heavy = min(self._heavy, self._brisk)
        for index in tuple(self._readable):
            self._read_ahead(index)
        answered = False
        bulk = 0
        for _ in range(BRISK_RECEIVED):
            if bulk and answered and not arrivals.sparse:
                break
            arrival = arrivals.take()
            if arrival is None:
                break
            try:
                endpoint.receive(self._now(), arrival.view, arrival.segment, arrival.port, arrival.remote)
            except Exception as error:
                self._report("the endpoint raised on a received train", error)
            if len(arrival.view) <= BULK_BYTES:
                answered = True
                continue
            self._heavy = self._brisk
            bulk += 1
            if bulk == BRISK_TRAINS:
                break
            self._read_ahead(arrival.port)
        return bool(arrivals or self._readable)

    def _read_ahead(self, index: int) -> bool:
        """Empties a port into `Arrivals`, as far as there is room. Whether something was there."""
        arrivals, port = self._arrivals, self._ports.get(index)
        if port is None:
            return False
        found = False
        while not arrivals.full:
            train = port.receive()
            if train is None:
                self._readable.pop(index, None)
                return found
            found = True
            arrivals.put(*train, index)
        self._readable[index] = None
        return True

    def _expire(self, now: float) -> float | None:
        """Call `expire` if it is time; the deadline that was expired."""
        deadline = self._endpoint.deadline()
        if deadline is None or deadline > now + SLACK_S:
            return None
        self._floor = max(self._floor, deadline)
        self._endpoint.expire(self._now())
        return deadline

    def _hand_out(self, event: E) -> None:
        try:
            self._on_event(event)
        except Exception as error:
            self._report(f"on_event raised on {type(event).__name__}", error)

    def _transmit(self, now: float) -> bool:
        """Send until the endpoint has nothing, a socket is full, or the turn is over (True)."""
        if self._closed:
            return False
        now = max(now, self._floor)
        if self._parked is not None:
            index, train, segment, remote = self._parked
            if not self._ports[index].send(train, segment, remote):
                return False
            self._parked = None
        endpoint, out, ports = self._endpoint, self._out, self._ports
        brisk = self._brisk
        for _ in range(BRISK_TRAINS if brisk else TRANSMIT_LIMIT):
            sending = endpoint.transmit(now, out)
            if sending is None:
                return False
            now = self._now()
            port = ports.get(sending.local)
            if port is None:
                self.dropped += 1
            elif not port.send(out[: sending.size], sending.segment, sending.remote):
                self._parked = (sending.local, out[: sending.size], sending.segment, sending.remote)
                return False
            if brisk and self._read_ahead(sending.local):
                return True
        return True

    def _set_timer(self, stuck: float | None, sound: bool) -> None:
        """Arm the timer if the deadline is earlier than what is armed. A later deadline costs nothing here.

        `stuck` is the deadline that was expired in this turn. If it is still the deadline (a full socket
        holds back what would move it, or a bug), it is asked again after a pause.
        """
        if self._closed:
            return
        try:
            deadline = self._endpoint.deadline()
        except Exception as error:
            self._report("the endpoint raised", error)
            deadline, sound = self._now(), False
        if deadline is None:
            return
        now = self._now()
        if not sound:
            deadline = max(deadline, now + FAULT_PAUSE_S)
        elif deadline <= now and (deadline == stuck or self._parked is not None):
            deadline = now + PAUSE_S
        if self._timer is not None:
            if self._armed <= deadline:
                return
            self._timer.cancel()
        self._armed = min(deadline, now + HORIZON_S)
        self._timer = self._loop.call_at(self._loop.time() + max(self._armed - now, 0.0), self._fired)

    def _fired(self) -> None:
        self._timer = None
        self.turn()

    def _became_readable(self, index: int) -> None:
        # Not through wake(): one trip round the loop less between a packet and its answer.
        self._readable[index] = None
        self.turn()

    def _report(self, message: str, error: Exception) -> None:
        self._loop.call_exception_handler({"message": f"covey.net.turn: {message}", "exception": error})
