"""The real environment's `Home`, and its directories made and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from covey.base.paths import TEMPORARY, Home
from covey.node.storage.files import private_directory

__all__ = ["Home", "locate", "prepare"]


def locate(profile: str | None = None, env: Mapping[str, str] | None = None, *, temporary: Path = TEMPORARY) -> Home:
    """`Home.locate` for this process' user, and its environment unless `env` is given. Touches nothing."""
    return Home.locate(profile, os.environ if env is None else env, uid=os.getuid(), temporary=temporary)


def prepare(home: Home) -> None:
    """Make the profile's directories, 0700; raise `StorageError` ``bad-permissions`` for one that is not ours
    alone.

    The shared temporary folder is checked before anything is made in it: another user may have made it first.
    """
    private_directory(home.state_dir)
    private_directory(home.config_dir)
    private_directory(home.recovery_dir)
    if home.run_parent is not None:
        private_directory(home.run_parent)
    private_directory(home.run_dir)
