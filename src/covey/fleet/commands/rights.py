"""Proof of what the controller may do in a pool."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from covey.base.errors import CoveyError
from covey.fleet.commands.context import Context
from covey.fleet.providers.base import Right
from covey.fleet.providers.registry import Surroundings, make_provider

if TYPE_CHECKING:
    from covey.fleet.spec.types import Pool, Spec

__all__ = ["prove"]

_SECONDS = 60.0


def prove(context: Context, spec: Spec, pools: Sequence[str]) -> dict[str, Sequence[Right]]:
    """Every right of each pool, all pools at once. A pool that cannot be asked has one right that is not granted."""
    home = context.home.make().path

    async def everywhere() -> list[Sequence[Right]]:
        return await asyncio.gather(*(_one(spec.pools[name], Surroundings(home=home)) for name in pools))

    return dict(zip(pools, asyncio.run(everywhere()), strict=True))


async def _one(pool: Pool, surroundings: Surroundings) -> Sequence[Right]:
    try:
        provider = make_provider(pool, surroundings)
        try:
            async with asyncio.timeout(_SECONDS):
                return await provider.check()
        finally:
            await provider.close()
    except TimeoutError:
        return [Right(name="reach it", granted=False, detail=f"no answer within {_SECONDS:g} s")]
    except CoveyError as error:
        return [Right(name="reach it", granted=False, detail=error.message, next_step=error.next_step)]
