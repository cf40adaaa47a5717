"""The node's small facts: keys and values, and the handshake timestamps it has seen."""

from __future__ import annotations

from typing import Final

from covey.node.storage.database import Database

__all__ = ["BORN", "INCARNATION", "NAME", "NETWORK", "PORT_MAPPING_NONCE", "RELAYS", "WALL_CLOCK", "Settings"]

NETWORK: Final = "network"
"""The ticket, remembered from the first `--network`."""
NAME: Final = "name"
"""This agent's own name."""
BORN: Final = "born"
"""When the identity was made, wall microseconds (PROTOCOL 6)."""
WALL_CLOCK: Final = "wall-clock"
"""The latest time that this node was certain of, microseconds (PROTOCOL 9)."""
INCARNATION: Final = "outbox-incarnation"
"""Eight bytes (PROTOCOL 22)."""
PORT_MAPPING_NONCE: Final = "port-mapping-nonce"
"""Twelve bytes: by them a router knows that the mapping it is asked to renew is ours (RFC 6887, 11.1)."""
RELAYS: Final = "relays"
"""Identities of the peers that relayed for us, 32 bytes each, the latest first."""


class Settings:
    """Durable key/value pairs. Every `set` is a transaction of its own unless the caller holds one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> bytes | None:
        row = self._database.row("SELECT value FROM settings WHERE key = ?", (key,))
        return None if row is None else bytes(row[0])

    def get_text(self, key: str, default: str = "") -> str:
        """StorageError (`store-corrupt`) for what is none, here as in `get_int`."""
        value = self.get(key)
        try:
            return default if value is None else value.decode()
        except UnicodeDecodeError as error:
            raise self._database.corrupt(f"the setting {key} is no text") from error

    def get_int(self, key: str, default: int = 0) -> int:
        value = self.get(key)
        try:
            return default if value is None else int(value)
        except ValueError as error:
            raise self._database.corrupt(f"the setting {key} is no number") from error

    def set(self, key: str, value: bytes | str | int | None) -> None:
        """Remember `value` under `key`; None forgets it."""
        if value is None:
            self._database.execute("DELETE FROM settings WHERE key = ?", (key,))
            return
        raw = value if isinstance(value, bytes) else str(value).encode()
        self._database.execute(
            "INSERT INTO settings VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, raw),
        )

    def raise_clock(self, certain_us: int) -> None:
        """It is at least so late, microseconds (`node.clock`): a clock set back does not revive what expired."""
        if certain_us > self.get_int(WALL_CLOCK):
            self.set(WALL_CLOCK, certain_us)

    def handshake_timestamp(self, identity: bytes, transport_key: bytes) -> int:
        """The newest timestamp seen of this key of this peer, microseconds; 0 if none (PROTOCOL 11)."""
        row = self._database.row(
            "SELECT timestamp_us FROM handshakes WHERE identity = ? AND transport_key = ?",
            (identity, transport_key),
        )
        return 0 if row is None else int(row[0])

    def handshake_timestamps(self) -> dict[tuple[bytes, bytes], int]:
        """All of them, the oldest first: the endpoint's replay state at start."""
        rows = self._database.rows("SELECT identity, transport_key, timestamp_us FROM handshakes ORDER BY timestamp_us")
        return {(bytes(identity), bytes(key)): int(timestamp) for identity, key, timestamp in rows}

    def set_handshake_timestamp(self, identity: bytes, transport_key: bytes, timestamp_us: int) -> None:
        """Remember it if it is newer than what is known."""
        self._database.execute(
            "INSERT INTO handshakes VALUES (?, ?, ?) ON CONFLICT (identity, transport_key) DO UPDATE"
            " SET timestamp_us = max(timestamp_us, excluded.timestamp_us)",
            (identity, transport_key, timestamp_us),
        )

    def forget_handshakes(self, before_us: int) -> None:
        """Drop timestamps older than `before_us`: transport keys live 48 hours (PROTOCOL 5), older ones are
        dead."""
        self._database.execute("DELETE FROM handshakes WHERE timestamp_us < ?", (before_us,))
