"""Where one profile's files are: pure path arithmetic, shared by the daemon, the SDK and the CLI.

One profile is one agent. Its files are in four places, each with a reason:

========== ============================================ ========================================
directory  default                                      holds
========== ============================================ ========================================
config     ``$XDG_CONFIG_HOME/covey/<profile>``         what the user writes: ``config.toml``
state      ``$XDG_STATE_HOME/covey/<profile>``          identity, database, lock, log
recovery   ``$XDG_DATA_HOME/covey/<profile>/recovery``  the next root key
run        ``$XDG_RUNTIME_DIR/covey/<profile>``         the two sockets
========== ============================================ ========================================

The next root key must never be in the state directory (PROTOCOL 4), nor should it be in the config directory:
people publish their dotfiles. Without ``XDG_RUNTIME_DIR``, run is ``run`` in the state directory.

``COVEY_HOME`` puts all of them under ``$COVEY_HOME/<profile>/``. A Unix socket's path is at most 100 bytes
here (the kernels allow 104 to 108); a longer one moves to ``/tmp/covey-<uid>/<digest>``, a folder that anyone
may have made first, so that its owner and mode must be checked with `check_private` before it is used, by
both ends.

Nothing here touches the disk; `covey.node.storage.paths` makes and checks the directories.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from covey.base.errors import StorageError, UsageError

__all__ = ["DEFAULT_PROFILE", "SOCKET_PATH_LIMIT", "TEMPORARY", "Home", "check_private", "check_profile"]

DEFAULT_PROFILE: Final = "default"

SOCKET_PATH_LIMIT: Final = 100
"""Longest socket path, bytes (PROTOCOL 33). `sun_path` is 108 on Linux and 104 on macOS, the final zero
included."""

TEMPORARY: Final = Path("/tmp")  # noqa: S108 -- checked before use, see `check_private`
"""Fixed, not $TMPDIR: the daemon and the CLI must agree, whatever each of them has in its environment."""

_PROFILE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Home:
    """The directories and files of one profile. Make one with `Home.locate`."""

    profile: str
    config_dir: Path
    state_dir: Path
    recovery_dir: Path
    run_dir: Path
    run_parent: Path | None = None
    """The shared temporary folder above `run_dir`, if the sockets had to move there; check it first."""

    @classmethod
    def locate(cls, profile: str | None, env: Mapping[str, str], *, uid: int, temporary: Path = TEMPORARY) -> Home:
        """The home of `profile` (None: ``COVEY_PROFILE``, else ``default``) in the environment `env` of user
        `uid`.

        Raises `UsageError`: ``bad-profile``, ``no-home`` or ``path-too-long``.
        """
        profile = check_profile(profile if profile is not None else env.get("COVEY_PROFILE") or DEFAULT_PROFILE)
        if env.get("COVEY_HOME"):
            base = Path(env["COVEY_HOME"])
            if not base.is_absolute():
                raise UsageError(
                    f"COVEY_HOME is {env['COVEY_HOME']!r}, which is not an absolute path",
                    code="no-home",
                    next_step='export COVEY_HOME="$PWD/' + env["COVEY_HOME"] + '"',
                )
            base /= profile
            config, state, recovery, run = base / "config", base / "state", base / "recovery", base / "run"
        else:
            config = _xdg(env, "XDG_CONFIG_HOME", ".config") / "covey" / profile
            state = _xdg(env, "XDG_STATE_HOME", ".local/state") / "covey" / profile
            recovery = _xdg(env, "XDG_DATA_HOME", ".local/share") / "covey" / profile / "recovery"
            runtime = _absolute(env.get("XDG_RUNTIME_DIR"))
            run = runtime / "covey" / profile if runtime is not None else state / "run"
        run, parent = _short_enough(run, uid, temporary)
        return cls(profile, config, state, recovery, run, parent)

    @property
    def identity_file(self) -> Path:
        """The secrets in use: operational and transport keys, the key-event log."""
        return self.state_dir / "identity"

    @property
    def recovery_file(self) -> Path:
        """The next root key. Nothing needs it day to day: the user should move it offline."""
        return self.recovery_dir / "next-root-key"

    @property
    def mailbox_file(self) -> Path:
        """The private halves of the mailbox keys."""
        return self.state_dir / "mailbox-keys"

    @property
    def database(self) -> Path:
        return self.state_dir / "covey.db"

    @property
    def generation_file(self) -> Path:
        """Rewritten at each start; tells a database restored from a backup, or a vanished one, from the right
        one."""
        return self.state_dir / "generation"

    @property
    def lock_file(self) -> Path:
        return self.state_dir / "lock"

    @property
    def log_file(self) -> Path:
        return self.state_dir / "daemon.log"

    @property
    def api_socket(self) -> Path:
        return self.run_dir / "api.sock"

    @property
    def stream_socket(self) -> Path:
        return self.run_dir / "stream.sock"

    @property
    def config_file(self) -> Path:
        return self.config_dir / "config.toml"


def check_profile(profile: str) -> str:
    """`profile` itself if it may name one, else `UsageError` ``bad-profile``: it becomes a directory's
    name."""
    if _PROFILE.fullmatch(profile) is None:
        raise UsageError(
            f"{profile!r} is not a profile: use 1 to 32 of a-z, 0-9, _ and -, not beginning with _ or -",
            code="bad-profile",
            next_step="choose another profile, for example: export COVEY_PROFILE=work",
        )
    return profile


def check_private(path: Path, *, mode: int, owner: int, uid: int) -> None:
    """Raise `StorageError` ``bad-permissions`` unless `path` is `uid`'s own and closed to everybody else.

    `mode` and `owner` are `st_mode` and `st_uid` of an **lstat** (a symbolic link is refused). Call it for
    `Home.run_parent` and `Home.run_dir` before connecting to a socket in them.
    """
    if stat.S_ISLNK(mode):
        raise StorageError(
            f"{path} is a symbolic link, which may lead anywhere",
            code="bad-permissions",
            next_step=f"look at it, then remove it: rm {path}",
        )
    if owner != uid:
        raise StorageError(
            f"{path} belongs to user {owner}, not to you ({uid})",
            code="bad-permissions",
            next_step=f"find out who made {path}, or set COVEY_HOME to a directory of your own",
        )
    if mode & 0o077:
        right = "700" if stat.S_ISDIR(mode) else "600"
        raise StorageError(
            f"{path} is open to other users (mode {stat.S_IMODE(mode):04o})",
            code="bad-permissions",
            next_step=f"chmod {right} {path}",
        )


def _absolute(text: str | None) -> Path | None:
    """The XDG specification: a relative path in one of its variables is to be ignored."""
    return Path(text) if text and text.startswith("/") else None


def _xdg(env: Mapping[str, str], variable: str, below_home: str) -> Path:
    given = _absolute(env.get(variable))
    if given is not None:
        return given
    home = _absolute(env.get("HOME"))
    if home is None:
        raise UsageError(
            f"neither HOME nor {variable} is set, so there is no place for Covey's files",
            code="no-home",
            next_step="export COVEY_HOME=/some/directory",
        )
    return home / below_home


def _short_enough(run: Path, uid: int, temporary: Path) -> tuple[Path, Path | None]:
    longest = "stream.sock"
    if len(str(run / longest).encode()) <= SOCKET_PATH_LIMIT:
        return run, None
    parent = temporary / f"covey-{uid}"
    short = parent / hashlib.sha256(str(run).encode()).hexdigest()[:12]
    if len(str(short / longest).encode()) > SOCKET_PATH_LIMIT:
        raise UsageError(
            f"the socket path {short / longest} is longer than {SOCKET_PATH_LIMIT} bytes",
            code="path-too-long",
            next_step="export XDG_RUNTIME_DIR or COVEY_HOME with a shorter path",
        )
    return short, parent
