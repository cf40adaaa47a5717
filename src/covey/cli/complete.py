"""What the shell may offer for the word under the cursor: commands, options, and what the running daemon knows.

The scripts of `completion.py` run `covey` itself with `COVEY_COMPLETE=SHELL` in the environment and the words up to
the cursor as arguments; `answer` prints one candidate per line. It is called while somebody types, so it takes at
most `ASK_SECONDS` more than the program's start, and whatever goes wrong is silence: no error ever gets into a prompt.

Words that came from other agents become part of a command line here, so only those that mean nothing to a shell pass.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from covey.base.events import EVENTS
from covey.base.paths import Home
from covey.cli.client import check_run_directory

__all__ = ["ASK_SECONDS", "FILES", "VALUES", "VARIABLE", "answer", "candidates"]

VARIABLE: Final = "COVEY_COMPLETE"
"""Names the shell that asks."""

ASK_SECONDS: Final = 0.2
"""The daemon answers in this time, or what it knows is not offered."""

ANSWER_LIMIT: Final = 1 << 20
"""Bytes of an answer that are looked at."""

FILES: Final = ":files"
"""Said instead of candidates: the shell knows the files itself."""

SHELLS: Final = ("bash", "zsh", "fish")

_HARMLESS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:*-]{0,99}")
"""Candidates from elsewhere must be such words."""

Ask = Callable[[str], Any]
"""Gets a path of the local API, gives its decoded answer."""


def answer(arguments: Sequence[str], command: Any) -> None:
    """Print the candidates for the last of `arguments`, a beginning of a word. `command` is the parser."""
    try:
        *before, beginning = list(_joined(arguments)) or [""]
        for word in candidates(command, before, beginning, lambda path: _ask(_home(before), path)):
            print(word)
    except Exception:  # noqa: S110 - silence is the contract: nobody who types wants our errors
        pass


def candidates(command: Any, before: Sequence[str], beginning: str, ask: Ask) -> list[str]:
    """What may stand in place of `beginning` after the words `before`."""
    path, pending, option = "", 0, None
    literal = False
    for word in before:
        if option is not None:
            option = None
        elif word == "--":
            literal = True
        elif word.startswith("-") and not literal:
            option = _option(command, word)
        elif (inner := _subcommand(command, word)) is not None and not pending:
            command, path = inner, f"{path} {word}".strip()
        else:
            pending += 1
    if option is not None:
        return _matching(_values(option, path, ask), beginning)
    if beginning.startswith("-") and not literal:
        name, equals, value = beginning.partition("=")
        if equals:
            chosen = _option(command, name)
            found = [] if chosen is None else _matching(_values(chosen, path, ask), value)
            return [each if each == FILES else f"{name}={each}" for each in found]
        return _matching(_options(command), beginning)
    found = [] if pending else _matching(_subcommands(command), beginning)
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    if arguments and (pending < len(arguments) or arguments[-1].nargs == -1):
        found += _matching(_values(arguments[min(pending, len(arguments) - 1)], path, ask), beginning)
    return found


def _subcommands(command: Any) -> list[str]:
    if not hasattr(command, "list_commands"):
        return []
    return [name for name in command.list_commands(None) if not command.get_command(None, name).hidden]


def _subcommand(command: Any, name: str) -> Any:
    return command.get_command(None, name) if hasattr(command, "list_commands") else None


def _options(command: Any) -> list[str]:
    return ["--help", *(name for each in command.params for name in each.opts if name.startswith("--"))]


def _option(command: Any, name: str) -> Any:
    """The option of this name if it takes a value that is still to come."""
    for each in command.params:
        if each.param_type_name == "option" and name in each.opts and not each.is_flag:
            return each
    return None


def _matching(words: Iterable[str], beginning: str) -> list[str]:
    return [word for word in dict.fromkeys(words) if word == FILES or word.startswith(beginning)]


def _values(parameter: Any, path: str, ask: Ask) -> list[str]:
    """What a parameter of the command `path` may be."""
    choices = getattr(parameter.type, "choices", None)
    if choices:
        return [str(each) for each in choices]
    source = VALUES.get((path, parameter.name)) or VALUES.get(("", parameter.name))
    found = [] if source is None else source(ask)
    return [each for each in found if each == FILES or _HARMLESS.fullmatch(each)]


def _peers(ask: Ask) -> list[str]:
    """Names, and the addresses of those without one."""
    return _named(ask("/v1/peers")["items"])


def _trusted(ask: Ask) -> list[str]:
    return _named([each for each in ask("/v1/peers")["items"] if each["trust"] == "trusted"])


def _untrusted(ask: Ask) -> list[str]:
    return _named([each for each in ask("/v1/peers")["items"] if each["trust"] != "trusted"])


def _pending(ask: Ask) -> list[str]:
    return _named(ask("/v1/pending")["items"])


def _named(peers: list[dict[str, Any]]) -> list[str]:
    """A name that several have is no good: their identities are."""
    names = [each["name"] for each in peers]
    plain = [each["name"] for each in peers if each["name"] and names.count(each["name"]) == 1]
    other = [each["identity"] for each in peers if not each["name"] or names.count(each["name"]) > 1]
    return sorted(plain) + sorted(each["address"] for each in peers if each["address"]) + sorted(other)


def _unread(ask: Ask) -> list[str]:
    return [str(each["number"]) for each in ask("/v1/inbox?bodies=false")["items"]]


def _kept(ask: Ask) -> list[str]:
    return [str(each["number"]) for each in ask("/v1/inbox?bodies=false&all=true&limit=1000")["items"]]


def _profiles(ask: Ask) -> list[str]:
    """Those that have a state directory beside ours."""
    home = _home(())
    parent = home.state_dir.parent.parent if os.environ.get("COVEY_HOME") else home.state_dir.parent
    return sorted(path.name for path in parent.iterdir() if path.is_dir())


def _events(ask: Ask) -> list[str]:
    return [*EVENTS, *dict.fromkeys(f"{name.partition('.')[0]}.*" for name in EVENTS if "." in name)]


def _files(ask: Ask) -> list[str]:
    return [FILES]


VALUES: Final[dict[tuple[str, str], Callable[[Ask], list[str]]]] = {
    ("", "peer"): _peers,
    ("", "profile"): _profiles,
    ("approve", "peer"): _pending,
    ("reject", "peer"): _pending,
    ("handshake", "peer"): _untrusted,
    ("ping", "peer"): _trusted,
    ("send-message", "peer"): _trusted,
    ("untrust", "peer"): _trusted,
    ("inbox show", "number"): _kept,
    ("inbox ack", "numbers"): _unread,
    ("events", "type"): _events,
    ("completion install", "shell"): lambda ask: list(SHELLS),
    ("completion show", "shell"): lambda ask: list(SHELLS),
    ("send-message", "file"): _files,
    ("send-message", "lines"): _files,
    ("rendezvous", "home"): _files,
}
"""By command and parameter; "" stands for every command that is not named itself."""


def _joined(words: Sequence[str]) -> Iterator[str]:
    """bash takes `--type=json` apart at the equals sign."""
    parts = list(words)
    while parts:
        word = parts.pop(0)
        if word.startswith("--") and parts and parts[0] == "=":
            parts.pop(0)
            word += "=" + (parts.pop(0) if parts else "")
        yield word


def _home(before: Sequence[str]) -> Home:
    """That of the profile which the line names."""
    profile = None
    for index, word in enumerate(before):
        if word == "--profile" and index + 1 < len(before):
            profile = before[index + 1]
        elif word.startswith("--profile="):
            profile = word.partition("=")[2]
    return Home.locate(profile, os.environ, uid=os.getuid())


def _ask(home: Home, path: str) -> Any:
    """One request, all of it within `ASK_SECONDS`. Raises whatever goes wrong."""
    deadline = time.monotonic() + ASK_SECONDS
    check_run_directory(home)
    received = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ASK_SECONDS)
        connection.connect(os.fspath(home.api_socket))
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: covey\r\n\r\n".encode())
        while len(received) < ANSWER_LIMIT:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            piece = connection.recv(65_536)
            if not piece:
                break
            received += piece
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise ValueError("not an answer")
    return json.loads(body)
