"""L2: the machines. No sockets, no clocks, no randomness of their own: all three are arguments.

`Endpoint` (endpoint.py) is the whole of it seen from outside: bytes and `now` go in, trains and one deadline come
out, what happened is reported as events. Below it, one noun per file:

handshake.py   attempts of ours and half-open ones of others, until keys exist
session.py     keys, packets, paths: everything that dies with the keys
connection.py  streams and their limits: everything that outlives them
stream.py      one ordered byte stream, both directions
path.py        one way to the peer: route, recovery, congestion, MTU
recovery.py    what is in flight, what was lost (RFC 9002)
relay.py       circuits of a relay
trust.py       who may do what, and how it got there
"""
