"""Numbers that more than one layer needs. Those the protocol fixes come first; changing one changes the wire."""

from __future__ import annotations

from typing import Final

PROTOCOL_VERSION: Final = 1
"""The `1` of every "covey ... 1" label."""

DEFAULT_PORT: Final = 4040
"""UDP port of a rendezvous when none is given. Ours; unassigned at IANA for UDP."""

RELEASE_US: Final = 1_767_225_600_000_000
"""1 January 2026: no copy of this version ran before (PROTOCOL 9). Moved with every release; microseconds."""

CLOCK_SKEW_SECONDS: Final = 600
"""A not-before, or a record's sequence, may lie this far in the future (PROTOCOL 3, 9)."""

RECORD_LIMIT: Final = 1000
"""Largest signed record, bytes (DESIGN 1)."""

LOG_LIMIT: Final = 65_536
"""Largest key-event log, bytes (PROTOCOL 2)."""

HANDSHAKE_PAYLOAD_LIMIT: Final = 1000
"""Largest payload of a Noise handshake message, bytes (PROTOCOL 10)."""

RECORD_LIFE_SECONDS: Final = 24 * 3600
"""Longest life of a record (PROTOCOL 3)."""

TRANSPORT_KEY_ROTATE_SECONDS: Final = 16 * 3600
"""A new transport key is made this often ..."""

TRANSPORT_KEY_LIFE_SECONDS: Final = 48 * 3600
"""... and its private half destroyed this long after it was made (PROTOCOL 5)."""

MESSAGE_LIMIT: Final = 1024 * 1024
"""Largest message body, bytes."""

MAILBOX_KEY_LIMIT: Final = 1500
"""Largest signed mailbox key, bytes (PROTOCOL 2)."""

SEALED_LIMIT: Final = 64 * 1024
"""Largest sealed mail, bytes. Ours: one request to a rendezvous."""

INTRODUCTION_SECONDS: Final = 600.0
"""How long a one-time code is good for unless told otherwise: time to read it out twice. Ours."""

INTRODUCTION_LIMIT_SECONDS: Final = 3600.0
"""... and at most: what an offline guess may take grows with it (ADR 0011). Ours."""
