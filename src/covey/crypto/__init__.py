"""L1: keys, Noise, packet protection, the ratchet and the signed objects an identity consists of.

May import `covey.base`, `cryptography` and pure standard modules; never a clock, a random source or a socket:
`now_us` (microseconds of wall time since the Unix epoch) and random bytes are arguments. Knows nothing of
`covey.wire`: what is signed is encoded here with the cursor codec of `base` and travels as opaque bytes.
"""
