"""One fleet that is sifted turn after turn; what is remembered goes through JSON when it changes, as in the store."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from covey.fleet.filtering import SiftInput, SiftState, sift
from covey.fleet.health import HealthState, judge
from covey.fleet.model import Agent, Offering, Placement, Step, Wanted
from covey.fleet.spec.types import Spec
from tests.fleet.filtering import scene


class Sifting:
    def __init__(
        self,
        *present: Agent,
        spec: Spec | None = None,
        offerings: tuple[Offering, ...] = (),
        lost: tuple[str, ...] = (),
        removals_share: float = 0.25,
        **fields: Any,
    ) -> None:
        self.spec = spec or scene.spec(scene.workload(**fields), removals_share=removals_share)
        self.agents = {each.id + each.pool: each for each in present}
        self.lost = lost
        self.offerings = {each.key: each for each in (*DEFAULT, *offerings)}
        self.state = SiftState()
        self.health_state = HealthState()
        self.held: tuple[str, ...] = ()
        self.holds: dict[str, tuple[str, ...]] = {}

    def become(self, id: str, **fields: Any) -> None:
        for name, each in self.agents.items():
            if each.id == id:
                self.agents[name] = replace(each, **fields)

    def come(self, *more: Agent) -> None:
        self.agents |= {each.id + each.pool: each for each in more}

    def forget(self, *ids: str) -> None:
        self.agents = {name: each for name, each in self.agents.items() if each.id not in ids}

    def given(
        self,
        counts: dict[str, int] | None,
        others: dict[str, dict[str, int]] | None = None,
        *,
        now: float = 0.0,
        wanted: Wanted | None = None,
        shortfalls: Any = (),
        removals_share: float | None = None,
        candidates: Any = None,
        **fields: Any,
    ) -> SiftInput:
        if removals_share is not None:
            controller = replace(self.spec.controller, removals_share=removals_share)
            self.spec = replace(self.spec, controller=controller)
        seen = scene.views(*self.agents.values(), at=now, lost=self.lost, pools=self.spec.pools)
        health, self.health_state = judge(seen, self.health_state, now, self.spec)
        return SiftInput(
            now=now,
            spec=self.spec,
            placement=Placement(
                counts={**({} if counts is None else {"w": counts}), **(others or {})},
                cost=0.0,
                objective=0.0,
                shortfalls=shortfalls,
                candidates=candidates or {},
            ),
            health=health,
            wanted={} if wanted is None else {"w": wanted},
            offerings=dict.fromkeys(self.spec.workloads, tuple(self.offerings.values())),
            **fields,
        )

    def sift(self, counts: dict[str, int] | None, others: Any = None, **fields: Any) -> list[Step]:
        given = self.given(counts, others, **fields)
        sifted, state = sift(given, self.state)
        if state is not self.state:
            self.state = msgspec.json.decode(msgspec.json.encode(state), type=SiftState)
        self.holds = sifted.held
        self.held = sifted.held.get("w", ())
        return list(sifted.steps)


DEFAULT = tuple(
    scene.offering(pool, shape, spot=spot, price=price)
    for pool in scene.POOLS
    for shape, spot, price in (("m", False, 0.10), ("s", True, 0.03))
)
