"""Agents as processes in networks that let no UDP through, or nothing but what a proxy passes."""

from __future__ import annotations

import time

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


NO_UDP = """
table ip no_udp {
  chain forward {
    type filter hook forward priority -10;
    meta l4proto udp drop
  }
}
"""


@pytest.mark.slow
def test_streams_go_on_when_udp_ends_and_when_it_comes_back(lab: Lab) -> None:
    """Three seconds without an answer at most when it ends, none when it comes back; nothing lost, nothing twice."""
    with pair("port-restricted", "udp-blocked", lab=lab, rendezvous=2) as two:
        two.start()
        two.a.do("load", peer=two.identities[1], bulk_rate=2_000_000)
        two.a.do("settled", since=time.monotonic(), seconds=1.0, patience=20.0)
        box = two.lab["a"].box
        assert box is not None
        since = time.monotonic()
        box.nft(NO_UDP)
        assert two.a.do("settled", since=since, seconds=3.0, patience=30.0)["gap"] < 3.0
        since = time.monotonic()
        box.nft("delete table ip no_udp")
        for _ in range(40):  # it tries after 1, 5 and 20 seconds
            gap = two.a.do("settled", since=since, seconds=1.0, patience=20.0)["gap"]
            assert gap < 1.0
            (active,) = [path for path in two.a.do("peer", peer=two.identities[1])["peer"] if path["active"]]
            if active["remote"].endswith(":4040"):
                break
            since = time.monotonic()
        assert active["remote"].endswith(":4040"), "by UDP again"
        done = two.a.do("unload")
        assert done["answers"] == done["requests"]
        assert done["bulk"]["same"]
        assert done["bulk"]["arrived"] == done["bulk"]["bytes"]
        two.stop()
