"""The node's own client against this server: the two halves of `wire/rendezvous.py` agree."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from covey.base.types import Endpoint, Identity, endpoint_text
from covey.core import events
from covey.node.rendezvous_client import RendezvousClient
from covey.rendezvous.limits import Limits
from covey.testing import Link, run
from covey.wire import rendezvous as wire
from tests.rendezvous.world import Agent, World, world


class Node:
    """An agent that leaves the rendezvous to `RendezvousClient`."""

    def __init__(self, there: World, name: str) -> None:
        self.agent: Agent = there.new_agent()
        self.present: asyncio.Queue[Identity] = asyncio.Queue()
        self.client = RendezvousClient(
            self.agent.transport,
            there.ticket.entries[0],
            signed=lambda: self.agent.signed(name),
            on_present=self.present.put_nowait,
            on_change=lambda: None,
            on_mail=lambda identity: None,
            on_draining=self._leave,
            on_routes=self._use,
        )
        self.agent.transport._pass_on = self._on_event
        self.agent.transport.spawn(self.client.run(), "client")

    async def _leave(self, client: RendezvousClient) -> bool:
        return True

    def _use(self, identity: Identity, addresses: Sequence[Endpoint]) -> None:
        self.agent.transport.endpoint.relays.update(dict.fromkeys(addresses, identity))

    def _on_event(self, event: events.Event) -> None:
        if isinstance(event, events.RecordReceived):
            self.client.on_record(event)
        elif isinstance(event, events.ConnectionStalled):
            self.client.on_stalled()


def test_client_and_server_agree_through_restart_drain_and_partition(sim_seed: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with world(sim_seed, tmp_path) as there:
            there.network.default = Link(latency_s=0.02, loss=0.02)
            a, b = Node(there, "a"), Node(there, "b")
            for step in ("start", "drain", "crash", "partition"):
                if step == "drain":
                    await there.stop()
                    await there.start()
                elif step == "crash":
                    there.server._transport.driver.close()
                    for task in there.server._transport._tasks:
                        task.cancel()
                    there.store.close()
                    there.host = there.host.restart()
                    await there.start()
                    await asyncio.sleep(60.0)
                elif step == "partition":
                    there.network.partition([there.host.ip])
                    await asyncio.sleep(300.0)
                    there.network.heal()
                    await asyncio.sleep(30.0)
                async with asyncio.timeout(30.0):
                    for node in (a, b):
                        await node.client.wait_connected()
                    assert a.client.observed is not None, step
                    assert endpoint_text(a.client.observed) == endpoint_text(a.agent.port.local), step
                    assert len(await b.client.lookup(wire.BY_NAME, b"a")) == 1, step
                    await b.client.watch(a.agent.identity)
                    assert await b.present.get() == a.agent.identity, step
                    assert await b.client.introduce(a.agent.identity) is not None, step

    run(main(), seed=sim_seed)


def test_a_client_that_is_turned_away_gets_in_when_there_is_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(0, tmp_path, Limits(clients=1)) as there:
            first = await there.agent()
            second = Node(there, "second")
            await asyncio.sleep(10.0)
            assert "busy" in second.client.problem or not second.client.connected
            await first.close()
            with contextlib.suppress(ValueError):
                there.agents.remove(first)
            async with asyncio.timeout(30.0):
                await second.client.wait_connected()

    run(main())
