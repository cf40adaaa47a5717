"""The controller as a process: what `covey fleet run` starts.

It waits until it leads, serves agents' reports and Prometheus, listens for nudges, turns until SIGTERM or SIGINT, and
leaves every agent running. A deposed controller ends, so that whoever keeps it running starts a follower in its place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from covey.base.errors import StorageError
from covey.base.types import endpoint_text
from covey.fleet.home import FleetHome
from covey.fleet.loop.clock import SteadyClock
from covey.fleet.loop.controller import Controller
from covey.fleet.loop.journal import DecisionLog
from covey.fleet.loop.nudge import Nudged
from covey.fleet.loop.server import bind, fleet_server
from covey.fleet.loop.store import Deposed, Store
from covey.fleet.loop.stores import open_lock, open_store
from covey.fleet.loop.tokens import Tokens, write_private
from covey.fleet.loop.turn import Turned
from covey.fleet.prices.fresh import keep_fresh
from covey.fleet.prices.quotes import Quotes
from covey.fleet.providers.registry import Surroundings, make_provider
from covey.fleet.signals.registry import make_source
from covey.fleet.spec.types import Pool, Spec

__all__ = ["Listening", "Witness", "listening", "run"]

THREADS: Final = 64
"""For calls that wait: of clouds' SDKs, of signals, of a PostgreSQL."""
FOLLOW_SECONDS: Final = 1.0
"""Between tries to lead, of a controller that follows; with the lock's own delays a take-over takes less than 10 s."""

_log = logging.getLogger(__name__)


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """`controller.json` in the home, while a controller runs."""

    pid: int
    url: str
    epoch: int
    since: float


class Witness(Protocol):
    """Who is told what happens."""

    def event(self, event: str, text: str, **fields: Any) -> None: ...
    def turned(self, turned: Turned, problems: dict[str, str]) -> None: ...


async def run(home: FleetHome, env: Mapping[str, str], witness: Witness) -> None:
    """Until SIGTERM or SIGINT: waits until it leads, leads until it is deposed, and waits again. Raises `CoveyError`
    when it cannot begin."""
    home.make()
    store = open_store(home, env)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Python's own default is six on two processors: a cloud that hangs would take them all, the store's included.
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="fleet"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        while not stop.is_set():
            try:
                await _Process(home, env, store, witness, stop).run()
            except Deposed:
                witness.event("deposed", "another controller took over; waiting")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        store.close()


class _Process:
    """One controller, from waiting to lead until it is deposed or told to stop."""

    def __init__(
        self, home: FleetHome, env: Mapping[str, str], store: Store, witness: Witness, stop: asyncio.Event
    ) -> None:
        self._home = home
        self._store = store
        self._witness = witness
        self._stop = stop
        self._url = ""
        self._clock = SteadyClock(time.time, time.monotonic)
        self._decisions = DecisionLog(home.decisions)
        self._quotes = Quotes(home.path)
        self._tokens = Tokens(home.token, home.tokens)
        self._controller = Controller(
            store,
            open_lock(home, env),
            clock=self._clock,
            today=time.time,
            holder=f"{socket.gethostname()}:{os.getpid()}",
            make_provider=lambda pool: make_provider(pool, self._surroundings(pool)),
            make_source=lambda workload, target: make_source(workload, target, self._surroundings()),
            decided=self._decisions.write,
            priced=self._quotes.priced,
        )

    def _surroundings(self, pool: Pool | None = None) -> Surroundings:
        controller = self._controller
        name = pool.name if pool is not None else ""
        # What a cloud says is by the time of day; on this machine everything is by our own clock.
        local = pool is not None and pool.provider == "local"
        return Surroundings(
            home=self._home.path,
            report_url=f"{self._url}/report" if self._url else "",
            token_file=self._tokens.file,
            busy=partial(controller.reports.busy, name),
            wall=self._clock if local else time.time,
            quote=self._quotes.quote,
            changed=controller.wake,
        )

    async def run(self) -> None:
        controller = self._controller
        stopping = asyncio.create_task(self._stop_controller(), name="stop")
        try:
            if await self._lead():
                await self._serve()
        finally:
            stopping.cancel()
            await controller.close()
            self._quotes.close()

    async def _stop_controller(self) -> None:
        await self._stop.wait()
        self._controller.stop()

    async def _lead(self) -> bool:
        """False: told to stop first."""
        said = False
        while not self._stop.is_set():
            try:
                if await self._controller.lead():
                    return True
            except StorageError as error:
                _log.error("cannot lead: %s", error)
            if not said:
                found = self._store.leader()
                self._witness.event(
                    "standby", f"another controller leads ({found[1] if found else 'unknown'}); waiting"
                )
                said = True
            await self._controller.sleep(FOLLOW_SECONDS)
        return False

    async def _serve(self) -> None:
        first = self._store.spec().spec
        listener = bind(first.controller.listen)
        self._url = f"http://{endpoint_text(listener.getsockname()[:2])}"
        server = fleet_server(self._controller, self._tokens)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="serve")
        # Only who leads answers to the home's names, and it lets them go before the lock.
        nudged = Nudged(self._home.nudge, self._controller.wake)
        try:
            await server.serving.wait()
            await self._turns(first)
        finally:
            nudged.close()
            server.begin_stop()
            await asyncio.gather(serving, return_exceptions=True)
            listener.close()
            self._home.listening.unlink(missing_ok=True)

    async def _turns(self, first: Spec) -> None:
        controller = self._controller
        told = Listening(pid=os.getpid(), url=self._url, epoch=controller.epoch, since=time.time())
        write_private(self._home.listening, msgspec.json.encode(told))
        refreshing = asyncio.create_task(self._keep_fresh(first), name="refresh prices")
        self._witness.event(
            "leads",
            f"leads the fleet in {self._home.path} (epoch {controller.epoch}), serves {self._url}",
            url=self._url,
            epoch=controller.epoch,
        )
        try:
            await controller.run(lambda turned: self._witness.turned(turned, controller.troubles))
        finally:
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)

    async def _keep_fresh(self, first: Spec) -> None:
        await keep_fresh(
            self._home.path,
            wanted=lambda: bool((self._controller.spec or first).prices.refresh),
            told=lambda problem: self._witness.event("prices", f"prices: {problem}", problem=problem),
        )


def listening(home: FleetHome) -> Listening | None:
    """Where this home's controller listens; None: none runs, or it did not say."""
    try:
        found = msgspec.json.decode(home.listening.read_bytes(), type=Listening)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found
