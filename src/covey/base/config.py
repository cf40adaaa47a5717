"""The settings of an agent's daemon: their names, where each may be set, and the file in which users keep them.

Flags come before the environment, that before `config.toml`, that before what the daemon remembers and the defaults.
Both the daemon, which obeys, and `covey config show`, which explains, use this one table; reading the file is theirs.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

from covey.base.declared import declared_text, parse_addresses, parse_interconnects
from covey.base.errors import CoveyError, UsageError
from covey.base.path_rules import parse_path_rules
from covey.base.schema import FindingView
from covey.base.types import CongestionControl, check_name, endpoint_text, is_jurisdiction, parse_endpoint

__all__ = [
    "BIRTHDAY",
    "CONFIG_LIMIT",
    "CONGESTION",
    "LOG_LEVELS",
    "NUMBERS",
    "RELAY",
    "SETTINGS",
    "SWITCHES",
    "VARIABLES",
    "ConfigFile",
    "Origin",
    "Setting",
    "Value",
    "bad_config",
    "check_value",
    "jurisdictions",
    "parse_config",
    "resolve",
    "unknown_variables",
]

CONFIG_LIMIT: Final = 64 * 1024
"""Bytes of `config.toml`. Ours: a hundred times what it can sensibly hold."""

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

CONGESTION: Final[tuple[CongestionControl, ...]] = get_args(CongestionControl)
"""How fast to send: by losses, or by a model of the path."""

RELAY: Final = ("off", "trusted")
"""Whom to relay for."""

BIRTHDAY: Final = ("off", "trusted")
"""With whom to look for the ports of a hard NAT by trying many of them."""

Origin = Literal["flag", "environment", "file", "remembered", "default"]


class Setting(NamedTuple):
    """One setting: its key in `config.toml`, and its other names."""

    key: str
    variable: str
    option: str
    """"" if no option sets it."""
    default: str | None
    """None: what the daemon remembers from its last start."""


SETTINGS: Final = (
    Setting("hostname", "COVEY_HOSTNAME", "--hostname", None),
    Setting("network", "COVEY_NETWORK", "--network", None),
    Setting("listen", "COVEY_LISTEN", "--listen", "0.0.0.0:0"),
    Setting("log_level", "COVEY_LOG_LEVEL", "", "info"),
    Setting("congestion", "COVEY_CONGESTION", "", "cubic"),
    Setting("port_mapping", "COVEY_PORT_MAPPING", "", "on"),
    Setting("keep_read_days", "COVEY_KEEP_READ_DAYS", "", "30"),
    Setting("keep_read_messages", "COVEY_KEEP_READ_MESSAGES", "", "10000"),
    Setting("birthday", "COVEY_BIRTHDAY", "", "off"),
    Setting("relay", "COVEY_RELAY", "", "off"),
    Setting("relay_rate", "COVEY_RELAY_RATE", "", "0"),
    Setting("jurisdiction", "COVEY_JURISDICTION", "", ""),
    Setting("relay_jurisdictions", "COVEY_RELAY_JURISDICTIONS", "", ""),
    Setting("addresses", "COVEY_ADDRESSES", "", ""),
    Setting("interconnects", "COVEY_INTERCONNECTS", "", ""),
    Setting("paths", "COVEY_PATHS", "", ""),
)

VARIABLES: Final = frozenset(
    {"COVEY_HOME", "COVEY_PROFILE", "COVEY_DEBUG", "COVEY_COMPLETE", *(setting.variable for setting in SETTINGS)}
)
"""The variables of the environment that mean something to Covey."""

SWITCHES: Final = frozenset({"port_mapping"})
"""The settings that are `on` or `off`."""

NUMBERS: Final = {"keep_read_days": 36_500, "keep_read_messages": 100_000, "relay_rate": 99_999_999_999}
"""The settings that are whole numbers from 0, with the highest."""

_KEYS: Final = {setting.key: setting for setting in SETTINGS}


class ConfigFile(NamedTuple):
    """What `config.toml` says: the good values, the line of each, and what is wrong with the rest."""

    values: Mapping[str, str] = {}
    lines: Mapping[str, int] = {}
    findings: tuple[FindingView, ...] = ()


class Value(NamedTuple):
    """What a setting is, and why."""

    text: str | None
    """None: what the daemon remembers, or makes up."""
    origin: Origin
    where: str = ""
    """The option, the variable, or `PATH:LINE`."""


def parse_config(raw: bytes, path: str) -> ConfigFile:
    """The file's content, judged. Nothing that is in it is repeated, but the names of its settings: people put
    secrets into wrong files."""
    if len(raw) > CONFIG_LIMIT:
        return _refused(f"{path} is larger than {CONFIG_LIMIT} bytes", path)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        return _refused(f"{path}:{line}: this is not UTF-8 text", path)
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also what tomllib lets through, as of a number of 5000 digits
        match = re.search(r"at line (\d+)", str(error))
        place = f"{path}:{match[1]}" if match else path
        return _refused(f"{place}: this is not TOML: {error}", path)
    lines = {key: _line_of(key, text) for key in found}
    values: dict[str, str] = {}
    findings: list[FindingView] = []
    for key, value in found.items():
        problem = _problem(key, value)
        if problem is None:
            values[key] = str(value)
        else:
            code, what = problem
            findings.append(FindingView(code, "error", f"{path}:{lines[key]}: {what}", f"edit {path}"))
    return ConfigFile(values, lines, tuple(findings))


def bad_config(config: ConfigFile) -> UsageError | None:
    """The error that keeps a daemon with this file from starting, if there is one."""
    if not config.findings:
        return None
    first, *others = config.findings
    more = f" (and {len(others)} more: covey config show)" if others else ""
    return UsageError(first.what + more, code="bad-config", next_step=first.hint)


def check_value(key: str, text: str) -> str:
    """The value in its usual form. UsageError (`bad-name`, `bad-listen`, `bad-log-level`, `bad-congestion`,
    `bad-number`, `bad-switch`, `bad-birthday`, `bad-relay`, `bad-jurisdiction`, `bad-addresses`,
    `bad-interconnects`, `bad-paths`)."""
    if key == "hostname":
        return check_name(text)
    if key == "listen":
        try:
            return endpoint_text(parse_endpoint(text))
        except CoveyError as error:
            raise UsageError(
                f"listen: {error}", code="bad-listen", next_step="for example: covey up --listen 0.0.0.0:0"
            ) from error
    if key == "log_level" and text not in LOG_LEVELS:
        raise UsageError(
            f"log_level is one of {', '.join(LOG_LEVELS)}", code="bad-log-level", next_step="covey config show"
        )
    if key == "congestion" and text not in CONGESTION:
        raise UsageError(
            f"congestion is one of {', '.join(CONGESTION)}", code="bad-congestion", next_step="covey config show"
        )
    if key == "birthday" and text not in BIRTHDAY:
        raise UsageError(
            f"birthday is one of {', '.join(BIRTHDAY)}", code="bad-birthday", next_step="covey config show"
        )
    if key == "relay" and text not in RELAY:
        raise UsageError(f"relay is one of {', '.join(RELAY)}", code="bad-relay", next_step="covey config show")
    if key in ("jurisdiction", "relay_jurisdictions"):
        words = jurisdictions(text)
        if not all(map(is_jurisdiction, words)) or (key == "jurisdiction" and len(words) > 1):
            raise UsageError(
                f"{key} is made of words as eu, de or us-ca: up to 32 of a-z 0-9 -",
                code="bad-jurisdiction",
                next_step="covey config show",
            )
        return ",".join(words)
    if key == "addresses":
        return declared_text(parse_addresses(text))
    if key == "paths":
        parse_path_rules(text)
    if key == "interconnects":
        return declared_text(parse_interconnects(text))
    if key in SWITCHES and text not in ("on", "off"):
        raise UsageError(f"{key} is on or off", code="bad-switch", next_step="covey config show")
    if key in NUMBERS and not (text.isascii() and text.isdigit() and int(text[:12]) <= NUMBERS[key]):
        raise UsageError(
            f"{key} is a whole number from 0 to {NUMBERS[key]}", code="bad-number", next_step="covey config show"
        )
    return text


def jurisdictions(text: str) -> tuple[str, ...]:
    """The words of `relay_jurisdictions`, as they are separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def resolve(
    flags: Mapping[str, str | None], environment: Mapping[str, str], config: ConfigFile, path: str
) -> dict[str, Value]:
    """What each setting is. An empty variable is one that is not set. UsageError for a value that cannot be."""
    found: dict[str, Value] = {}
    for key, variable, option, default in SETTINGS:
        flag, given, written = flags.get(key), environment.get(variable), config.values.get(key)
        if flag:
            value = Value(check_value(key, flag), "flag", option)
        elif given:
            value = Value(check_value(key, given), "environment", variable)
        elif written:
            value = Value(check_value(key, written), "file", f"{path}:{config.lines[key]}")
        elif default is None:
            value = Value(None, "remembered")
        else:
            value = Value(default, "default")
        found[key] = value
    return found


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Names of variables that look like ours and mean nothing: probably misspelt."""
    return sorted(name for name in environment if name.startswith("COVEY_") and name not in VARIABLES)


def _problem(key: str, value: Any) -> tuple[str, str] | None:
    """A code and what is wrong with one entry of the file, if anything is."""
    if key not in _KEYS:
        from difflib import get_close_matches

        near = get_close_matches(key, _KEYS, 1)
        meant = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(_KEYS)}"
        return "unknown-setting", f"there is no setting {key!r}{meant}"
    if key in NUMBERS and type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        return "bad-value", f"{key} is a text in quotes, not {type(value).__name__}"
    try:
        check_value(key, value)
    except CoveyError as error:
        return "bad-value", f"{key}: {error.message}"
    return None


def _line_of(key: str, text: str) -> int:
    """The line where a top-level key is set, from 1: the first that looks so."""
    pattern = re.compile(rf"^\s*\[*\s*[\"']?{re.escape(key)}[\"']?\s*[=.\]]")
    lines = text.splitlines()
    return next((number for number, line in enumerate(lines, 1) if pattern.match(line)), 1)


def _refused(what: str, path: str) -> ConfigFile:
    return ConfigFile(findings=(FindingView("not-toml", "error", what, f"edit {path}"),))
