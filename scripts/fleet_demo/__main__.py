"""`make fleet-demo`: `covey fleet init && covey fleet run`, and what comes then.

The starter spec with a second pool, where the load has its place. The load rises and falls once in eight minutes;
meanwhile an agent is killed, and the controller. When the load has come down, and rises again, a whole pool is killed:
its supervisord and every agent, and it is kept down for a minute. What is printed is seen from outside: processes that
live, jobs that wait. Exit status 0 when everything healed, no job was lost, and the fleet followed up and down. All
files are in one temporary directory, and every process is ended.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from covey.fleet.toy import JOB_SECONDS
from scripts.fleet_demo.facts import Facts, alive
from scripts.fleet_demo.plot import page, waited

POOLS = ("here", "there")
SECOND_POOL = """
[pools.there]
provider = "local"
max_agents = 10
price = 0.06
labels = { cloud = "there" }

[workloads.load.place]
pools = ["there"]
"""
AGENT_KILLED, CONTROLLER_KILLED, POOL_KILLED, END = 150.0, 240.0, 630.0, 720.0
"""Seconds since the start. The load is highest at 240 and lowest at 480, the fleet two minutes later."""

LOOK_EVERY = 1.0
POOL_DOWN = 60.0
"""Seconds that the killed pool is kept down; agents are replaced elsewhere after 10."""

CONTROLLER_DOWN = 15.0
HEALED_WITHIN = 90.0


class Failed(Exception):
    """Something did not heal."""


class Demo:
    """One run. `pause` is where time passes: it looks, and tells what changed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.home.mkdir(mode=0o700)
        (directory / "controller.log").touch()
        self.facts = Facts(self.home, POOLS)
        self.events: list[tuple[float, str]] = []
        self._environment = os.environ | {"COVEY_FLEET_HOME": str(self.home)}
        self._covey = str(Path(sys.executable).with_name("covey"))
        self._controller: subprocess.Popen[bytes] | None = None
        self._clock = threading.Event()
        self._last: dict[str, int] = {}

    # --- the story ---

    def play(self) -> None:
        """Raises `Failed`."""
        self.covey("init")
        spec = self.directory / "fleet.toml"
        spec.write_text(spec.read_text().replace("127.0.0.1:9464", "127.0.0.1:0") + SECOND_POOL)
        self.start_controller()
        self.until(lambda: self.facts.look().total >= 1, "the first worker")
        self.pause_to(AGENT_KILLED)
        self.kill_agent()
        self.pause_to(CONTROLLER_KILLED)
        self.kill_controller()
        self.pause_to(POOL_KILLED)
        self.kill_pool("here")
        self.pause_to(END)
        self.covey("status")
        self.check()

    def kill_agent(self) -> None:
        pool = max(POOLS, key=lambda pool: len(self.facts.workers(pool)))
        before = self.facts.look().total
        agent, pid = next(iter(self.facts.workers(pool).items()))
        os.kill(pid, signal.SIGKILL)
        self.tell(f"KILLED agent {agent} in {pool} (pid {pid})")
        self.until(
            lambda: pid not in self.facts.workers(pool).values() and self.facts.look().total >= before,
            f"{before} workers again",
        )

    def kill_pool(self, pool: str) -> None:
        before, victims = self.facts.look().total, self.facts.everything(pool)
        halt = self.home / "pools" / pool / "halt"
        halt.touch()
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.tell(f"KILLED pool {pool}: supervisord and {len(victims) - 1} agents; it stays down for a minute")
        down_since = time.monotonic()
        self.until(
            lambda: not any(map(alive, victims)) and self.facts.look().total >= before,
            f"{before} workers again, without {pool}",
        )
        while time.monotonic() - down_since < POOL_DOWN:
            self.pause()
        halt.unlink()
        self.tell(f"pool {pool} may come back")
        self.until(lambda: self.facts.supervisord(pool) is not None, f"pool {pool} is back")

    def kill_controller(self) -> None:
        assert self._controller is not None
        before = {pid for pool in POOLS for pid in self.facts.workers(pool).values()}
        self._controller.kill()
        self._controller.wait()
        self.tell("KILLED the controller")
        down_since = time.monotonic()
        while time.monotonic() - down_since < CONTROLLER_DOWN:
            self.pause()
        left = {pid for pid in before if alive(pid)}
        self.tell(f"{len(left)} of {len(before)} workers worked on without a controller")
        if left != before:
            raise Failed("workers ended with their controller")
        self.start_controller()

    def check(self) -> None:
        """Nothing was lost, and the fleet followed up and down."""
        moments = self.facts.moments
        last, calm = moments[-1], [moment for moment in moments if moment.at < POOL_KILLED]
        peak = max(calm, key=lambda moment: moment.total)
        least = min(moment.total for moment in calm if moment.at > peak.at)
        outstanding = last.arrived - last.finished
        late = 100 * waited(moments, 5.0, 1 / JOB_SECONDS)
        self.say(f"\nworkers: up to {peak.total}, down to {least}")
        self.say(f"jobs: {last.arrived} came, {last.finished} were done, {outstanding} are on their way")
        self.say(f"a job would have waited more than 5 s in {late:.1f} % of the time")
        if outstanding > last.waiting + last.total + 5:
            raise Failed("jobs were lost")
        if peak.total < 5 or least > 0.6 * peak.total:
            raise Failed("the fleet did not follow the load")

    # --- what the story is made of ---

    def start_controller(self) -> None:
        log = (self.directory / "controller.log").open("ab")
        with log:
            self._controller = subprocess.Popen(
                [self._covey, "fleet", "run"],
                cwd=self.directory, env=self._environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.tell("covey fleet run")

    def covey(self, *words: str) -> None:
        self.say(f"$ covey fleet {' '.join(words)}")
        done = subprocess.run(
            [self._covey, "fleet", *words],
            cwd=self.directory, env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.say((done.stdout + done.stderr).rstrip())
        if done.returncode:
            raise Failed(f"covey fleet {words[0]} failed")

    def until(self, true: Callable[[], bool], what: str) -> None:
        began = time.monotonic()
        while not true():
            if time.monotonic() - began > HEALED_WITHIN:
                raise Failed(f"after {HEALED_WITHIN:g} s still not: {what}")
            self._check_controller()
            self._clock.wait(0.1)
        self.tell(f"{what}: after {time.monotonic() - began:.1f} s")

    def pause_to(self, at: float) -> None:
        """Until so many seconds are over."""
        while not self.facts.moments or self.facts.moments[-1].at < at:
            self.pause()

    def pause(self) -> None:
        self._clock.wait(LOOK_EVERY)
        moment = self.facts.look()
        if moment.workers != self._last:
            self._last = moment.workers
            where = ", ".join(f"{count} {pool}" for pool, count in moment.workers.items())
            self.say(f"{self._now()}  workers: {moment.total} ({where}); waiting jobs: {moment.waiting}")
        self._check_controller()

    def _check_controller(self) -> None:
        if self._controller is not None and self._controller.poll() not in {None, -signal.SIGKILL}:
            raise Failed("the controller ended")

    def tell(self, text: str) -> None:
        at = self.facts.look().at
        self.events.append((at, text))
        self.say(f"{self._now()}  {text}")

    def _now(self) -> str:
        at = self.facts.moments[-1].at if self.facts.moments else 0.0
        return f"{int(at) // 60:2d}:{at % 60:04.1f}"

    @staticmethod
    def say(text: str) -> None:
        print(text, flush=True)

    def close(self) -> None:
        if self._controller is not None:
            with contextlib.suppress(ProcessLookupError):
                self._controller.kill()
            self._controller.wait()
        for _ in range(2):  # a supervisord may just have started one
            for pool in POOLS:
                for pid in self.facts.everything(pool):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fleet-demo", description="A fleet on this machine follows a load.")
    parser.add_argument("--plot", type=Path, default=Path("build/fleet-demo.html"), help="the page (%(default)s)")
    options = parser.parse_args()
    for each in (signal.SIGTERM, signal.SIGHUP):  # whoever ends it, nothing is left running
        signal.signal(each, lambda *_: signal.raise_signal(signal.SIGINT))
    with tempfile.TemporaryDirectory(prefix="covey-fleet-", ignore_cleanup_errors=True) as directory:
        demo = Demo(Path(directory))
        try:
            demo.play()
        except Failed as failed:
            print(f"\nFAILED: {failed}", flush=True)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            demo.close()
            options.plot.parent.mkdir(parents=True, exist_ok=True)
            options.plot.write_text(page(demo.facts.moments, demo.events, POOLS), encoding="utf-8")
            log = options.plot.with_suffix(".log")
            log.write_bytes((Path(directory) / "controller.log").read_bytes())
            print(f"plot: {options.plot}; what the controller said: {log}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
