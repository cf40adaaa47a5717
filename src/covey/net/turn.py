"""One turn: what moves the sans-IO endpoint (PROTOCOL 26).

::

    receive every waiting train -> expire a passed deadline -> dispatch events -> resume the tasks they woke ->
    transmit until None -> dispatch events -> set one timer

A turn starts from a readable port, a writable port after a full one, the timer, or `wake()`. It is bounded,
so that acknowledgements leave while data still arrives and other tasks of the loop get their share; a turn
that stops at a bound schedules the next. An endpoint whose passed deadline does not move is asked again after a
millisecond. Nothing here waits, with one exception: a turn in which a task said something looks for the answer for up
to 100 us, as long as answers do come that fast (`_linger`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from covey.core.path import WEBSOCKET_PORTS
from covey.net.arrivals import Arrivals
from covey.net.host import Host, UdpPort
from covey.net.waiter import Waiter

__all__ = ["Driver", "Endpoint", "Train"]

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)

OUT_SIZE: Final = 65_536
"""Bytes of the buffer that `transmit` fills: one train."""

RECEIVE_LIMIT: Final = 16
"""Trains taken from one port in a turn, then it is time to acknowledge: 1 MB, or 1 to 2 ms of work."""

TRANSMIT_LIMIT: Final = 16
"""Trains sent in a turn, then it is time to listen, and for other tasks of the loop."""

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

ANSWER_BYTES: Final = 8192
"""A turn that received more than this acknowledges before it resumes tasks: what they do with it may take long."""

LINGER_S: Final = 100e-6
"""How long a turn waits for an answer that has been coming at once."""
ROUNDS: Final = 8
"""Questions and answers in one turn, then the loop has its turn."""
LUCK: Final = 8
"""Waits in vain until turns stop waiting."""
TRIAL_TURNS: Final = 256
"""Turns, of those in which a task has sent something, until waiting is tried again."""

NEAR_S: Final = 0.005
"""A timer that fires this soon is left as it is, unless the endpoint is hurried: a deadline may be so much late."""

PAUSE_S: Final = 0.001
"""Wait before an endpoint whose passed deadline did not move is asked again. asyncio cannot wait less."""

FAULT_PAUSE_S: Final = 0.1
"""Wait after the endpoint itself raised, so that a bug fills a log and not a core."""


Train = tuple[int, tuple[str, int], int, int]
"""What `Endpoint.transmit` wrote into the buffer it was lent: the index of the port to send from, as `Driver.add_port`
gave it; IP literal and port of the receiver; bytes, from the start of the buffer; bytes of each datagram, of which the
last may be shorter."""


class Endpoint(Protocol[E_co]):
    """The sans-IO core as the driver sees it. No call may block or raise; `now` never goes back."""

    def receive(self, now: float, view: memoryview, segment: int, local: int, remote: tuple[str, int]) -> None:
        """A train arrived on port `local`. `view` is lent until the call returns."""
        ...

    def transmit(self, now: float, out: memoryview) -> Train | None:
        """Write the next train into `out` (65,536 bytes, lent until the next call); None: nothing now."""
        ...

    unread: bool
    """Told before `expire`: more has arrived than was handed over so far."""

    @property
    def has_output(self) -> bool:
        """Whether `transmit` is worth calling. May be True in vain, never False in vain."""
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

    `on_event` is called in a turn, for each event. It may call the endpoint, `wake`, `resume`, `add_port`,
    `remove_port` and `close`; so may the tasks that a turn resumes. An exception from it is a bug above: the loop's
    exception handler gets it and the driver goes on. The same holds for the endpoint: the call that raised counts as
    done, and the driver pauses before it tries again.
    """

    def __init__(self, host: Host, endpoint: Endpoint[E], on_event: Callable[[E], None]) -> None:
        self._clock = host.now
        self._endpoint = endpoint
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._ports: dict[int, UdpPort] = {}
        self._next_index = 0
        self._next_connection = WEBSOCKET_PORTS
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
        self._sent_from = -1
        """The port that sent last."""
        self._luck = 0
        """Waits in vain left until turns stop waiting for answers."""
        self._unlucky = 0
        """Turns that did not wait since the last one that tried."""
        self._woken: list[Waiter] = []
        self.dropped = 0
        """Trains for a port that is gone. Only grows."""

    @property
    def blocked(self) -> bool:
        """Whether a train waits for a full socket; until it left, nothing is transmitted."""
        return self._parked is not None

    def add_port(self, port: UdpPort, *, fresh: bool = False) -> int:
        """Drive `port` too and own it; its index, never used again. What waits in it is read next turn.

        `fresh`: it was bound just now, so nothing waits in it. A port that hears nothing costs no buffer.
        """
        index = self._next_index
        self._next_index += 1
        return self._add(index, port, fresh=fresh)

    def add_connection(self, port: UdpPort) -> int:
        """The same for a port that is a connection: its index says so (`core.path.WEBSOCKET_PORTS`)."""
        index = self._next_connection
        self._next_connection += 1
        return self._add(index, port)

    def _add(self, index: int, port: UdpPort, *, fresh: bool = False) -> int:
        self._ports[index] = port
        port.on_readable(partial(self._became_readable, index))
        port.on_writable(self._turn_of_loop)
        if not fresh:
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

    def pass_on(self, index: int, train: memoryview, segment: int, remote: tuple[str, int]) -> bool:
        """Send what was just received somewhere else, out of the buffer it is in. False: the socket is full."""
        port = self._ports.get(index)
        return self._parked is None and port is not None and port.send(train, segment, remote)

    def wake(self) -> None:
        """Have one turn soon. Call it after queueing commands; any number of calls make one turn."""
        if self._soon is None and not self._will_transmit and not self._closed:
            self._soon = self._loop.call_soon(self._turn_of_loop)

    def resume(self, waiter: Waiter) -> None:
        """Have the task that waits go on: in this turn if it can still answer in it, else in one that comes soon."""
        if self._closed:
            self._loop.call_soon(waiter.resume)
            return
        self._woken.append(waiter)
        self.wake()

    def flush(self) -> None:
        """For a task that has said what it had to say and waits for an answer: have the turn now that `wake` asked for.

        A trip round the loop less. Not while other tasks are about to go on: what they say leaves together. Nor while
        more waits to be received: a task that reads and flushes would then never let another one run.
        """
        if self._soon is None or self._in_turn or self._woken or self._readable or self._arrivals.count:
            return
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
        woken, self._woken = self._woken, []
        for waiter in woken:
            self._loop.call_soon(waiter.resume)

    def turn(self) -> None:
        """One turn, now, that resumes no task: for tasks. Never raises, except `RuntimeError` within a turn."""
        self._turn(resume=False)

    def _turn_of_loop(self) -> None:
        self._turn(resume=True)

    def _turn(self, *, resume: bool) -> None:
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
        now = self._now()
        more = sound = False
        try:
            received = 0
            if self._arrivals.count or (self._heavy and self._readable):
                more, received = self._receive_by_flow()
            elif self._readable:
                more, received = self._receive(now)
            for _ in range(ROUNDS):
                if self._brisk:
                    self._brisk -= 1
                if self._armed <= now + SLACK_S:
                    endpoint.unread = more
                    stuck = self._expire(now)
                for event in endpoint.events():
                    self._hand_out(event)
                answered = resume and bool(self._woken)
                if answered:
                    if received > ANSWER_BYTES:
                        more = self._transmit() or more
                    self._resume_tasks()
                speaks = endpoint.has_output
                if speaks or self._parked is not None:
                    more = self._transmit() or more
                self._will_transmit = False
                for event in endpoint.events():
                    self._hand_out(event)
                if not (answered and speaks) or more or received > ANSWER_BYTES:
                    break
                received = self._linger()
                if not received:
                    break
                self._will_transmit = True
                now = self._now()
            else:
                more = True  # the last wait brought something that nobody has looked at
            sound = True
        except Exception as error:
            self._report("the endpoint raised", error)
        finally:
            self._in_turn = self._will_transmit = False
        if more or self._woken or self._readable:
            self.wake()
        if not sound or self._timer is None or endpoint.hurried or self._armed > now + NEAR_S:
            self._set_timer(stuck, sound)

    def _linger(self) -> int:
        """Waits for the answer to what a task just said, if answers have been coming at once lately; bytes received.

        Between two processes on two cores going to sleep and being woken takes longer than the answer does. Whether it
        comes in time shows by trying; where it does not (one core, a network), one turn in 256 tries again.
        """
        if not self._luck:
            self._unlucky = (self._unlucky + 1) % TRIAL_TURNS
            if self._unlucky:
                return 0
        index, readable = self._sent_from, self._readable
        if self._closed or self._parked is not None or index not in self._ports:
            return 0
        begun = now = self._now()
        while True:
            readable[index] = None
            _, received = self._receive(now)
            if received:
                if now > begun:  # not there already, which would say nothing about waiting
                    self._luck = LUCK
                return received
            before, now = now, self._now()
            if now >= begun + LINGER_S or now == before:  # a clock that stands still is a simulated one
                self._luck = max(self._luck - 1, 0)
                return 0

    def _now(self) -> float:
        now = self._clock()
        if now < self._floor:
            return self._floor
        return now

    def _resume_tasks(self) -> None:
        """Let every task go on that was woken before now; those that they wake in turn have to wait for the next.

        Between receiving and transmitting the endpoint is at rest: a task that closes the node may have a `turn()`.
        """
        woken, self._woken = self._woken, []
        self._in_turn = False
        for waiter in woken:
            waiter.resume()
        self._in_turn = True

    def _receive(self, now: float) -> tuple[bool, int]:
        """Hand every waiting train to the endpoint. Whether a port may hold more than a turn takes; bytes taken."""
        more = False
        received = 0
        readable = self._readable
        for index in tuple(readable):
            port = self._ports[index]
            for _ in range(RECEIVE_LIMIT):
                train = port.receive()
                if train is None:
                    del readable[index]
                    break
                view, segment, remote = train
                if received:
                    now = self._now()
                size = len(view)
                received += size
                if self._brisk and size > BULK_BYTES:
                    self._heavy = self._brisk
                try:
                    self._endpoint.receive(now, view, segment, index, remote)
                except Exception as error:
                    self._report("the endpoint raised on a received train", error)
            else:
                more = True
        return more, received

    def _receive_by_flow(self) -> tuple[bool, int]:
        """As `_receive`, in the order of `Arrivals`: bulk only until something else arrives."""
        arrivals, endpoint = self._arrivals, self._endpoint
        self._heavy = min(self._heavy - 1, self._brisk) if self._heavy else 0
        for index in tuple(self._readable):
            self._read_ahead(index)
        answered = False
        bulk = received = 0
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
            size = len(arrival.view)
            received += size
            if size <= BULK_BYTES:
                answered = True
                continue
            self._heavy = self._brisk
            bulk += 1
            if bulk == BRISK_TRAINS:
                break
            self._read_ahead(arrival.port)
        return bool(arrivals.count or self._readable), received

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

    def _transmit(self) -> bool:
        """Send until the endpoint has nothing, a socket is full, or the turn is over (True)."""
        if self._closed:
            return False
        if self._parked is not None:
            index, train, segment, remote = self._parked
            if not self._ports[index].send(train, segment, remote):
                return False
            self._parked = None
        endpoint, out, ports = self._endpoint, self._out, self._ports
        brisk = self._brisk
        for _ in range(BRISK_TRAINS if brisk else TRANSMIT_LIMIT):
            sending = endpoint.transmit(self._now(), out)
            if sending is None:
                return False
            local, remote, size, segment = sending
            self._sent_from = local
            port = ports.get(local)
            if port is None:
                self.dropped += 1
            elif not port.send(out[:size], segment, remote):
                self._parked = (local, out[:size], segment, remote)
                return False
            if not endpoint.has_output:
                return False
            if brisk and self._read_ahead(local):
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
        self._turn_of_loop()

    def _became_readable(self, index: int) -> None:
        # Not through wake(): one trip round the loop less between a packet and its answer.
        self._readable[index] = None
        self._turn_of_loop()

    def _report(self, message: str, error: Exception) -> None:
        self._loop.call_exception_handler({"message": f"covey.net.turn: {message}", "exception": error})
