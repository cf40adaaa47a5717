"""Three clouds on one machine: three real control planes in networks of their own, a fleet's controller in a fourth.

Each cloud is a machine of the lab. Its pods have addresses of their own (10.N.0.0/16), which the others reach by way of
the internet; the API server is at port 6443 of the machine. The controller is `covey fleet run`, a process as users
start it, with the rights that `rbac.yaml` gives and no others. All that is known of what happens is read from files:
what the nodes did (`events.jsonl`), what requests met (`requests.jsonl`), what the controller decided.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from covey.lab import Lab, Machine
from tests.fleet.kubernetes.plane import Plane

__all__ = ["CLOUDS", "Clouds"]

CLOUDS: Final = ("aws", "azure", "gcp")
PORTS: Final = (6443, 2379, 2380)
CONTROLLER_PORT: Final = 9464
NAMESPACE: Final = "agents"


class Clouds:
    """Start with `up`, then `run(spec)`."""

    def __init__(self, lab: Lab, directory: Path, programs: Path) -> None:
        self.lab = lab
        self.directory = directory
        self.home = lab.server("home")
        self.planes: dict[str, Plane] = {}
        self.fleet = directory / "fleet"
        self.controller: subprocess.Popen[Any] | None = None
        self.began = time.time()
        self.story: list[tuple[float, str]] = []
        self.done = False
        """The story came to its end."""
        for number, cloud in enumerate(CLOUDS, 1):
            machine = lab.server(cloud)
            _give_network(lab, machine, f"10.{number}.0.0/16")
            self.planes[cloud] = Plane(
                cloud, directory / cloud, programs, ip=machine.ip, ports=PORTS, popen=partial(_popen, machine)
            )

    # --- building --------------------------------------------------------------------------------------------------

    def up(self, nodes: Mapping[str, list[dict[str, Any]]], quotas: Mapping[str, dict[str, str]]) -> None:
        """All three, with a namespace and the shipped rights in each, and a quota where one is given."""
        for plane in self.planes.values():
            plane.start()
        for number, (cloud, plane) in enumerate(self.planes.items(), 1):
            self.until(lambda plane=plane: self._is_ready(plane), f"{cloud}'s API server", 90)
            hard = [json.dumps(quotas[cloud])] if cloud in quotas else []
            self.lab[cloud].python("tests.fleet.kubernetes.grant", str(plane.admin), NAMESPACE, *hard)
            plane.start_node(nodes[cloud], network=f"10.{number}")
        self.say("three control planes are up")

    def revive(self, cloud: str) -> None:
        """A cloud that was killed as a whole comes back with all that its disks hold."""
        plane = self.planes[cloud]
        nodes = json.loads((plane.directory / "nodes.json").read_text())
        plane.start()
        self.until(lambda: self._is_ready(plane), f"{cloud}'s API server", 90)
        plane.start_node(nodes, network=f"10.{CLOUDS.index(cloud) + 1}")

    def _is_ready(self, plane: Plane) -> bool:
        question = f"ready({plane.server!r}, {str(plane.ca)!r}, {plane.tokens['admin']!r})"
        code = f"from tests.fleet.kubernetes.plane import ready\nprint({question})"
        return self.lab[plane.name].run(sys.executable, "-c", code, check=False).strip() == "True"

    def run(self, spec: str) -> None:
        """`covey fleet run` on this spec, in which `@KUBECONFIG:CLOUD@` and `@REPORT@` are filled in; and requests."""
        report = f"http://{self.home.ip}:{CONTROLLER_PORT}/report"
        text = spec.replace("@LISTEN@", f"{self.home.ip}:{CONTROLLER_PORT}").replace("@REPORT@", report)
        for cloud, plane in self.planes.items():
            text = text.replace(f"@KUBECONFIG:{cloud}@", str(plane.kubeconfig("covey")))
        path = self.directory / "fleet.toml"
        path.write_text(text)
        self.start_controller("--spec", str(path))
        program = str(Path(__file__).with_name("requests.py"))
        routes = f"http://{self.home.ip}:{CONTROLLER_PORT}/routes"
        _start(self.home, [sys.executable, "-P", program, routes, "10"], self.directory / "requests.jsonl")

    def start_controller(self, *options: str) -> None:
        argv = [sys.executable, "-P", "-m", "covey.fleet", "run", "--home", str(self.fleet), *options]
        self.controller = _start(self.home, argv, self.directory / "controller.log")

    # --- what happened ---------------------------------------------------------------------------------------------

    def say(self, what: str) -> None:
        self.story.append((time.time(), what))
        sys.stdout.write(f"{time.time() - self.began:7.1f} s  {what}\n")
        sys.stdout.flush()

    def events(self, cloud: str, since: float = 0.0, *kinds: str) -> list[dict[str, Any]]:
        """What this cloud's nodes did to pods."""
        found = _lines(self.planes[cloud].directory / "pods" / "events.jsonl")
        return [each for each in found if each["t"] >= since and (not kinds or each["event"] in kinds)]

    def ready(self, cloud: str, workload: str, at: float | None = None) -> set[str]:
        """Pods whose process runs and answers its probe, by what the nodes did; a killed cloud has none."""
        here: set[str] = set()
        killed = [moment for moment, what in self.story if what.startswith(f"KILLED {cloud} ")]
        marks = [(each["t"], each["event"], each["pod"]) for each in self.events(cloud)]
        for moment, event, pod in sorted([*marks, *((each, "killed", "") for each in killed)]):
            if at is not None and moment > at:
                break
            if event == "killed":
                here = set()
            elif event == "ready" and pod.startswith(f"{workload}-"):
                here.add(pod)
            elif event in ("unready", "term", "exit", "end"):
                here.discard(pod)
        return here

    def counts(self, workload: str, at: float | None = None) -> dict[str, int]:
        return {cloud: len(self.ready(cloud, workload, at)) for cloud in CLOUDS}

    def requests(self, since: float, until: float = float("inf")) -> list[dict[str, Any]]:
        found = _lines(self.directory / "requests.jsonl")
        return [each for each in found if each["kind"] == "request" and since <= each["at"] < until]

    def weights(self, workload: str) -> dict[str, float]:
        """Shares of requests by pool, as the router has them now."""
        found = [
            each
            for each in _lines(self.directory / "requests.jsonl")
            if each["kind"] == "weights" and each["workload"] == workload
        ]
        if not found:
            return {}
        weights: dict[str, int] = found[-1]["weights"]
        return {pool: round(weight / sum(weights.values()), 2) for pool, weight in sorted(weights.items())}

    def covey(self, *arguments: str) -> dict[str, Any]:
        """A command's JSON: it reads the store, as any user's would."""
        argv = [sys.executable, "-P", "-m", "covey.fleet", *arguments, "--home", str(self.fleet), "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def until(self, call: Callable[[], bool], what: str, seconds: float) -> float:
        """Waits; how long it took. AssertionError with the controller's last words when it takes longer."""
        began = time.time()
        for _ in self.pause(seconds):
            if call():
                return time.time() - began
            if self.controller is not None and self.controller.poll() is not None:
                break
        raise AssertionError(f"not within {seconds:g} s: {what}\n{self.logs()}")

    def pause(self, seconds: float) -> Iterator[float]:
        """So long, in steps."""
        quiet, deadline = threading.Event(), time.monotonic() + seconds
        while time.monotonic() < deadline:
            yield deadline - time.monotonic()
            quiet.wait(0.2)

    def logs(self) -> str:
        path = self.directory / "controller.log"
        return path.read_text(errors="replace")[-6000:] if path.exists() else ""


def _popen(machine: Machine, argv: list[str], **options: Any) -> subprocess.Popen[Any]:
    return machine.popen(argv, **options)


def _start(machine: Machine, argv: list[str], log: Path) -> subprocess.Popen[Any]:
    with log.open("ab") as output:
        return machine.popen(argv, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def _give_network(lab: Lab, machine: Machine, prefix: str) -> None:
    """Every address of `prefix` is the machine's own, and the internet knows the way."""
    machine.run("ip", "route", "add", "local", prefix, "dev", "lo")
    lab.internet.run("ip", "route", "add", prefix, "via", machine.ip, "dev", machine.link, "onlink")


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:  # being written
                continue
    return found
