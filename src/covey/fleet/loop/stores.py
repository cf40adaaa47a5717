"""Which store a fleet has, and the lock of its leader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from covey.base.errors import UsageError
from covey.fleet.home import FleetHome
from covey.fleet.loop.database import Database, SqliteDatabase
from covey.fleet.loop.leader import FileLock, Lock
from covey.fleet.loop.store import Store

__all__ = ["open_lock", "open_store", "remember_store", "store_url"]

_POSTGRES: Final = ("postgresql://", "postgres://")
_SQLITE: Final = "sqlite:"


def store_url(home: FleetHome, env: Mapping[str, str]) -> str:
    """``COVEY_FLEET_STORE``, else what `remember_store` wrote, else "": SQLite in the home."""
    if env.get("COVEY_FLEET_STORE"):
        return env["COVEY_FLEET_STORE"]
    try:
        return home.store.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def remember_store(home: FleetHome, url: str) -> None:
    """What a spec's `controller.store` says, for every command and controller of this home."""
    _check(url)
    if url:
        home.store.touch(mode=0o600)
        home.store.write_text(url, encoding="utf-8")
    else:
        home.store.unlink(missing_ok=True)


def open_store(home: FleetHome, env: Mapping[str, str]) -> Store:
    """Raises `StorageError`, `UsageError` (a URL of another kind, an extra that is missing)."""
    return Store(_database(home, store_url(home, env)))


def open_lock(home: FleetHome, env: Mapping[str, str]) -> Lock:
    """The lock of whoever leads with that store."""
    url = store_url(home, env)
    if url.startswith(_POSTGRES):
        from covey.fleet.loop.postgres import AdvisoryLock

        return AdvisoryLock(url)
    return FileLock(home.lock)


def _database(home: FleetHome, url: str) -> Database:
    _check(url)
    if url.startswith(_POSTGRES):
        from covey.fleet.loop.postgres import PostgresDatabase

        return PostgresDatabase(url)
    return SqliteDatabase(home.path / url.removeprefix(_SQLITE) if url else home.database)


def _check(url: str) -> None:
    if url and not url.startswith((*_POSTGRES, _SQLITE)):
        raise UsageError(
            f"{url.partition(':')[0]!r} is no kind of store: use sqlite:FILE or postgresql://...",
            code="bad-store",
            next_step='leave controller.store out for SQLite, or write "postgresql://USER@HOST/DATABASE"',
        )
