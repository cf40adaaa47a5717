"""What was ordered, has no machine and was found without room since does not come: it counts 0 and is taken back."""

from __future__ import annotations

import pytest

from covey.fleet.health import HealthState, judge
from covey.fleet.loop.blocks import stillborn
from covey.fleet.model import Agent, Block, Offering, PoolView
from covey.fleet.spec.types import Pool, Spec, Workload

NOW = 1000.0
OFFERING = Offering(pool="a", shape="m", price=1.0)


def agent(name: str, *, started_at: float, unplaced: bool = True) -> Agent:
    return Agent(
        id=name,
        workload="web",
        pool="a",
        offering=OFFERING.key,
        state="starting",
        started_at=started_at,
        unplaced=unplaced,
    )


def view(*agents: Agent, control: bool = True) -> dict[str, PoolView]:
    return {"a": PoolView(pool="a", at=NOW, control=control, agents=agents, offerings={"web": (OFFERING,)})}


def block(*, shape: str = "m", until: float = NOW + 60.0, at: float = NOW - 20.0) -> Block:
    return Block(scope=OFFERING.scope, shape=shape, until=until, at=at)


BEFORE, AFTER = NOW - 60.0, NOW - 1.0


@pytest.mark.parametrize(
    ("given", "blocks", "control", "expected"),
    [
        pytest.param(agent("x", started_at=BEFORE), [block()], True, True, id="ordered-before-the-failure"),
        pytest.param(agent("x", started_at=BEFORE), [block(shape="")], True, True, id="a-quota-is-for-every-shape"),
        pytest.param(agent("x", started_at=AFTER), [block()], True, False, id="ordered-after-it"),
        pytest.param(agent("x", started_at=BEFORE, unplaced=False), [block()], True, False, id="it-has-a-machine"),
        pytest.param(agent("x", started_at=BEFORE), [block(until=NOW - 1.0)], True, False, id="the-block-is-over"),
        pytest.param(agent("x", started_at=BEFORE), [block(shape="other")], True, False, id="another-shape"),
        pytest.param(agent("x", started_at=BEFORE), [block()], False, False, id="nobody-can-see-whether-it-came"),
        pytest.param(agent("x", started_at=BEFORE), [], True, False, id="no-block"),
    ],
)
def test_stillborn_are_those_whose_order_failed(
    given: Agent, blocks: list[Block], control: bool, expected: bool
) -> None:
    assert stillborn(blocks, view(given, control=control), NOW) == (frozenset({"a/x"}) if expected else frozenset())


def test_a_stillborn_agent_counts_nothing_and_may_be_removed() -> None:
    lost, fine = agent("lost", started_at=BEFORE), agent("fine", started_at=BEFORE, unplaced=False)
    spec = Spec(pools={"a": Pool(name="a", provider="local")}, workloads={"web": Workload(name="web")})
    health, _ = judge(view(lost, fine), HealthState(), NOW, spec, frozenset({"a/lost"}))
    assert health.standing("web").counting == (fine,)
    assert health.standing("web").dead == (lost,)
    assert health.pools["a"].agents == "ok"
