"""What a pair is asked for: each measure runs jobs on it and gives figures by the name of their metric."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from covey.bench.pair import Pair

__all__ = ["MEASURES", "Measure", "Scale", "more_is_better", "unit", "within"]


@dataclass(frozen=True)
class Scale:
    """How long a measure may take."""

    seconds: float = 1.0
    """Of each transfer, warm-up (a fifth) apart; round trips take half of it."""
    connects: int = 10
    sessions: tuple[int, ...] = (1, 100, 1000)
    handshakes: int = 400

    @property
    def timeout(self) -> float:
        """Seconds after which a job is given up: whoever has buffered more than this is not coming back."""
        return 20.0 + 10 * self.seconds


@dataclass(frozen=True)
class Measure:
    """`run` gives figures for a pair whose subject `can` do what it `needs`."""

    name: str
    needs: str
    run: Callable[[Pair, Scale], dict[str, float]]


_SESSIONS_SECONDS: Final = 180.0
_HANDSHAKES_SECONDS: Final = 120.0

_UNITS: Final = {
    "gbit_s": "Gbit/s",
    "us": "us",
    "ms": "ms",
    "per_s": "1/s",
    "per_cpu_s": "1/s",
    "s_per_gb": "s/GB",
    "bytes": "B",
    "share": "",
}
_UNIT: Final = re.compile(f"_({'|'.join(_UNITS)})(?=_|$)")


def unit(metric: str) -> str:
    """A metric says its unit in its name: `rtt64_us_p50`, `relay_gbit_s`."""
    return _UNITS[_place_of_unit(metric)[1]]


def within(metric: str, setting: str) -> str:
    """The metric's name where something is special: `setting` before its unit."""
    place = _place_of_unit(metric).start()
    return f"{metric[:place]}_{setting}{metric[place:]}"


def more_is_better(metric: str) -> bool:
    """Rates and shares; of times and bytes less is."""
    return _place_of_unit(metric)[1] in ("gbit_s", "per_s", "per_cpu_s", "share")


def _place_of_unit(metric: str) -> re.Match[str]:
    found = _UNIT.search(metric)
    if found is None:
        raise ValueError(f"{metric} does not say its unit: one of {', '.join(_UNITS)}")
    return found


def _gbit_s(found: dict[str, float]) -> float:
    return found["bytes"] * 8 / found["seconds"] / 1e9


def _round_trips(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_one_core()
    found = pair.job("round_trips", timeout=scale.timeout, seconds=scale.seconds / 2)
    return {"rtt64_us_p50": found["p50"], "rtt64_us_p99": found["p99"]}


def _round_trips_two_cores(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_two_cores()
    found = pair.job("round_trips", timeout=scale.timeout, seconds=scale.seconds / 2)
    return {"rtt64_two_cores_us_p50": found["p50"], "rtt64_two_cores_us_p99": found["p99"]}


def _round_trips_loaded(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_two_cores()
    found = pair.job("round_trips_loaded", timeout=scale.timeout, seconds=scale.seconds)
    return {
        "rtt64_loaded_us_p50": found["p50"],
        "rtt64_loaded_us_p99": found["p99"],
        "rtt64_loaded_bulk_gbit_s": _gbit_s(found),
    }


def _bulk(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_two_cores()
    found = pair.job("bulk", timeout=scale.timeout, seconds=scale.seconds)
    gigabytes = found["bytes"] / 1e9
    return {
        "bulk_gbit_s": _gbit_s(found),
        "cpu_s_per_gb_send": found["send_cpu_s"] / gigabytes,
        "cpu_s_per_gb_receive": found["receive_cpu_s"] / gigabytes,
    }


def _bulk32(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_two_cores()
    return {"bulk32_gbit_s": _gbit_s(pair.job("bulk", timeout=scale.timeout, seconds=scale.seconds, streams=32))}


def _both_ways(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_two_cores()
    return {"bulk_both_ways_gbit_s": _gbit_s(pair.job("both_ways", timeout=scale.timeout, seconds=scale.seconds))}


def _messages(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_two_cores()
    found = pair.job("messages", timeout=scale.timeout, seconds=scale.seconds / 2)
    return {"stream_msgs_per_s": found["messages"] / found["seconds"]}


def _datagrams(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_two_cores()
    found = pair.job("datagrams", timeout=scale.timeout, seconds=scale.seconds / 2)
    return {
        "datagrams_per_s": found["arrived"] / found["seconds"],
        "datagrams_arrived_share": found["arrived"] / found["sent"],
    }


def _connect(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_two_cores()
    return {"connect_ms": pair.job("connect", timeout=scale.timeout, count=scale.connects)["ms"]}


def _handshakes(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_two_cores()
    found = pair.call(
        "covey.bench.handshakes:handshakes_per_cpu_s", timeout=_HANDSHAKES_SECONDS, handshakes=scale.handshakes
    )
    kinds = {kind: f"handshakes_{kind}_per_cpu_s" for kind in found} | {"pinned": "handshakes_per_cpu_s"}
    return {kinds[kind]: value for kind, value in found.items()}


def _rekey(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_two_cores()
    megabytes = max(int(300 * scale.seconds), 48)
    found = pair.call("covey.bench.rekey:rekey_stalls", timeout=scale.timeout, megabytes=megabytes)
    return {"rekey_stall_ms_p99": found["stall_p99"], "rekey_quiet_ms_p99": found["gap_p99"]}


def _durable(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_two_cores()
    found = pair.job("durable", timeout=scale.timeout, seconds=scale.seconds)
    return {"durable_msgs_per_s": found["messages"] / found["seconds"]}


def _failover(pair: Pair, scale: Scale) -> dict[str, float]:
    pair.on_two_cores()
    return {"failover_ms": pair.job("failover", timeout=scale.timeout, seconds=scale.seconds)["ms"]}


def _sessions(pair: Pair, scale: Scale) -> dict[str, float]:
    """Private memory of the server for each session, from a pair that did nothing else yet.

    The figure at N sessions is what one costs among those that were added to come to N; without a number it is that of
    the most. At 1 it holds what is made once. A busy session is an idle one and what it grows by when it moves bytes.
    """
    pair.on_two_cores()
    figures: dict[str, float] = {}

    def private() -> float:
        return pair.usage("server", collect=True)["private"]

    reached = 0
    for count in scale.sessions:
        before = private()
        opened = pair.job("sessions", timeout=_SESSIONS_SECONDS, count=count)
        idle = private()
        pair.job("sessions_busy", timeout=_SESSIONS_SECONDS, count=count)
        added = count - reached
        for kind, grown in (("idle", idle - before), ("busy", private() - before)):
            figures[f"{kind}_session_bytes_{count}"] = figures[f"{kind}_session_bytes"] = grown / added
        figures["sessions_opened_per_s"] = opened["opened"] / opened["seconds"]
        reached = count
    trips = pair.job("sessions_trips", timeout=_SESSIONS_SECONDS, seconds=scale.seconds)
    return figures | {f"sessions{reached}_rtt_ms_{which}": trips[which] / 1e3 for which in ("p50", "p99")}


MEASURES: Final = {
    each.name: each
    for each in (
        Measure("round_trips", "stream", _round_trips),
        Measure("round_trips_two_cores", "stream", _round_trips_two_cores),
        Measure("bulk", "stream", _bulk),
        Measure("bulk32", "stream", _bulk32),
        Measure("both_ways", "stream", _both_ways),
        Measure("round_trips_loaded", "stream", _round_trips_loaded),
        Measure("messages", "stream", _messages),
        Measure("datagrams", "datagrams", _datagrams),
        Measure("connect", "connect", _connect),
        Measure("handshakes", "handshakes", _handshakes),
        Measure("rekey", "handshakes", _rekey),
        Measure("durable", "durable", _durable),
        Measure("failover", "cut", _failover),
        Measure("sessions", "sessions", _sessions),
    )
}
