from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from covey.base.config import ConfigFile
from covey.base.declared import Declared
from covey.base.errors import UsageError
from covey.daemon.options import Options, parse_options, read_config, settings
from covey.node.relays import RelayPolicy


def test_options_of_no_argument_are_the_defaults() -> None:
    assert parse_options([]) == Options()


def test_options_round_trip() -> None:
    options = Options(profile="p", hostname="h", network="covey1x", listen="[::]:0", status_fd=5)
    assert parse_options([msgspec.json.encode(options).decode()]) == options


@pytest.mark.parametrize(
    "arguments", [["{"], ['{"hostnam": "x"}'], ['{"hostname": 3}'], ["{}", "{}"], ["--help"], ["\udcff"]]
)
def test_options_refuse(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_options(arguments)


FLAG = Options(hostname="flag", network="covey1flag", listen="127.0.0.1:1")
ENVIRONMENT = {"COVEY_HOSTNAME": "environment", "COVEY_NETWORK": "covey1environment"}
FILE = ConfigFile(
    {"hostname": "file", "network": "covey1file", "listen": "127.0.0.1:3"}, {"hostname": 1, "network": 2, "listen": 3}
)


@pytest.mark.parametrize(
    ("options", "environment", "config", "hostname", "network", "listen"),
    [
        (FLAG, ENVIRONMENT, FILE, "flag", "covey1flag", "127.0.0.1:1"),
        (Options(), ENVIRONMENT, FILE, "environment", "covey1environment", "127.0.0.1:3"),
        (Options(), {}, FILE, "file", "covey1file", "127.0.0.1:3"),
        (Options(), {"COVEY_HOSTNAME": ""}, FILE, "file", "covey1file", "127.0.0.1:3"),
        (Options(), {}, ConfigFile(), None, None, None),
    ],
    ids=["flags-first", "then-environment", "then-file", "empty-is-unset", "else-remembered"],
)
def test_settings_precedence(
    options: Options,
    environment: dict[str, str],
    config: ConfigFile,
    hostname: str | None,
    network: str | None,
    listen: str | None,
) -> None:
    chosen = settings(options, config, environment)
    assert (chosen.hostname, chosen.network, chosen.listen) == (hostname, network, listen)


@pytest.mark.parametrize(
    ("options", "code"),
    [(Options(hostname="Bad Name"), "bad-name"), (Options(listen="everywhere"), "bad-listen")],
)
def test_settings_refuse_what_cannot_be(options: Options, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(options, ConfigFile(), {})
    assert caught.value.code == code


def test_config_that_is_absent_is_empty(tmp_path: Path) -> None:
    assert read_config(tmp_path / "config.toml") == ConfigFile()


def test_config_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('hostname = "aws"\nlog_level = "debug"\n')
    assert read_config(path) == ConfigFile({"hostname": "aws", "log_level": "debug"}, {"hostname": 1, "log_level": 2})


@pytest.mark.parametrize(
    "text",
    [b"hostname =", b"hostnam = 'x'", b"hostname = 3", b"log_level = 'loud'", b"hostname = '\xff'", b"#" * 70_000],
    ids=["not-toml", "unknown-key", "wrong-type", "unknown-level", "not-utf8", "too-large"],
)
def test_config_error_names_the_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text)
    with pytest.raises(UsageError) as caught:
        read_config(path)
    assert caught.value.code == "bad-config"
    assert str(path) in caught.value.message


def test_config_that_cannot_be_read_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_config(tmp_path)
    assert caught.value.code == "bad-config"


def test_settings_know_where_each_value_comes_from() -> None:
    chosen = settings(Options(listen="127.0.0.1:1"), FILE, {"COVEY_NETWORK": "covey1x"}, "/c.toml")
    assert {key: (value.origin, value.where) for key, value in chosen.values.items()} == {
        "hostname": ("file", "/c.toml:1"),
        "network": ("environment", "COVEY_NETWORK"),
        "listen": ("flag", "--listen"),
        "log_level": ("default", ""),
        "congestion": ("default", ""),
        "port_mapping": ("default", ""),
        "keep_read_days": ("default", ""),
        "keep_read_messages": ("default", ""),
        "birthday": ("default", ""),
        "relay": ("default", ""),
        "relay_rate": ("default", ""),
        "jurisdiction": ("default", ""),
        "relay_jurisdictions": ("default", ""),
        "addresses": ("default", ""),
        "interconnects": ("default", ""),
        "paths": ("default", ""),
    }


def test_what_the_operator_declares_is_parsed_once() -> None:
    chosen = settings(
        Options(), ConfigFile(), {"COVEY_ADDRESSES": "203.0.113.9", "COVEY_INTERCONNECTS": "er=10.0.0.4@20"}
    )
    assert chosen.declared == (Declared("203.0.113.9", 0), Declared("10.0.0.4", 0, "er", 20))


def test_birthday_probing_is_off_unless_it_is_wanted() -> None:
    assert not settings(Options(), ConfigFile(), {}).birthday
    assert settings(Options(), ConfigFile(), {"COVEY_BIRTHDAY": "trusted"}).birthday


def test_settings_say_what_to_do_about_relays() -> None:
    assert settings(Options(), ConfigFile(), {}).relaying == RelayPolicy()
    environment = {"COVEY_RELAY": "trusted", "COVEY_RELAY_RATE": "125000", "COVEY_JURISDICTION": "de"}
    environment["COVEY_RELAY_JURISDICTIONS"] = "de, ch"
    expected = RelayPolicy("trusted", 125_000, "de", frozenset({"de", "ch"}))
    assert settings(Options(), ConfigFile(), environment).relaying == expected


def test_settings_may_forbid_port_mapping() -> None:
    assert settings(Options(), ConfigFile(), {}).port_mapping
    assert not settings(Options(), ConfigFile(), {"COVEY_PORT_MAPPING": "off"}).port_mapping


def test_settings_name_the_congestion_control() -> None:
    assert settings(Options(), ConfigFile(), {}).congestion == "cubic"
    assert settings(Options(), ConfigFile(), {"COVEY_CONGESTION": "bbr"}).congestion == "bbr"
