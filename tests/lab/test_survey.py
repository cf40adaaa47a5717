"""What a survey finds in front of the real kernel's boxes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

from covey.lab import Lab, Machine

PROGRAM: Final = """
import asyncio, json, sys
from covey.base.types import parse_endpoint
from covey.net.real import RealHost
from covey.node.survey import Server, survey
from covey.wire.ticket import Ticket

entries = [entry for text in sys.argv[1:] for entry in Ticket.parse(text).entries]
servers = [Server(entry.identity, parse_endpoint(entry.endpoints[0])) for entry in entries]
found = asyncio.run(survey(RealHost(), servers, "0.0.0.0"))
traits = found.traits
print(json.dumps([traits.mapping.name, traits.filtering.name, traits.ports.name, traits.step, found.hairpin]))
"""
"""A survey without an identity and without a session, as `covey netcheck` makes one."""

CONE, HARD = "ENDPOINT_INDEPENDENT", "ADDRESS_AND_PORT_DEPENDENT"
KINDS: Final = {
    "none": ["NONE", "NONE", "PRESERVED", 0, None],
    "full-cone": [CONE, CONE, "PRESERVED", 0, False],
    "address-restricted": [CONE, "ADDRESS_DEPENDENT", "PRESERVED", 0, False],
    "port-restricted": [CONE, HARD, "PRESERVED", 0, False],
    "hairpin": [CONE, HARD, "PRESERVED", 0, True],
    "symmetric": [HARD, HARD, "RANDOM", 0, None],
    "sequential": [HARD, HARD, "SEQUENTIAL", 1, None],
}


def start_rendezvous(machine: Machine, home: Path) -> str:
    """Its ticket."""
    arguments = ("--json", "--home", str(home), "--listen", f"{machine.ip}:4040")
    started = machine.popen_python("covey.rendezvous", *arguments, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    with started.stdout:
        return str(json.loads(started.stdout.readline())["ticket"])


def test_two_rendezvous_show_the_kind_of_a_real_box(lab: Lab, tmp_path: Path) -> None:
    tickets = [start_rendezvous(lab.server(name), tmp_path / name) for name in ("r1", "r2")]
    machines = {kind: lab.agent(kind, nat=kind) for kind in KINDS}
    asking = {
        kind: machine.popen_python(PROGRAM, *tickets, stdout=subprocess.PIPE, text=True)
        for kind, machine in machines.items()
    }
    assert {kind: json.loads(each.communicate(timeout=60)[0]) for kind, each in asking.items()} == KINDS
