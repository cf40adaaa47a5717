"""`completion`: scripts by which bash, zsh and fish complete `covey`. What they offer is made in `complete.py`."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from covey.base.errors import StorageError, UsageError
from covey.cli import render
from covey.cli.command import Call, Outcome, command, group

__all__ = ["SCRIPTS", "register"]

MARK = "made by `covey completion`"
"""In every script, so that we replace our own files and no other."""

SCRIPTS = {
    "bash": f"""\
# bash completion of covey, {MARK}
_covey() {{
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == :files ]]; then compopt -o default 2>/dev/null; else COMPREPLY+=("$line"); fi
    done < <(COVEY_COMPLETE=bash "$1" "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null)
    if [[ ${{COMP_WORDS[COMP_CWORD]}} == "=" || ${{COMP_WORDS[COMP_CWORD-1]}} == "=" ]]; then
        COMPREPLY=("${{COMPREPLY[@]#*=}}")
    fi
}}
complete -o nosort -F _covey covey
""",
    "zsh": f"""\
#compdef covey
# zsh completion of covey, {MARK}
_covey() {{
    local -a found
    found=("${{(@f)$(COVEY_COMPLETE=zsh "$words[1]" "${{(@)words[2,$CURRENT]}}" 2>/dev/null)}}")
    if [[ $found[1] == :files ]]; then
        _files
    elif [[ -n $found[1] ]]; then
        compadd -a found
    fi
}}
if [[ $funcstack[1] == _covey ]]; then _covey "$@"; else compdef _covey covey; fi
""",
    "fish": f"""\
# fish completion of covey, {MARK}
function __covey_complete
    set -l before (commandline -opc)
    set -l found (COVEY_COMPLETE=fish $before[1] $before[2..-1] (commandline -ct) 2>/dev/null)
    if test "$found[1]" = ":files"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c covey -f -a '(__covey_complete)'
""",
}

Shell = Literal["bash", "zsh", "fish"]

ShellArgument = Annotated[
    Shell | None,
    typer.Argument(
        metavar="[SHELL]", help="bash, zsh or fish; by default the one that $SHELL names.", show_default=False
    ),
]


class Installed(msgspec.Struct, frozen=True):
    """What `completion install` prints as data."""

    shell: str
    file: str


def register(app: typer.Typer) -> None:
    completion = typer.Typer(help="Let the shell complete commands, options and peers.", rich_markup_mode=None)
    group(completion)(choose)
    command(completion, "install")(install)
    command(completion, "show")(show)
    app.add_typer(completion, name="completion")


def choose(call: Call) -> Outcome:
    """Let the shell complete commands, options and peers."""
    raise UsageError("say what to do about completion", next_step="covey completion install")


def show(call: Call, shell: ShellArgument = None) -> Outcome:
    """Print the script.

    For the shell to read: source <(covey completion show bash).
    """
    chosen = _chosen(shell)
    script = SCRIPTS[chosen]
    return Outcome({"shell": chosen, "script": script}, partial(render.line, script.rstrip("\n")))


def install(call: Call, shell: ShellArgument = None) -> Outcome:
    """Put the script where new shells of this user find it.

    Commands, options, peers, requests and messages are then completed with TAB, from what the daemon knows; without
    a daemon, commands and options alone.
    """
    chosen = _chosen(shell)
    path = _place(chosen)
    _write(path, SCRIPTS[chosen])
    return Outcome(Installed(chosen, os.fspath(path)), partial(render.line, f"wrote {path}"), _after(chosen, path))


def _chosen(shell: Shell | None) -> Shell:
    name = shell or Path(os.environ.get("SHELL", "")).name
    for each in ("bash", "zsh", "fish"):
        if name == each:
            return each
    raise UsageError(
        f"$SHELL names {name or 'nothing'}, for which there is no completion",
        code="unknown-shell",
        next_step="covey completion install bash",
    )


def _place(shell: Shell) -> Path:
    """Where the shell looks by itself, or is told to look by `_after`."""
    home = os.environ.get("HOME")
    if not home:
        raise UsageError("HOME is not set", code="no-home", next_step="covey completion show bash > FILE")
    data = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    return {
        "bash": Path(data, "bash-completion", "completions", "covey"),
        "zsh": Path(data, "zsh", "site-functions", "_covey"),
        "fish": Path(config, "fish", "completions", "covey.fish"),
    }[shell]


def _after(shell: Shell, path: Path) -> str:
    if shell == "bash":
        return f"open a new shell; without the package bash-completion: echo 'source {path}' >> ~/.bashrc"
    if shell == "zsh":
        return f"once, before compinit in ~/.zshrc: fpath=({path.parent} $fpath)"
    return "open a new shell"


def _write(path: Path, script: str) -> None:
    """Put it there whole; only what we wrote ourselves is replaced."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and MARK not in path.read_text(errors="replace"):
            raise UsageError(
                f"{path} is there already and not ours", code="file-exists", next_step=f"look at it: less {path}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(script)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
