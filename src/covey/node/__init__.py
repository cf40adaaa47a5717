"""L4: one agent's running endpoint: asyncio, storage, and the services it speaks.

May import `net`, `core`, `wire`, `crypto` and `base`; never a program or a face. Gets the world through `net.host.Host`.
"""
