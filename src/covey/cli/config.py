"""`config`: what this agent's settings are and where each comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from covey.base.config import (
    CONFIG_LIMIT,
    SETTINGS,
    ConfigFile,
    Value,
    bad_config,
    parse_config,
    resolve,
    unknown_variables,
)
from covey.base.errors import CoveyError, UsageError
from covey.base.paths import Home
from covey.base.schema import FindingView, Items, SettingView
from covey.cli import render
from covey.cli.command import Call, Outcome, command, group

__all__ = ["ConfigView", "register", "show"]


class ConfigView(msgspec.Struct, frozen=True):
    """What `config show` prints as data."""

    file: str
    exists: bool
    running: bool
    """The values are those of the daemon that runs; otherwise those it would start with."""
    settings: list[SettingView]
    places: list[SettingView]
    """The profile and its directories."""
    findings: list[FindingView]


def register(app: typer.Typer) -> None:
    config = typer.Typer(help="Show this agent's settings.", rich_markup_mode=None)
    group(config)(choose)
    command(config, "show")(show)
    app.add_typer(config, name="config")


def choose(call: Call) -> Outcome:
    """Show this agent's settings."""
    raise UsageError("say what to do with the settings", next_step="covey config show --origin")


def show(
    call: Call,
    origin: Annotated[bool, typer.Option("--origin", help="Also say where each value comes from.")] = False,
) -> Outcome:
    """Show every setting in force.

    Options come before environment, that before config.toml, that before what the daemon remembers. If a daemon
    runs, its values are shown; what it would start with the next time is told where it differs.
    """
    home, environment = call.home, os.environ
    path = os.fspath(home.config_file)
    raw = _read(home.config_file)
    config = ConfigFile() if raw is None else parse_config(raw, path)
    findings = [*config.findings, *map(_unknown, unknown_variables(environment))]
    problem: CoveyError | None = bad_config(config)
    values: Mapping[str, Value] = {}
    try:
        values = resolve({}, environment, config, path)
    except UsageError as error:
        findings.append(FindingView(error.code, "error", error.message, "correct the environment"))
        problem = problem or error
    running = _running(call)
    if running is not None:
        findings += _changes(running, values)
    settings = running or [_setting(key, value) for key, value in values.items()]
    view = ConfigView(path, raw is not None, running is not None, settings, _places(call, home, environment), findings)
    return Outcome(view, partial(_show, view, origin=origin), error=problem)


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(CONFIG_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}", code="bad-config", next_step=f"ls -ld {path}"
        ) from error


def _running(call: Call) -> list[SettingView] | None:
    """The settings of the daemon of this profile, if one runs."""
    try:
        with call.client() as client:
            return client.get("/v1/config", Items[SettingView]).items
    except CoveyError as error:
        if error.code == "not-running":
            return None
        raise


def _setting(key: str, value: Value) -> SettingView:
    return SettingView(key, value.text or "", value.origin, value.where)


def _unknown(variable: str) -> FindingView:
    return FindingView("unknown-variable", "warning", f"{variable} means nothing to Covey", f"unset {variable}")


def _changes(running: list[SettingView], values: Mapping[str, Value]) -> list[FindingView]:
    """Where the next start would take another value than the one in force. A flag is not expected to be repeated."""
    found = []
    for setting in running:
        then = values.get(setting.key)
        if then is None or then.origin in ("remembered", "default") or then.text == setting.value:
            continue
        found.append(
            FindingView(
                "takes-a-restart",
                "note",
                f"{setting.key} will be {then.text} ({then.where}) from the next start on",
                "covey daemon stop && covey up",
            )
        )
    return found


def _places(call: Call, home: Home, environment: Mapping[str, str]) -> list[SettingView]:
    """The profile and where its files are, which choose what the rest is about."""
    if call.profile is not None:
        profile = SettingView("profile", home.profile, "flag", "--profile")
    elif environment.get("COVEY_PROFILE"):
        profile = SettingView("profile", home.profile, "environment", "COVEY_PROFILE")
    else:
        profile = SettingView("profile", home.profile, "default")
    places = [profile]
    for key, directory, variable in (
        ("config", home.config_dir, "XDG_CONFIG_HOME"),
        ("state", home.state_dir, "XDG_STATE_HOME"),
        ("recovery", home.recovery_dir, "XDG_DATA_HOME"),
        ("run", home.run_dir, "XDG_RUNTIME_DIR"),
    ):
        source = "COVEY_HOME" if environment.get("COVEY_HOME") else variable
        if environment.get(source, "").startswith("/"):
            places.append(SettingView(key, os.fspath(directory), "environment", source))
        else:
            places.append(SettingView(key, os.fspath(directory), "default"))
    return places


def _show(view: ConfigView, *, origin: bool) -> None:
    rows = [(each.key, each.value or _unset(each, view), _origin(each)) for each in (*view.places, *view.settings)]
    headers = ("SETTING", "VALUE", "ORIGIN") if origin else ("SETTING", "VALUE")
    render.table(headers, [tuple(map(render.safe, row[: len(headers)])) for row in rows], empty="")
    render.findings(view.findings)
    if not view.exists:
        render.note(f"there is no {view.file}; it may set {', '.join(setting.key for setting in SETTINGS)}")


def _unset(setting: SettingView, view: ConfigView) -> str:
    if setting.origin != "remembered" or (setting.key == "network" and view.running):
        return "(none)"
    return "(what the daemon remembers)"


def _origin(setting: SettingView) -> str:
    return f"{setting.origin}: {setting.where}" if setting.where else setting.origin
