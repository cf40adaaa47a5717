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
