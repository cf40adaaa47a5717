"""L4: one agent's running endpoint. asyncio, storage, and the services every node speaks.

transport.py   the core on asyncio: awaitable streams, services
node.py        `Node`: everything below put together; what the SDK and the daemon use
book.py        the peers, in memory and on disk
directory.py   look-ups at the rendezvous
connector.py   a live connection with a peer
courier.py     what a peer must get: trust actions and messages
services.py    what a peer may ask of us
findings.py    what is degraded, and what to do
bus.py         events for whoever follows
storage/       files and SQLite, and whether they are whole
keys.py, reach.py   what may be shown of the keys; is a rendezvous there: without a node

The package is lazy, so that looking at a profile's files does not load the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covey.node.node import Node as Node
    from covey.node.transport import Stream as Stream

__all__ = ["Node", "Stream"]


def __getattr__(name: str) -> Any:
    if name == "Node":
        from covey.node.node import Node

        value: Any = Node
    elif name == "Stream":
        from covey.node.transport import Stream

        value = Stream
    else:
        raise AttributeError(f"module 'covey.node' has no attribute {name!r}")
    globals()[name] = value
    return value
