"""Agents as processes behind real boxes: both sides say why the peer is on its path, and `netcheck` foretells it."""

from __future__ import annotations

import pytest

from benchmarks.paths.pair import pair
from covey.lab import Lab

CASES = {
    # kinds of both boxes, and what a and b say in the end
    "port-restricted, port-restricted": ("direct", "direct"),
    "symmetric, port-restricted": ("birthday-off", "birthday-off"),
    "symmetric, symmetric": ("hard-hard", "hard-hard"),
    "udp-blocked, none": ("udp-blocked", "peer-udp-blocked"),
}


@pytest.mark.parametrize(
    "kinds", [each if each == "symmetric, symmetric" else pytest.param(each, marks=pytest.mark.slow) for each in CASES]
)
def test_both_sides_say_why_and_netcheck_agrees(kinds: str, lab: Lab) -> None:
    a, b = kinds.split(", ")
    with pair(a, b, lab=lab) as two:
        two.start()
        assert two.a.do("send", peer=two.identities[1], body="x")["result"] == "delivered"
        told = two.a.do("why", peer=two.identities[1], code=CASES[kinds][0])["peer"]
        assert two.b.do("why", peer=two.identities[0], code=CASES[kinds][1])["peer"]["why"] == CASES[kinds][1]
        assert (told["why"], bool(told["change"])) == (CASES[kinds][0], CASES[kinds][0] != "direct")
        for agent, kind, code in zip(two.agents, (a, b), CASES[kinds], strict=True):
            found = agent.do("netcheck")["found"]
            assert (found["nat"], found["daemon"]) == (kind, True)
            [peer] = found["peers"]
            assert (peer["expected"], peer["why"]) == (code, code)
            assert found["elapsed_ms"] < 5000
        two.stop()


@pytest.mark.slow
def test_firewall_between_two_that_could_meet_is_told_from_a_black_hole(lab: Lab) -> None:
    with pair("port-restricted", "port-restricted", lab=lab) as two:
        for break_, code in ((lab.cut, "peer-silent"), (lab.black_hole, "mtu")):
            break_("a", "b")
            two.start()
            for agent, peer in zip(two.agents, reversed(two.identities), strict=True):
                agent.begin("send", peer=peer, body=code)
            for agent in two.agents:
                assert agent.end()["result"] == "delivered"
            for agent, peer in zip(two.agents, reversed(two.identities), strict=True):
                assert agent.do("why", peer=peer, code=code)["peer"]["why"] == code
            two.stop()
            lab.heal("a", "b")
