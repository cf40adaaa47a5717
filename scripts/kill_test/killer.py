"""Ends, freezes and restarts what runs, at random moments."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from scripts.kill_test.plan import Plan, Result
from scripts.kill_test.stage import Stage
from scripts.processes import Agent

__all__ = ["Killer"]

_FROZEN_SHARE: Final = 0.25
"""Of the attacks on a rendezvous: it is stopped (SIGSTOP), and goes on later, instead of killed."""
_DRAINED_SHARE: Final = 0.2
"""Of its ends: by SIGTERM, which tells its clients first."""


class Killer:
    """Ends and restarts victims until `stop`: one thread for each, which sometimes takes others along."""

    def __init__(self, stage: Stage, plan: Plan, result: Result, failed: Callable[[str], None]) -> None:
        self._stage = stage
        self._plan = plan
        self._result = result
        self._failed = failed
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(name,), daemon=True) for name in stage.victims]
        self.holding = {name: threading.Lock() for name in stage.victims}
        """Held by whoever decides whether this victim runs."""

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns when nobody kills or starts anything any more; then some may be down."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self, name: str) -> None:
        dice = random.Random(f"{self._plan.seed} killer {name}")
        others = [other for other in self._stage.victims if other != name]
        try:
            while not self._stop.wait(dice.expovariate(1 / self._plan.kill_pause)):
                count = dice.choices((0, 1, len(others)), weights=(76, 19, 5))[0]
                company = dice.sample(others, count)
                with contextlib.ExitStack() as held:
                    held.enter_context(self.holding[name])
                    victims = [name, *(other for other in company if self._try_to_hold(other, held))]
                    if name in self._stage.rendezvous and dice.random() < _FROZEN_SHARE:
                        self._freeze(dice, name)
                    else:
                        self._kill_and_restart(dice, victims)
        except Exception as error:
            self._failed(f"killer of {name}: {type(error).__name__}: {error}")

    def _try_to_hold(self, name: str, held: contextlib.ExitStack) -> bool:
        """Waiting for one another's victims would be a deadlock."""
        lock = self.holding[name]
        if not lock.acquire(blocking=False):
            return False
        held.callback(lock.release)
        return True

    def _kill_and_restart(self, dice: random.Random, names: Sequence[str]) -> None:
        """At once, or as near to it as several signals are; they come back one by one."""
        for name in names:
            gently = name in self._stage.rendezvous and dice.random() < _DRAINED_SHARE
            self.kill(name, signal.SIGTERM if gently else signal.SIGKILL)
        for name in names:
            self._stop.wait(dice.uniform(0, self._plan.restart_seconds) / len(names))
            victim = self._stage.victims[name]
            if isinstance(victim, Agent) and dice.random() < 0.2:
                after = dice.uniform(0, 0.8)
                self._stage.log(f"start {name}, killed {after:.3f} s later")
                victim.start_and_kill(after)
                self._result.kills[f"{name} starting"] += 1
            self.restart(name)

    def _freeze(self, dice: random.Random, name: str) -> None:
        """A rendezvous that hangs: what is sent to it waits in its socket, and is answered when it goes on."""
        self._stage.is_down(name)
        frozen = self._stage.rendezvous[name].freeze()
        self._stage.log(f"FROZE {name}")
        self._stop.wait(dice.uniform(0, 3 * self._plan.restart_seconds))
        if frozen:
            self._result.kills[f"{name} frozen"] += 1
            self._stage.rendezvous[name].thaw()
            self._stage.is_up(name)
            self._stage.log(f"thawed {name}")

    def kill_at_once(self, name: str, pause: float) -> None:
        """Within a millisecond of what the caller just heard from it; not if somebody else kills it now."""
        with contextlib.ExitStack() as held:
            if self._try_to_hold(name, held):
                self.kill(name)
                self._stop.wait(pause)
                self.restart(name)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        self._stage.is_down(name)
        if self._stage.victims[name].kill(number):
            self._result.kills[name if number == signal.SIGKILL else f"{name} drained"] += 1
            self._stage.log(f"KILLED {name} with {number}")

    def restart(self, name: str) -> None:
        begun = time.monotonic()
        self._stage.victims[name].start()
        self._stage.is_up(name)
        self._stage.log(f"started {name} in {time.monotonic() - begun:.3f} s")
