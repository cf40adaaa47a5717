"""A turn holds, whatever numbers its sources say, and what it remembers comes back from the store."""

from __future__ import annotations

from math import inf, nan

import msgspec
import pytest

from covey.fleet.demand import POLICIES
from covey.fleet.loop import memory
from covey.fleet.loop.turn import Seen, TurnState, turn
from covey.fleet.model import Agent, Decision, Offering, PoolView, Reading
from covey.fleet.spec.types import Pool, Replicas, Spec, Target, Workload

NUMBERS = {"nan": nan, "inf": inf, "negative": -1.0, "largest": 1e308, "smallest": 1e-308, "much": 1e15}
NOW = 1_800_000_000.0


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("name", NUMBERS)
def test_turn_holds_and_is_remembered(policy: str, name: str) -> None:
    number = NUMBERS[name]
    targets = (
        Target(signal="agents", rate_per_agent=5.0),
        Target(signal="queue", source="x", queue_length=3.0),
        Target(signal="cpu", value=0.7),
    )
    for some in (targets, targets[:1], targets[1:2], targets[2:]):
        web = Workload(name="web", mode="act", targets=some, policy=policy, replicas=Replicas(min=1, max=50))
        spec = Spec(pools={name: Pool(name=name, provider="local") for name in "ab"}, workloads={"web": web})
        state = TurnState()
        for moment in range(4):
            now = NOW + 5.0 * moment
            reading = Reading(
                at=now, arrivals=number, completions=number, backlog=number, value=number, ongoing=number, interval=1.0
            )
            turned = turn(
                state,
                Seen(views=_views(now, number), readings={"web": ({"a": reading, "b": reading},) * len(some)}),
                spec,
                now,
            )
            state = turned.state
            again = memory.decode(memory.encode(state)).workloads["web"]
            assert again.demand == state.workloads["web"].demand
            for decision in turned.decisions:
                assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision)


def _views(now: float, number: float) -> dict[str, PoolView]:
    return {
        pool: PoolView(
            pool=pool,
            at=now,
            agents=tuple(
                Agent(
                    id=f"{pool}-{each}", workload="web", pool=pool, offering=f"{pool}/m/on-demand", state="ready",
                    started_at=now - 1000.0, heard_at=now, busy=True, busy_share=1.0,
                    cpu=number, completions=number, errors=number,
                )
                for each in range(2)
            ),
            offerings={"web": (Offering(pool=pool, shape="m", cloud=pool, price=1.0),)},
        )
        for pool in "ab"
    }  # fmt: skip
