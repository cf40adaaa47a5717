"""Port mapping against miniupnpd, which is what many home routers run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from covey.lab import Kind, Lab, Machine, rules, services
from tests.lab.sockets import is_lost, passes, udp

PORT: Final = 4242
PROGRAM: Final = str(Path(__file__).parent / "mapper.py")
BEFORE: Final = "table inet deaf { chain input { type filter hook input priority -300; iifname lan %s drop; }; }"
WITHOUT: Final = {
    "pcp": "",
    "nat-pmp": "udp dport 5351 @th,64,8 2",
    "upnp": "udp dport 5351",
}
"""What the router must be deaf to, so that this method is the best."""


class Mapper:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def says(self) -> list[Any]:
        """The next change of how it stands with the ports: (method, external endpoint, problem) of each."""
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())  # type: ignore[no-any-return]

    def end(self) -> None:
        """Stops, and gives back."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(20) == 0


@contextmanager
def mapper(machine: Machine, *addresses: str) -> Iterator[Mapper]:
    argv = [sys.executable, PROGRAM, *(addresses or ("0.0.0.0",)), str(PORT)]
    process = machine.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield Mapper(process)
        process.terminate()


@pytest.mark.parametrize("method", WITHOUT)
def test_router_lets_strangers_in_until_the_mapping_is_given_back(lab: Lab, method: str) -> None:
    agent, stranger = lab.agent("a", nat="upnp"), lab.server("s")
    assert agent.box is not None
    if WITHOUT[method]:
        agent.box.nft(BEFORE % WITHOUT[method])
    with udp(agent, PORT) as (inside,), udp(stranger, 7000, 7001) as (outside, another), mapper(agent) as ours:
        assert ours.says() == [[method, [agent.public_ip, PORT], ""]]
        assert passes(outside, (agent.public_ip, PORT), inside)
        ours.end()
        assert is_lost(another, (agent.public_ip, PORT), inside), "whoever had sent before has a connection"


def test_ipv6_firewall_lets_strangers_in(lab: Lab) -> None:
    agent, stranger = lab.agent("a", nat=Kind(upnp=True, ipv6=True)), lab.server("s")
    with (
        udp(agent, PORT, host=agent.ip6) as (inside,),
        udp(stranger, 7000, 7001, host=stranger.ip6) as (outside, another),
        mapper(agent, "::") as ours,
    ):
        assert ours.says() == [["pcp", [agent.ip6, PORT], ""]]
        assert passes(outside, (agent.ip6, PORT), inside)
        ours.end()
        assert is_lost(another, (agent.ip6, PORT), inside)


@pytest.mark.slow
def test_router_that_restarts_is_asked_again_when_it_says_so(lab: Lab) -> None:
    agent, stranger = lab.agent("a", nat="upnp"), lab.server("s")
    assert agent.box is not None
    with udp(agent, PORT) as (inside,), udp(stranger, 7000) as (outside,), mapper(agent) as ours:
        assert ours.says()[0][0] == "pcp"
        with suppress(TimeoutError):
            inside.recv(1)  # five seconds pass: two routers of the same age cannot be told apart
        restart(agent.box, lab.directory)
        inside.settimeout(0.2)
        for _ in range(60):  # who hears of it waits up to five seconds
            with suppress(TimeoutError):
                assert passes(outside, (agent.public_ip, PORT), inside)
                break
        else:
            pytest.fail("not mapped again")


def restart(box: Machine, directory: Path) -> None:
    """The router's miniupnpd ends and begins anew, with nothing mapped."""
    file = directory / f"{box.name}.miniupnpd.pid"
    pid = file.read_text().strip()
    file.unlink()
    box.run("sh", "-c", f"kill -9 {pid}; while grep -q :14E7 /proc/net/udp; do sleep 0.02; done")
    box.nft("".join(f"flush chain inet box {name}\n" for name in rules.UPNP_CHAINS.values()))
    services.start(box, directory)


def test_two_agents_behind_one_router_get_different_ports(lab: Lab) -> None:
    first = lab.agent("a", nat="upnp")
    second = lab.agent("b", beside="a")
    with mapper(first) as one, mapper(second) as two:
        found = [one.says()[0], two.says()[0]]
        assert [each[0] for each in found] == ["pcp", "pcp"]
        assert len({tuple(each[1]) for each in found}) == 2
