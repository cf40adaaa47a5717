"""What a rendezvous says to whoever started it: the ticket, or why there is none.

Standard output gets one line, in both modes: the ticket and nothing else, or with `--json`
`{"schema":1,"event":"serving","ticket":...,"identity":...,"listen":[...],"endpoints":[...]}`. An error is two
lines on standard error, `error: ... (code)` and `next: ...`, or with `--json` the CLI's
`{"schema":1,"ok":false,"error":{...}}` on standard output.
"""

from __future__ import annotations

import contextlib
import ipaddress
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from covey.base.errors import CoveyError, ParseError
from covey.base.schema import SCHEMA_VERSION, ErrorView
from covey.base.types import Endpoint, endpoint_text, identity_text, parse_endpoint
from covey.wire.ticket import Ticket

__all__ = ["failed", "serving"]


def serving(own: Ticket, network: Ticket, listening: Endpoint, *, json: bool) -> None:
    """It serves. `own` names this rendezvous, `network` all of them. The explanations for people go to standard error,
    so that `$(...)` gets the ticket."""
    (entry,) = own.entries
    identity, listen = identity_text(entry.identity), endpoint_text(listening)
    if json:
        _say_json(
            event="serving",
            ticket=str(network),
            identity=identity,
            listen=[listen],
            endpoints=list(entry.endpoints),
            rendezvous=len(network.entries),
        )
        return
    _say(str(network), sys.stdout)
    _say(f"rendezvous is up  listening {listen}  identity {identity}", sys.stderr)
    warning = reach(entry.endpoints)
    if warning:
        _say(f"note: {warning}", sys.stderr)
    if len(network.entries) > 1:
        _say(
            f"note: the ticket names {len(network.entries)} rendezvous: it is the one for every agent",
            sys.stderr,
        )
    _say(f"next: on each machine: covey up --network {network}", sys.stderr)


def failed(error: CoveyError, *, json: bool) -> None:
    """It could not start."""
    if json:
        _say_json(ok=False, error=ErrorView(error.code, error.message, error.next_step))
        return
    _say(f"error: {error.message} ({error.code})", sys.stderr)
    if error.next_step:
        _say(f"next: {error.next_step}", sys.stderr)


def reach(endpoints: Sequence[str]) -> str:
    """Who cannot follow the ticket, in words; "" if there is nothing to say."""
    scopes = [_scope(endpoint) for endpoint in endpoints]
    if "everywhere" in scopes:
        return ""
    where = "this network" if "network" in scopes else "this machine"
    return f"only agents on {where} can follow this ticket; for others: --advertise HOST:PORT, as they see it"


def _scope(endpoint: str) -> str:
    try:
        address = ipaddress.ip_address(parse_endpoint(endpoint)[0].partition("%")[0])
    except (ParseError, ValueError):
        return "everywhere"  # a host name: whoever gave it knows
    if address.is_loopback:
        return "machine"
    return "network" if address.is_private else "everywhere"


def _say_json(**fields: Any) -> None:
    _say(msgspec.json.encode({"schema": SCHEMA_VERSION, **fields}).decode(), sys.stdout)


def _say(line: str, stream: Any) -> None:
    with contextlib.suppress(OSError):  # nobody reads it; the rendezvous does not depend on that
        print(line, file=stream, flush=True)
