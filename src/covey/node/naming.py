"""This agent's own name: chosen, changed, released. A name is a lease at every rendezvous, first come (DESIGN 7)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from covey.base.errors import StateError
from covey.base.schema import NameView
from covey.base.types import Identity, check_name, identity_text
from covey.node.announcement import Announcement
from covey.node.committer import Committer
from covey.node.directory import Directory
from covey.node.rendezvous_client import RendezvousClient
from covey.node.storage.settings import NAME, Settings
from covey.wire import rendezvous as wire

__all__ = ["Naming", "made_up_name"]

_LOOK_SECONDS: Final = 2.0
"""How long the rendezvous may take to say whose a name is before we ask for it anyway."""


class Naming:
    """Changes the name on disk, in the record and at every rendezvous, in this order."""

    def __init__(
        self,
        announcement: Announcement,
        directory: Directory,
        clients: Sequence[RendezvousClient],
        committer: Committer,
        settings: Settings,
    ) -> None:
        self._announcement = announcement
        self._directory = directory
        self._clients = clients
        self._committer = committer
        self._settings = settings

    def view(self, own: Identity) -> NameView:
        outcomes = [client.name_outcome for client in self._clients if client.connected]
        return NameView(
            name=self._announcement.name,
            chosen=self._announcement.name != made_up_name(own),
            rendezvous=len(self._clients),
            held=outcomes.count(wire.NAME_HELD),
            taken=outcomes.count(wire.NAME_TAKEN),
        )

    async def change(self, name: str, wait: float) -> None:
        """Takes another name and gives up the one it had; waits up to `wait` seconds for the rendezvous to know.

        UsageError (`bad-name`); StateError (`name-taken`) if one of them says that another agent has it: then the
        old name is kept.
        """
        holders = await self._holders(check_name(name))
        if holders:
            listed = ", ".join(map(identity_text, sorted(holders)))
            raise StateError(
                f"the name {name} belongs to another agent of this network: {listed}",
                code="name-taken",
                next_step="choose another name",
            )
        await self._committer.run(lambda: self._settings.set(NAME, name))
        self._announcement.name = name
        for client in self._clients:
            client.rename()
        told = [asyncio.ensure_future(client.wait_published()) for client in self._clients if client.connected]
        if told:
            _, late = await asyncio.wait(told, timeout=wait)
            for each in late:
                each.cancel()

    async def _holders(self, name: str) -> set[Identity]:
        """Other agents that a rendezvous says have this name; none if no rendezvous can be asked."""
        asking = asyncio.ensure_future(self._directory.holders(name))
        done, _ = await asyncio.wait((asking,), timeout=_LOOK_SECONDS)
        if done:
            return asking.result()
        asking.cancel()
        return set()


def made_up_name(identity: Identity) -> str:
    """Random enough not to collide on a network, and plainly not chosen by anybody."""
    return f"agent-{identity_text(identity)[:8]}"
