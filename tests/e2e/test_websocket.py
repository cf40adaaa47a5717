"""Agents as processes in networks that let no UDP through, or nothing but what a proxy passes."""

from __future__ import annotations

import pytest

from benchmarks.paths.pair import pair
from covey.lab import Lab


@pytest.mark.parametrize(
    ("a", "b"), [("udp-blocked", "port-restricted"), ("proxy-only", "udp-blocked")], ids=["one side", "both sides"]
)
def test_agents_without_udp_exchange_messages(a: str, b: str, lab: Lab) -> None:
    with pair(a, b, lab=lab, rendezvous=1) as two:
        two.start()
        two.b.begin("received", body="to b")
        assert two.a.do("send", peer=two.identities[1], body="to b")["result"] == "delivered"
        assert two.b.end()["times"] == 1
        two.a.begin("received", body="to a")
        assert two.b.do("send", peer=two.identities[0], body="to a")["result"] == "delivered"
        assert two.a.end()["times"] == 1
        two.stop()
