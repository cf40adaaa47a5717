"""What the fields say together: names that must exist, pairs that exclude each other, what nothing can fulfil."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final

from covey.fleet.spec.kinds import Reading
from covey.fleet.spec.source import Fault, quote
from covey.fleet.spec.types import Place, Pool, Spec, Target, Workload

__all__ = ["check"]

_ELSE: Final = "or place.pools without it"


def check(spec: Spec, reading: Reading) -> None:
    """Adds to `reading.faults`."""
    checks = _Checks(spec, reading)
    for workload in spec.workloads.values():
        checks.workload(workload)
    if not spec.pools:
        checks.wrong("pools", None, "at least one pool")
    port = int(spec.controller.listen.rpartition(":")[2])
    if port > 65_535:
        checks.wrong("controller.listen", spec.controller.listen, "a port of at most 65535")


class _Checks:
    def __init__(self, spec: Spec, reading: Reading) -> None:
        self.spec = spec
        self.reading = reading

    def wrong(self, path: str, value: Any, expected: str, hint: str = "") -> None:
        shown = "" if value is None else quote(value)
        self.reading.faults.append(Fault(self.reading.line(path), path, shown, expected, hint))

    def known(self, path: str, words: Iterable[str], known: Iterable[str], what: str) -> None:
        names = sorted(known)
        for word in words:
            if word not in names:
                close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
                listed = ", ".join(names[:10]) or "none"
                hint = f'did you mean "{close[0]}"?' if close else f"there is {listed}"
                self.wrong(path, word, f"the name of {what}", hint)

    def workload(self, workload: Workload) -> None:
        path = f"workloads.{workload.name}"
        low, high = workload.replicas.min, workload.replicas.max
        if low > high:
            self.wrong(f"{path}.replicas.min", low, f"at most replicas.max, which is {high}")
        for index, target in enumerate(workload.targets):
            self.target(target, f"{path}.targets.{index}")
        self.place(workload, workload.place, f"{path}.place")
        pools = allowed(workload, self.spec)
        self.template(workload, pools, path)
        clouds = {pool.cloud for pool in pools}
        self.known(f"{path}.traffic.weights", workload.traffic.weights, clouds, "a cloud of its pools")
        if workload.traffic.weights and not any(workload.traffic.weights.values()):
            self.wrong(f"{path}.traffic.weights", None, "a weight above 0")
        if workload.traffic.weights and workload.traffic.prefer:
            self.wrong(f"{path}.traffic.prefer", workload.traffic.prefer, "either weights or prefer")

    def template(self, workload: Workload, pools: list[Pool], path: str) -> None:
        local = [pool.name for pool in pools if pool.provider == "local"]
        images = [pool.name for pool in pools if pool.provider == "kubernetes"]
        if local and not workload.command:
            self.wrong(f"{path}.command", None, f"the program to run, because {local[0]} is a local pool", _ELSE)
        if images and not workload.image:
            self.wrong(f"{path}.image", None, f"an image, because {images[0]} is a Kubernetes pool", _ELSE)
        probe = workload.probe
        if sum((bool(probe.http), probe.tcp, bool(probe.command))) > 1:
            self.wrong(f"{path}.probe", None, "one of http, tcp and command")
        if (probe.http or probe.tcp) and workload.port is None and len(local) < len(pools):
            self.wrong(f"{path}.port", None, "the port that is probed")

    def target(self, target: Target, path: str) -> None:
        ways = [name for name in ("value", "rate_per_agent", "queue_length") if getattr(target, name) is not None]
        if len(ways) != 1:
            said = f"has {' and '.join(ways)}" if ways else "has none"
            self.wrong(path, None, "one of value, rate_per_agent and queue_length", said)
        if target.signal == "cpu" and ways == ["rate_per_agent"]:
            self.wrong(f"{path}.rate_per_agent", target.rate_per_agent, "value, which is what a CPU signal has")
        needs = {"prometheus": "query", "command": "command"}.get(target.signal, "")
        if needs and not getattr(target, needs):
            self.wrong(f"{path}.{needs}", None, f"where a target with signal {target.signal} gets its number")
        for name, owner in (("source", "queue"), ("query", "prometheus"), ("command", "command")):
            if getattr(target, name) and target.signal != owner:
                self.wrong(f"{path}.{name}", None, f"no such field, which belongs to signal {owner}")

    def place(self, workload: Workload, place: Place, path: str) -> None:
        pools = self.spec.pools
        self.known(f"{path}.pools", place.pools, pools, "a pool")
        own = place.pools or tuple(pools)
        self.known(f"{path}.prefer", place.prefer, own, "a pool where it may run")
        self.known(f"{path}.max_per_pool", place.max_per_pool, own, "a pool where it may run")
        others = [name for name in self.spec.workloads if name != workload.name]
        self.known(f"{path}.avoid", place.avoid, others, "another workload")
        self.known(f"{path}.near", place.near, others, "another workload")
        for name in set(place.avoid) & set(place.near):
            self.wrong(f"{path}.avoid", name, "a workload that is not in near as well")
        if all(name in pools for name in place.pools) and pools:
            self.possible(workload, place, path)

    def possible(self, workload: Workload, place: Place, path: str) -> None:
        """Something must be left of the pools, in two clouds at least when one may vanish."""
        left = [pools for pools in self.spec.pools.values() if not place.pools or pools.name in place.pools]
        for name, value in place.labels.items():
            left = [pool for pool in left if pool.labels.get(name) == value]
            if not left:
                self.wrong(f"{path}.labels.{name}", value, "a label that one of its pools has")
                return
        if place.jurisdictions:
            known = sorted({pool.labels["jurisdiction"] for pool in left if "jurisdiction" in pool.labels})
            left = allowed(workload, self.spec)
            if not left:
                hint = f"they have {', '.join(known)}" if known else "none of them has the label"
                self.wrong(f"{path}.jurisdictions", None, "a jurisdiction that one of its pools has", hint)
                return
        clouds = sorted({pool.cloud for pool in left})
        if place.survive is not None and len(clouds) < 2:
            self.wrong(f"{path}.survive", None, "pools in two clouds at least", f"all of them are in {clouds[0]}")


def allowed(workload: Workload, spec: Spec) -> list[Pool]:
    """Pools that its place admits."""
    place = workload.place
    return [
        pool
        for pool in spec.pools.values()
        if (not place.pools or pool.name in place.pools)
        and all(pool.labels.get(name) == value for name, value in place.labels.items())
        and (not place.jurisdictions or pool.labels.get("jurisdiction") in place.jurisdictions)
    ]
