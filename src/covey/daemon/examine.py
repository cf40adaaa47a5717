"""`python -m covey.daemon.examine WHAT [OPTIONS-JSON]`: what the command line wants to know while no daemon runs.

Prints one JSON document, `{"ok": true, "data": ...}` or `{"ok": false, "status": N, "error": ErrorView}` with the
HTTP status that the local API would give this error. Changes nothing, and may run beside the daemon. Only what the
question needs is imported: somebody waits for the answer.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final

import msgspec

from covey.base.errors import UsageError
from covey.base.failures import error_status, error_view
from covey.base.paths import Home
from covey.base.schema import CheckView, FindingView, Items, KeysView, NetcheckView

__all__ = ["main"]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to look at."""

    profile: str | None = None


def main(arguments: list[str]) -> int:
    """Exit code 0 if there is an answer, also a bad one."""
    try:
        answer: dict[str, Any] = {"ok": True, "data": _answer(arguments)}
    except Exception as error:
        answer = {"ok": False, "status": error_status(error), "error": error_view(error)}
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    return 0 if answer["ok"] else 1


def _answer(arguments: list[str]) -> Any:
    what, *rest = arguments or [""]
    if what not in _ANSWERS or len(rest) > 1:
        raise UsageError(f"this looks at one of {', '.join(_ANSWERS)}")
    options = msgspec.json.decode(rest[0] if rest else "{}", type=Options)
    return _ANSWERS[what](Home.locate(options.profile, os.environ, uid=os.getuid()))


def _doctor(home: Home) -> Items[CheckView]:
    import asyncio

    from covey.daemon.doctor import Patient, examine
    from covey.net.real import RealHost

    host = RealHost()
    try:
        return Items(asyncio.run(examine(Patient(home, os.environ, host))))
    finally:
        host.close()


def _netcheck(home: Home) -> NetcheckView:
    import asyncio

    from covey.daemon.doctor import Patient, chosen_setting, chosen_ticket
    from covey.net.real import RealHost
    from covey.node.netcheck import measure
    from covey.node.prospects import netcheck_view

    host = RealHost()
    try:
        patient = Patient(home, os.environ, host)
        ticket, consents = chosen_ticket(patient), chosen_setting(patient, "birthday") == "trusted"
        return netcheck_view(asyncio.run(measure(host, ticket)), os.environ, consents=consents)
    finally:
        host.close()


def _keys(home: Home) -> KeysView:
    from covey.node.keys import load_keys

    return load_keys(home, time.time_ns() // 1000)


def _store(home: Home) -> Items[FindingView]:
    from covey.node.storage.check import check_store

    return Items(check_store(home, time.time_ns() // 1000))


_ANSWERS: Final = {"doctor": _doctor, "keys": _keys, "netcheck": _netcheck, "store": _store}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
