"""L4: one agent's running endpoint. asyncio, storage, and the services every node speaks.

transport.py   the core on asyncio: awaitable streams, services
node.py        `Node`: everything below put together; what the SDK and the daemon use
book.py        the peers, in memory and on disk
directory.py   look-ups at the rendezvous
connector.py   a live connection with a peer
courier.py     what a peer must get: trust actions and messages
services.py    what a peer may ask of us
storage/       files and SQLite
"""

from __future__ import annotations

from covey.node.node import Node
from covey.node.transport import Stream

__all__ = ["Node", "Stream"]
