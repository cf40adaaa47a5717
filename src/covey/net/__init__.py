"""L3: the only sockets, clocks and randomness of the overlay.

What may live here: UDP with batching, WebSocket, port mapping, and the one turn that drives the sans-IO
endpoint. May import `core` and what is below it; never `node` or a face. Everything above gets the world
through `net.host.Host`, so that the simulator (`covey.testing`) can stand in for it.
"""
