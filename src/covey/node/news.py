"""What followers of this node hear: its own events, and those of peers that are somebody to the owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from covey.base.events import Event, PeerConnected, PeerDisconnected, PeerEvent, PeerPath
from covey.base.types import Identity, identity_text
from covey.net.host import Host
from covey.node.book import PeerBook
from covey.node.bus import Bus

__all__ = ["News"]

_COMINGS_AND_GOINGS: Final = (PeerConnected, PeerDisconnected, PeerPath)


class News:
    """`tell` for what happens to this agent, `tell_of` for what happens to a peer."""

    def __init__(self, bus: Bus, host: Host, book: PeerBook, is_rendezvous: Callable[[Identity], bool]) -> None:
        self._bus = bus
        self._host = host
        self._book = book
        self._is_rendezvous = is_rendezvous
        self._untold: set[Identity] = set()
        """Strangers that are connected, of whom nobody was told."""

    def tell(self, event: Event) -> None:
        self._bus.publish(event, self._host.wall_us() / 1e6)

    def tell_of(self, event: PeerEvent, peer: Identity) -> None:
        """Sessions with the rendezvous are no news, and those of strangers not before they want something: whoever
        only comes and goes must not push other events out of memory.
        """
        if self._is_rendezvous(peer):
            return
        if self._book.get(peer) is None and isinstance(event, _COMINGS_AND_GOINGS):
            (self._untold.discard if isinstance(event, PeerDisconnected) else self._untold.add)(peer)
            return
        if peer in self._untold:
            self._untold.discard(peer)
            self._tell_of(PeerConnected(resumed=False), peer)
        self._tell_of(event, peer)

    def _tell_of(self, event: PeerEvent, peer: Identity) -> None:
        known = self._book.get(peer)
        self.tell(msgspec.structs.replace(event, peer=identity_text(peer), name=known.name if known else ""))
