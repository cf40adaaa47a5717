"""The program `covey rendezvous`: a helper that agents need and never have to trust.

It caches what agents sign about themselves, tells them how their address looks from outside, introduces two
of them by a relayed circuit, and forwards what it cannot read. What may live here: nothing that a verdict
about an agent depends on (PROTOCOL 25). Neither Typer nor Rich is imported.

server.py       `Rendezvous` on any `net.Host`: its life, its own record and keys
service.py      what a client may ask on its stream; publication.py: what it may publish
clients.py      who is connected, what they wait for (watches.py), what they are told unasked
cache.py        the store off the event loop; store.py: the SQLite file
custodian.py    sealed letters for agents that are away, fairly; mailboxes.py: the SQLite file
limits.py       how much of all this one client may have; bucket.py
program.py      a process of it: home.py, ready.py, logs.py
"""
