"""The program `covey rendezvous`: a helper that agents need and never have to trust.

It caches what agents sign about themselves, tells them how their address looks from outside, introduces two of them
by a relayed circuit, and forwards what it cannot read. `store.py` is the cache, `server.py` the server on any
`net.Host`, `service.py` what it says to one client; `home.py` and `program.py` make a process of it. What may live
here: nothing that a verdict about an agent depends on (PROTOCOL 25). Neither Typer nor Rich is imported.
"""
