"""L2: the machines. No sockets, no clocks, no randomness of their own: all three are arguments.

`Endpoint` (endpoint.py) is the whole of it seen from outside: bytes and `now` go in, trains and one deadline come
out, what happened is reported as events. Below it, one noun per file:

handshake.py   attempts of ours and half-open ones of others, until keys exist
keyring.py     what is known of others' keys, and which claims are believed
session.py     keys and packets of one handshake: everything that dies with the keys
epochs.py      its keys, one ratchet after the other
crypto_stream.py, acks.py, sender.py    what it says about itself, what it acknowledges, what it sends
proving.py     which routes are proven (punch.py)
paths.py       which path carries the data (path.py, choice.py)
judging.py     which paths are suspect or dead (recheck.py)
recovery.py    what is in flight on a path, what was lost (rtt.py, pacer.py)
congestion.py  how much may be in flight, and how fast it may leave (cubic.py, bbr.py)
connection.py  streams and their limits: everything that outlives keys (halves.py: its id)
stream.py      one ordered byte stream, both directions (send_buffer.py, receive_buffer.py)
schedule.py    the one heap of deadlines
relay.py       circuits of a relay
trust.py       who may do what, and how it got there
"""
