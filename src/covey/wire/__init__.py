"""L1: bytes <-> messages. Every parser here takes foreign bytes and raises `ParseError`, nothing else.

Nothing in this package knows a key, a clock or a socket. `docs/protocol.md` is the prose of these tables.
"""
