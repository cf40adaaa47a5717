"""A router that maps ports makes a pair direct that nothing else would: agents as processes, miniupnpd, a real NAT."""

from __future__ import annotations

from benchmarks.paths.pair import pair
from covey.lab import Lab


def test_mapped_port_is_reached_from_behind_a_symmetric_nat(lab: Lab) -> None:
    """Without it this pair stays on the relay, or needs birthday probing (`test_why.py`)."""
    with pair("upnp", "symmetric", lab=lab) as two:
        two.start()
        assert two.b.do("send", peer=two.identities[0], body="x")["result"] == "delivered"
        told = two.b.do("why", peer=two.identities[0], code="direct")["peer"]
        assert told["why"] == "direct"
        (active,) = (path for path in told["paths"] if path["active"])
        assert active["remote"].startswith(lab["a"].public_ip)
        found = two.a.do("netcheck")["found"]["network"]
        assert [(each["method"], each["problem"]) for each in found["port_mapping"]] == [("pcp", "")]
        two.stop()
