"""What a daemon is told to do: its options, its configuration file, its environment, in that order of
precedence.

`covey daemon start` passes `Options` as one JSON argument; `config.toml` and the environment are read here,
in the daemon's own process, so that a service manager that starts `python -m covey.daemon` gets the same
result. What is None in `Settings` is what the node remembers from its last run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from covey.base.errors import ParseError, UsageError
from covey.base.types import check_name, endpoint_text, parse_endpoint

__all__ = ["ConfigFile", "Options", "Settings", "parse_options", "read_config", "settings"]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The daemon's argument."""

    profile: str | None = None
    hostname: str | None = None
    network: str | None = None
    """A ticket."""
    listen: str | None = None
    """HOST:PORT of the UDP socket; port 0 picks one."""
    foreground: bool = False
    """Log to standard error and say on standard output when it is ready."""
    json: bool = False
    """Say it as JSON."""
    status_fd: int | None = None
    """An inherited pipe that gets one JSON line: `ready` or the error that prevented it."""


class ConfigFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`config.toml`. Every field may be absent."""

    hostname: str | None = None
    network: str | None = None
    listen: str | None = None
    log_level: str = "info"


class Settings(msgspec.Struct, frozen=True):
    """What the daemon runs with."""

    hostname: str | None
    network: str | None
    listen: str | None
    log_level: str


def parse_options(arguments: list[str]) -> Options:
    """The options from the process' arguments: none, or one JSON object."""
    if not arguments:
        return Options()
    if len(arguments) > 1:
        raise UsageError("the daemon takes one JSON argument", next_step="covey daemon start --help")
    try:
        return msgspec.json.decode(arguments[0], type=Options)
    except msgspec.DecodeError as error:
        raise UsageError(f"the daemon's argument: {error}", next_step="covey daemon start --help") from error


def read_config(path: Path) -> ConfigFile:
    """The configuration file; an absent one is empty. Raises `UsageError` `bad-config` that names file and
    place."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ConfigFile()
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_config(path, str(error)) from error
    try:
        config = msgspec.convert(tomllib.loads(text), ConfigFile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise _bad_config(path, str(error)) from error
    if config.log_level not in ("debug", "info", "warning", "error"):
        raise _bad_config(path, "`log_level` is debug, info, warning or error")
    return config


def settings(options: Options, config: ConfigFile, environment: Mapping[str, str]) -> Settings:
    """Flags before environment before file. Raises `UsageError` for a value that cannot be."""
    hostname = options.hostname or environment.get("COVEY_HOSTNAME") or config.hostname
    listen = options.listen or config.listen
    if hostname is not None:
        check_name(hostname)
    if listen is not None:
        try:
            listen = endpoint_text(parse_endpoint(listen))
        except ParseError as error:
            raise UsageError(
                f"listen: {error}", code="bad-listen", next_step="for example: covey up --listen 0.0.0.0:0"
            ) from error
    return Settings(
        hostname=hostname,
        network=options.network or environment.get("COVEY_NETWORK") or config.network,
        listen=listen,
        log_level=config.log_level,
    )


def _bad_config(path: Path, problem: str) -> UsageError:
    return UsageError(f"{path}: {problem}", code="bad-config", next_step=f"edit {path}")
