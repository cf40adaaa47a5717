"""`down`: end every agent of a pool, when it is given up. The controller would start them again, so it must be gone."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from covey.base.errors import CoveyError, StateError, UsageError
from covey.fleet.commands.context import Context, Result, Verbs, known

if TYPE_CHECKING:
    from covey.fleet.providers.base import Fence, Provider
    from covey.fleet.spec.types import Pool, Spec

__all__ = ["add"]

_LOOK: Final = 0.5
"""Seconds between looks at agents that finish what they have."""

_AFTER: Final = 60.0
"""Seconds that agents may take to go once their grace is over."""


def add(verbs: Verbs) -> None:
    parser = verbs.add(
        "down",
        _down,
        summary="end every agent of a pool, or of all",
        more="For a fleet that is given up, while no controller runs. Busy agents have their grace. What the spec\n"
        "asks for is started again by the next covey fleet run.",
    )
    parser.add_argument("pools", nargs="*", metavar="POOL")
    parser.add_argument("--all", action="store_true", help="every pool")


def _down(context: Context, options: Any) -> Result:
    from covey.fleet.loop.stores import open_lock
    from covey.fleet.providers.base import Fence

    if bool(options.pools) == options.all:
        raise UsageError("name the pools, or say --all", next_step="covey fleet down --all")
    with context.store() as store:
        spec = store.spec().spec
        pools = list(spec.pools) if options.all else [known(name, spec.pools, "pool") for name in options.pools]
        lock = open_lock(context.home, os.environ)
        if not lock.try_acquire():
            raise StateError(
                "a controller runs and would start them again", code="running", next_step="stop it: Ctrl-C, or SIGTERM"
            )
        try:
            # An epoch above the controller's: what it ordered last and is still on its way is refused.
            epoch = store.lead(f"{socket.gethostname()}:{os.getpid()} down", time.time())
            ended, problems = asyncio.run(_everywhere(context, spec, pools, Fence(plan=f"{epoch}-down", epoch=epoch)))
        finally:
            lock.release()
    lines = [f"{pool}: {count} agents ended" for pool, count in ended.items()]
    lines += [f"{pool}: {problem}" for pool, problem in problems.items()]
    error = StateError(f"{len(problems)} pools could not be emptied", code="not-down") if problems else None
    return Result({"ended": ended, "problems": problems}, "\n".join(lines), error)


async def _everywhere(
    context: Context, spec: Spec, pools: list[str], fence: Fence
) -> tuple[dict[str, int], dict[str, str]]:
    ended: dict[str, int] = {}
    problems: dict[str, str] = {}

    async def one(name: str) -> None:
        try:
            ended[name] = await _empty(context, spec, spec.pools[name], fence)
        except CoveyError as error:
            problems[name] = error.message

    await asyncio.gather(*(one(name) for name in pools))
    return ended, problems


async def _empty(context: Context, spec: Spec, pool: Pool, fence: Fence) -> int:
    """How many there were."""
    from covey.fleet.providers.registry import Surroundings, make_provider

    provider = make_provider(pool, Surroundings(home=context.home.path))
    try:
        seen: set[str] = set()
        grace = max((workload.grace for workload in spec.workloads.values()), default=0.0)
        hurry, end = time.monotonic() + grace, time.monotonic() + grace + _AFTER
        while await _step(provider, spec, fence, seen, over=time.monotonic() >= hurry):
            if time.monotonic() >= end:
                raise StateError(f"some of {len(seen)} agents do not go", code="not-down")
            await asyncio.sleep(_LOOK)
        # A supervisor of processes is of no use to anybody any more.
        if shut_down := getattr(provider, "shut_down", None):
            await shut_down()
        return len(seen)
    finally:
        await provider.close()


async def _step(provider: Provider, spec: Spec, fence: Fence, seen: set[str], *, over: bool) -> bool:
    """Tells all to finish, ends those that are idle, all of them when their grace is over. True: some are left."""
    view = await provider.observe(spec.workloads.values(), time.time())
    seen.update(agent.id for agent in view.agents)
    for name, workload in spec.workloads.items():
        own = [agent for agent in view.agents if agent.workload == name]
        if not own:
            continue
        await provider.drain(workload, [agent.id for agent in own if agent.state != "draining"], fence)
        await provider.remove(workload, [agent.id for agent in own], fence, grace=0.0 if over else workload.grace)
    return bool(view.agents)
