"""Sizes and times of the core. The first group is part of the protocol: both sides must assume the same."""

from __future__ import annotations

from dataclasses import dataclass
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
LANE: Final = 128
"""Path ids with this bit number the lane of the path whose id has it not."""
PROBE_PATH: Final = 255
"""Path id of packets on unvalidated pairs (PROTOCOL 16)."""
SERVICE_LIMIT: Final = 128
"""Bytes of a service name."""

# --- our choice -----------------------------------------------------------------------------------------------------

STREAM_WINDOW: Final = 1_250_000
CONNECTION_WINDOW: Final = 16 * 1024 * 1024
"""Bytes that a trusted peer may send ahead of the readers here, on one stream and on all of them, at first ..."""
STREAM_WINDOW_LIMIT: Final = 256 * 1024 * 1024
CONNECTION_WINDOW_LIMIT: Final = 256 * 1024 * 1024
"""... and at most (`windows.py`): twice what 10 Gbit/s have on their way in 100 ms."""
INTERACTIVE_ROOM: Final = 16_384
"""Bytes of the peer's connection window that bulk streams leave to others: a slow reader of bulk stops nobody else."""
STREAMS: Final = 256
"""Streams a trusted peer may have open (DESIGN 5)."""

INITIAL_MTU: Final = 1200
"""UDP payload, bytes, that every path must carry, and that every path begins with (RFC 9000, 14.1)."""
MTU_LIMIT: Final = 65_507
"""The largest there can be over IPv4: on loopback a train of one datagram."""
TRAIN_DATAGRAMS: Final = 64
TRAIN_BYTES: Final = 65_507

HANDSHAKE_RETRY: Final = 0.25
HANDSHAKE_RETRY_LIMIT: Final = 2.0
HANDSHAKE_GIVE_UP: Final = 15.0
"""Seconds after which an attempt fails; whoever wanted it decides whether to try again."""
HALF_OPEN_LIFE: Final = 5.0
"""Seconds a byte-identical message 1 gets the same answer (PROTOCOL 11), and the life of an unconfirmed session."""
HALF_OPEN_LIMIT: Final = 1024
"""Half of them for pinned identities: strangers have the other half at most. 3 kB each; as many as a core answers in
the longest round trip."""
HANDSHAKE_COST: Final = 0.0005
"""Seconds of one core that answering an initiation takes where no clock can tell: `benchmarks/handshakes.py`."""
LOG_COST: Final = 1e-6
"""The same for a byte of a key-event log."""
WORK_SECONDS: Final = 0.002
"""Work for strangers done at a time: how long packets of sessions may wait for it."""
BUSY_WORK_SECONDS: Final = 0.0005
BUSY_ARRIVALS: Final = 32
"""The same if so many datagrams came from strangers since: one turn's worth (`net/turn.py`)."""
BACKLOG_LANE: Final = 512
"""Requests of one lane that may wait for their turn, 1.5 kB each: half a second of work. Whoever is dropped tries again
after at least a quarter."""
LOAD_ITEMS: Final = 64
LOAD_SECONDS: Final = 0.05
"""More waiting requests, or more work for them, is load ..."""
LOAD_STICKY: Final = 1.0
"""... until so many seconds later."""
SOURCE_RATE: Final = 20.0
SOURCE_BURST: Final = 5.0
"""Under load: initiations and record requests a second from one source, and at once."""
MIRROR_RATE: Final = 50.0
MIRROR_BURST: Final = 200.0
"""Addresses told to one source a second, and at once: ten agents behind one NAT that all start now."""
MIRROR_TOTAL_RATE: Final = 2_000.0
MIRROR_TOTAL_BURST: Final = 256.0
"""The same for all sources together: a quarter of the queue that they share with handshakes."""
ORDINARY_LOG: Final = 1_024
"""Bytes of a log that costs no more than a handshake: six events."""
LOG_RATE: Final = 6_000.0
LOG_BURST: Final = 65_536.0
"""Bytes of longer logs of unknown peers verified for one source a second, and at once: the longest there may be."""
SOURCES_LIMIT: Final = 4096
"""Sources whose rate is remembered."""
FALSE_ANSWERS: Final = 64
"""Answers to our initiations that do not open, until the next try: each costs two X25519 exchanges."""
VERIFY_SECONDS: Final = 15.0
"""How long a peer whose log we lack may take to send it."""
UNVERIFIED_LIMIT: Final = 256
"""Sessions whose peers' logs are awaited; the oldest goes first."""
LOGS_LIMIT: Final = 4096
"""Verified logs kept of peers that nobody pinned."""
STANDING_BYTES: Final = 65_536
"""With more in flight than this, what is interactive takes the lane: it would wait behind a queue of our own making."""
PATHS_LIMIT: Final = 16
"""Paths of one session at a time."""
SESSIONS_OF_A_PEER: Final = 8
"""Sessions of one connection: the present one, and older ones that the peer still uses. A crossing makes two."""
STRANGER_CONNECTIONS: Final = 256
"""Connections with peers that nobody admitted; the oldest goes first."""

INTRODUCTION_TRIES: Final = 8
"""Greetings with the right mac1 that one window answers. Who enters a code sends one, however often it is repeated: the
rest is for somebody who gives up and tries again."""
INTRODUCTION_ROUTES: Final = 16
"""Routes on which a window is sought: an invitation must not make us send to everybody it names."""
INTRODUCTION_LINGER: Final = 15.0
"""How long after an introduction its proof is still confirmed."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long keys and sessions are used (DESIGN 4, PROTOCOL 16, 18, 19). Another value only shortens them."""

    rekey_seconds: float = 120.0
    rekey_packets: int = 1 << 22
    rekey_bytes: int = 1 << 30
    """The ratchet's initiator starts it at any of the three; the responder asks for it."""
    hard_seconds: float = 180.0
    hard_packets: int = 1 << 23
    """No key seals anything beyond: the AES-GCM limit of RFC 9001, 6.6. The session ends, its connection does not."""
    unused_seconds: float = 3600.0
    """A key that sealed nothing but keepalives, acknowledgements and control may live so long (ADR 0013)."""
    last_seconds: float = 60.0
    """... and once it carries data, this much longer at least, for the ratchet that begins with it."""
    renew_seconds: float = 12 * 3600.0
    """A new handshake beside a session of this age."""
    epochs: int = 61_440
    """... or of this epoch: the 16 bits of it that packets show (PROTOCOL 18) must not wrap."""
    path_ids: int = 127
    """Ids of a session's paths: 0 to 126, each used once (PROTOCOL 16); with `LANE` those of their lanes."""


LIFETIMES: Final = Lifetimes()
PATH_IDS_LEFT: Final = 16
"""With so many path ids left a new handshake is due: some are needed until there is one."""
RENEW_JITTER_SECONDS: Final = 3600.0
"""How much sooner its initiator, and how much later its responder renews a session."""
RENEW_GAP_SECONDS: Final = 30.0
"""A session is not renewed sooner: within 15 s the two handshakes would count as crossing (PROTOCOL 12)."""
RENEW_RETRY_SECONDS: Final = 300.0
"""After an attempt, the next one this much later, or twice as much; certificates leave a day and more for it."""
RENEW_SPREAD_SECONDS: Final = 10.0
RENEW_RATE: Final = 10.0
"""Sessions a second that a change of our own certificate renews, over at least the seconds above."""
DOUBT_SECONDS: Final = 15.0
"""How long a peer whose keys were superseded may take to prove the new ones: as long as an attempt."""
REKEY_GAP_SECONDS: Final = 1.0
"""A peer may ask for a ratchet this often at most."""
OFFER_SECONDS: Final = 0.25
OFFERS_AHEAD_SECONDS: Final = 16.0
"""A peer may start a ratchet every so many seconds, and 64 at once: each costs us an encapsulation and an exchange."""
OLD_KEY_SECONDS: Final = 10.0

SUSPECT_SECONDS: Final = 0.2
DEAD_SECONDS: Final = 1.0
READING_SECONDS: Final = 1.0
"""How long what has arrived, and was not read yet, may be the answer that is waited for."""
PATH_FAILURES: Final = 3
"""After this many times without an answer to data, an answer to a probe no longer counts (DESIGN 6)."""
STALLED_SECONDS: Final = 180.0
"""How long a session whose paths are all silent keeps trying before it ends."""
PROBE_SCHEDULE: Final = (0.0, 0.033, 0.1, 0.233, 0.5, 1.033, 2.1, 4.1, 6.1)
"""Seconds after the start of a round at which a pair is probed (DESIGN 6)."""
PROBE_PAIRS: Final = 64
"""Pairs of (local port, remote candidate) probed in one round."""
PROBE_ROUND_SECONDS: Final = 60.0
PROBE_ROUND_LIMIT_SECONDS: Final = 3600.0
"""Between two rounds of the same probes, while the path is relayed: at first, and at most."""
WARM_SECONDS: Final = 15.0
"""A path in reserve is challenged so often while data flows: there are NATs that forget after 20 s. Chosen, not
measured."""
ACTIVE_SECONDS: Final = 45.0
"""After this long without application data a path is no longer kept open."""
PATH_KEEPALIVE_SECONDS: Final = 15.0
QUIET_SECONDS: Final = 0.5
"""A peer that sent data and then nothing for so long is asked whether it still reaches us. Chosen, not measured."""
REST_SECONDS: Final = 1.0
"""A session that has been silent for so long gives its ciphers back: of thousands of peers most are silent."""
IDLE_SECONDS: Final = 900.0
"""After this long without data and without a PING of the peer a session ends."""
CONNECTION_LIFE_SECONDS: Final = 24 * 3600.0
"""How long a connection waits for new keys (PROTOCOL 19)."""
