from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from covey.base.config import (
    CONFIG_LIMIT,
    NUMBERS,
    SETTINGS,
    ConfigFile,
    Value,
    bad_config,
    parse_config,
    resolve,
    unknown_variables,
)
from covey.base.errors import UsageError


def test_config_values_and_their_lines() -> None:
    raw = b'# mine\n\nlog_level = "debug"\n  "hostname"="aws"\n'
    assert parse_config(raw, "c.toml") == ConfigFile(
        {"log_level": "debug", "hostname": "aws"}, {"log_level": 3, "hostname": 4}
    )


@pytest.mark.parametrize(
    ("raw", "code", "what"),
    [
        (b"\nhostname = =", "not-toml", "c.toml:2: this is not TOML"),
        (b"hostname =", "not-toml", "c.toml: this is not TOML"),
        (b"\n\nhostname = '\xff'", "not-toml", "c.toml:3: this is not UTF-8"),
        (b"#" * (CONFIG_LIMIT + 1), "not-toml", "larger than"),
        (b"[" * 20_000, "not-toml", "this is not TOML"),
        (
            b"\nhostnam = 'hunter2'",
            "unknown-setting",
            "c.toml:2: there is no setting 'hostnam'; did you mean 'hostname'?",
        ),
        (b"psk = 'hunter2'", "unknown-setting", "c.toml:1: there is no setting 'psk'; there are hostname, network"),
        (b"a.b.c = 'hunter2'", "unknown-setting", "c.toml:1: there is no setting 'a'"),
        (b"\n[hostname]\nx = 'hunter2'", "bad-value", "c.toml:2: hostname is a text in quotes, not dict"),
        (b"hostname = 3", "bad-value", "c.toml:1: hostname is a text in quotes, not int"),
        (b"hostname = ''", "bad-value", "c.toml:1: hostname: "),
        (b"listen = 'everywhere'", "bad-value", "c.toml:1: listen: "),
        (b"keep_read_days = -1", "bad-value", "keep_read_days is a whole number from 0 to 36500"),
        (b"keep_read_days = true", "bad-value", "keep_read_days is a text in quotes, not bool"),
        (b"keep_read_messages = '9999999999999999999999'", "bad-value", "a whole number from 0 to 100000"),
        (b"port_mapping = false", "bad-value", "port_mapping is a text in quotes, not bool"),
        (b"port_mapping = 'perhaps'", "bad-value", "port_mapping is on or off"),
        (b"log_level = 'loud'", "bad-value", "c.toml:1: log_level: log_level is one of debug"),
    ],
)
def test_config_that_is_wrong_is_told_with_its_place(raw: bytes, code: str, what: str) -> None:
    config = parse_config(raw, "c.toml")
    (finding,) = config.findings
    assert (finding.code, finding.severity, finding.hint) == (code, "error", "edit c.toml")
    assert what in finding.what
    assert "hunter2" not in finding.what, "what users put into a wrong place is not repeated"
    problem = bad_config(config)
    assert problem is not None
    assert problem.code == "bad-config"


def test_config_tells_everything_at_once_and_keeps_what_is_good() -> None:
    config = parse_config(b"hostname = 'aws'\nx = 1\ny = 2\n", "c.toml")
    assert config.values == {"hostname": "aws"}
    assert [finding.code for finding in config.findings] == ["unknown-setting", "unknown-setting"]
    problem = bad_config(config)
    assert problem is not None
    assert problem.message.endswith("(and 1 more: covey config show)")


def test_empty_config_is_fine() -> None:
    assert parse_config(b"", "c.toml") == ConfigFile()
    assert bad_config(ConfigFile()) is None


def test_every_setting_resolves_from_each_of_its_places() -> None:
    good = {"hostname": "aws", "network": "covey1x", "listen": "127.0.0.1:1", "log_level": "error"}
    good |= {"congestion": "bbr", "port_mapping": "off", "keep_read_days": "0", "keep_read_messages": "7"}
    good |= {"birthday": "trusted", "relay": "trusted", "relay_rate": "125000"}
    good |= {"jurisdiction": "eu", "relay_jurisdictions": "eu,us-ca"}
    good |= {"addresses": "203.0.113.9:4040,2001:db8::9", "interconnects": "vpn-1=10.8.0.4,er=10.9.0.4:4040@20"}
    good |= {"paths": "* bulk interconnect; b direct-only"}
    lines = (f"{key} = {text}" if key in NUMBERS else f"{key} = '{text}'" for key, text in good.items())
    config = parse_config("\n".join(lines).encode(), "c.toml")
    for number, (key, variable, option, default) in enumerate(SETTINGS, 1):
        text = good[key]
        assert resolve({}, {}, ConfigFile(), "c.toml")[key] == Value(
            default, "remembered" if default is None else "default"
        )
        assert resolve({}, {variable: ""}, config, "c.toml")[key] == Value(text, "file", f"c.toml:{number}")
        assert resolve({}, {variable: text}, config, "c.toml")[key] == Value(text, "environment", variable)
        if option:
            assert resolve({key: text}, {variable: "x y"}, config, "c.toml")[key] == Value(text, "flag", option)


@pytest.mark.parametrize(
    ("variable", "code"),
    [
        ("COVEY_HOSTNAME", "bad-name"),
        ("COVEY_LISTEN", "bad-listen"),
        ("COVEY_LOG_LEVEL", "bad-log-level"),
        ("COVEY_CONGESTION", "bad-congestion"),
        ("COVEY_PORT_MAPPING", "bad-switch"),
        ("COVEY_KEEP_READ_DAYS", "bad-number"),
        ("COVEY_BIRTHDAY", "bad-birthday"),
        ("COVEY_RELAY", "bad-relay"),
        ("COVEY_RELAY_RATE", "bad-number"),
        ("COVEY_JURISDICTION", "bad-jurisdiction"),
        ("COVEY_RELAY_JURISDICTIONS", "bad-jurisdiction"),
        ("COVEY_ADDRESSES", "bad-addresses"),
        ("COVEY_INTERCONNECTS", "bad-interconnects"),
    ],
)
def test_variable_that_cannot_be_is_refused(variable: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve({}, {variable: "No Way"}, ConfigFile(), "c.toml")
    assert caught.value.code == code


def test_misspelt_variables_are_found() -> None:
    assert unknown_variables({"COVEY_HOSTNAM": "x", "COVEY_HOME": "/x", "HOME": "/x"}) == ["COVEY_HOSTNAM"]


@given(st.binary(max_size=300) | st.text("hostname=listen_log'\"[].#\n0123456789:", max_size=200).map(str.encode))
@example(b"listen = " + b"9" * 5000)
@example(b"a = " + b"{a = " * 2000)
def test_no_file_makes_the_reader_fail(raw: bytes) -> None:
    config = parse_config(raw, "c.toml")
    assert set(config.values) <= set(config.lines)
    assert all(finding.what and finding.hint for finding in config.findings)
