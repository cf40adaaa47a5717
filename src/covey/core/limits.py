"""Sizes and times of the core. The first group is part of the protocol: both sides must assume the same."""

from __future__ import annotations

from typing import Final

# --- fixed by the protocol ------------------------------------------------------------------------------------------

STRANGER_STREAM_WINDOW: Final = 65_536
"""Bytes a stream may carry before its receiver said more."""
STRANGER_CONNECTION_WINDOW: Final = 262_144
"""Bytes all streams may carry together before the receiver said more."""
STRANGER_STREAMS: Final = 8
"""Streams each side may open before the other said more."""
CRYPTO_BUFFER: Final = 16_384
"""Bytes of a CRYPTO stream that may wait for a gap (PROTOCOL 17)."""
PROBE_PATH: Final = 255
"""Path id of packets on unvalidated pairs (PROTOCOL 16)."""
SERVICE_LIMIT: Final = 128
"""Bytes of a service name."""

# --- our choice -----------------------------------------------------------------------------------------------------

STREAM_WINDOW: Final = 1_250_000
STREAM_WINDOW_LIMIT: Final = 16 * 1024 * 1024
CONNECTION_WINDOW: Final = 64 * 1024 * 1024
STREAMS: Final = 256
"""Streams a trusted peer may have open (DESIGN 5)."""

INITIAL_MTU: Final = 1200
MTU_LADDER: Final = (1280, 1400, 1452)
"""UDP payload sizes probed in turn (RFC 8899). Jumbo frames and black-hole detection are the path issue's."""
TRAIN_DATAGRAMS: Final = 64
TRAIN_BYTES: Final = 65_507

HANDSHAKE_RETRY: Final = 0.25
HANDSHAKE_RETRY_LIMIT: Final = 2.0
HANDSHAKE_GIVE_UP: Final = 15.0
"""Seconds after which an attempt fails; whoever wanted it decides whether to try again."""
HALF_OPEN_LIFE: Final = 5.0
"""Seconds a byte-identical message 1 gets the same answer (PROTOCOL 11), and the life of an unconfirmed session."""
HALF_OPEN_LIMIT: Final = 256
VERIFY_SECONDS: Final = 15.0
"""How long a peer whose log we lack may take to send it."""
UNVERIFIED_LIMIT: Final = 256
"""Sessions whose peers' logs are awaited; the oldest goes first."""
LOGS_LIMIT: Final = 4096
"""Verified logs kept of peers that nobody pinned."""
STRANGER_CONNECTIONS: Final = 256
"""Connections with peers that nobody admitted; the oldest goes first."""

INTRODUCTION_TRIES: Final = 8
"""Greetings with the right mac1 that one window answers. Who enters a code sends one, however often it is repeated: the
rest is for somebody who gives up and tries again."""
INTRODUCTION_LINGER: Final = 15.0
"""How long after an introduction its proof is still confirmed."""

REKEY_SECONDS: Final = 120.0
REKEY_PACKETS: Final = 1 << 22
REKEY_BYTES: Final = 1 << 30
HARD_SECONDS: Final = 180.0
HARD_PACKETS: Final = 1 << 23
REKEY_GAP_SECONDS: Final = 1.0
"""A peer may ask for a ratchet this often at most."""
OLD_KEY_SECONDS: Final = 10.0

SUSPECT_SECONDS: Final = 0.2
DEAD_SECONDS: Final = 1.0
PATH_FAILURES: Final = 3
"""After this many times without an answer to data, an answer to a probe no longer counts (DESIGN 6)."""
MTU_RETRY_SECONDS: Final = 60.0
"""After a path had to go back to the initial size, larger ones are tried again this much later."""
STALLED_SECONDS: Final = 180.0
"""How long a session whose paths are all silent keeps trying before it ends."""
PROBE_SCHEDULE: Final = (0.0, 0.033, 0.1, 0.233, 0.5, 1.033, 2.1, 4.1, 6.1)
"""Seconds after the start of a round at which a pair is probed (DESIGN 6)."""
PROBE_PAIRS: Final = 64
"""Pairs of (local port, remote candidate) probed in one round."""
PROBE_ROUND_SECONDS: Final = 60.0
PROBE_ROUND_LIMIT_SECONDS: Final = 3600.0
"""Between two rounds of the same probes, while the path is relayed: at first, and at most."""
ACTIVE_SECONDS: Final = 45.0
"""After this long without application data a path is no longer kept open."""
PATH_KEEPALIVE_SECONDS: Final = 15.0
QUIET_SECONDS: Final = 0.5
"""A peer that sent data and then nothing for so long is asked whether it still reaches us. Chosen, not measured."""
IDLE_SECONDS: Final = 900.0
CONNECTION_LIFE_SECONDS: Final = 24 * 3600.0
"""How long a connection waits for new keys (PROTOCOL 19)."""
