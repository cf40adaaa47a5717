"""What a daemon is told to do: its options, its configuration file, its environment, in that order of
precedence.

`covey daemon start` passes `Options` as one JSON argument; `config.toml` and the environment are read here,
in the daemon's own process, so that a service manager that starts `python -m covey.daemon` gets the same
result. What is None in `Settings` is what the node remembers from its last run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from covey.base.config import (
    CONFIG_LIMIT,
    CONGESTION,
    ConfigFile,
    Value,
    bad_config,
    jurisdictions,
    parse_config,
    resolve,
)
from covey.base.declared import Declared, parse_addresses, parse_interconnects
from covey.base.errors import UsageError
from covey.base.path_rules import PathRules, parse_path_rules
from covey.base.types import CongestionControl
from covey.node.relays import RelayPolicy
from covey.node.storage import Retention

__all__ = ["Options", "Settings", "parse_options", "read_config", "settings"]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The daemon's argument."""

    profile: str | None = None
    hostname: str | None = None
    network: str | None = None
    """A ticket."""
    listen: str | None = None
    """HOST:PORT of the UDP socket; port 0 picks one."""
    trust_clock: bool = False
    """The machine's clock is right, whatever an earlier run was certain of."""
    foreground: bool = False
    """Log to standard error and say on standard output when it is ready."""
    json: bool = False
    """Say it as JSON."""
    status_fd: int | None = None
    """An inherited pipe that gets one JSON line: `ready` or the error that prevented it."""


class Settings(msgspec.Struct, frozen=True):
    """What the daemon runs with."""

    hostname: str | None
    network: str | None
    listen: str | None
    log_level: str
    retention: Retention
    congestion: CongestionControl = "cubic"
    relaying: RelayPolicy = RelayPolicy()
    port_mapping: bool = True
    declared: tuple[Declared, ...] = ()
    """Ways to this agent that nobody could measure."""
    path_rules: PathRules = {}
    """Which ways to which peer are used."""
    birthday: bool = False
    """Trusted peers may look for our port by trying many, and we for theirs."""
    values: dict[str, Value] = {}
    """Each of them with its origin."""
    trust_clock: bool = False


def parse_options(arguments: list[str]) -> Options:
    """The options from the process' arguments: none, or one JSON object."""
    if not arguments:
        return Options()
    if len(arguments) > 1:
        raise UsageError("the daemon takes one JSON argument", next_step="covey daemon start --help")
    try:
        return msgspec.json.decode(arguments[0], type=Options)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:  # the latter: bytes of argv that are no text
        raise UsageError(f"the daemon's argument: {error}", next_step="covey daemon start --help") from error


def read_config(path: Path) -> ConfigFile:
    """The configuration file; an absent one is empty. Raises `UsageError` `bad-config` that names file and
    place."""
    try:
        with path.open("rb") as file:
            config = parse_config(file.read(CONFIG_LIMIT + 1), str(path))
    except FileNotFoundError:
        return ConfigFile()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}", code="bad-config", next_step=f"ls -ld {path}"
        ) from error
    problem = bad_config(config)
    if problem is not None:
        raise problem
    return config


def settings(options: Options, config: ConfigFile, environment: Mapping[str, str], path: str = "") -> Settings:
    """Flags before environment before file, which is at `path`. Raises `UsageError` for a value that cannot be."""
    flags = {"hostname": options.hostname, "network": options.network, "listen": options.listen}
    values = resolve(flags, environment, config, path)
    return Settings(
        hostname=values["hostname"].text,
        network=values["network"].text,
        listen=values["listen"].text if values["listen"].origin != "default" else None,
        log_level=values["log_level"].text or "info",
        retention=Retention(
            read_days=int(values["keep_read_days"].text or 0),
            read_messages=int(values["keep_read_messages"].text or 0),
        ),
        congestion=next(each for each in CONGESTION if each == values["congestion"].text),
        birthday=values["birthday"].text == "trusted",
        relaying=RelayPolicy(
            serves="trusted" if values["relay"].text == "trusted" else "off",
            rate=int(values["relay_rate"].text or 0),
            jurisdiction=values["jurisdiction"].text or "",
            jurisdictions=frozenset(jurisdictions(values["relay_jurisdictions"].text or "")),
        ),
        port_mapping=values["port_mapping"].text == "on",
        declared=(
            *parse_addresses(values["addresses"].text or ""),
            *parse_interconnects(values["interconnects"].text or ""),
        ),
        path_rules=parse_path_rules(values["paths"].text or ""),
        values=values,
        trust_clock=options.trust_clock,
    )
