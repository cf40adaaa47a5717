"""What `covey netcheck` prints of what was found, and without a daemon."""

from __future__ import annotations

from covey.base.schema import (
    FindingView,
    ForetoldView,
    NetcheckView,
    NetworkView,
    PeerReachView,
    ReachView,
)
from tests.cli.conftest import Covey
from tests.daemon.memory import PEER_IDENTITY, RunningDaemon

FOUND = NetcheckView(
    daemon=True,
    nat="symmetric",
    network=NetworkView(mapping="address-and-port-dependent", udp=True, public=["203.0.113.7"]),
    rendezvous=[
        ReachView("r" * 52, "198.51.100.10:4040", 20.44, ahead_s=-700.0),
        ReachView("s" * 52, "198.51.100.11:4040", problem="no \x1b[2Janswer"),
    ],
    proxies=["HTTPS_PROXY=http://proxy:3128"],
    routers={"192.168.1.1": []},
    foretold=[ForetoldView("none", "direct", ""), ForetoldView("symmetric", "hard-hard", "both NATs")],
    peers=[
        PeerReachView(
            PEER_IDENTITY, "azure", "relay", "symmetric", "hard-hard", "hard-hard", "so it is", "change this"
        ),
        PeerReachView("c" * 52, "gpu", "direct", "none", "direct", "direct", "straight", ""),
    ],
    unmeasured=["hairpin: nobody knows"],
    findings=[
        FindingView("hard-nat", "note", "some stay"),
        FindingView("rendezvous-silent", "warning", "one is silent", "covey doctor"),
    ],
)


def test_it_says_what_is_what_it_means_and_what_to_change(covey: Covey, daemon: RunningDaemon) -> None:
    daemon.node.network_found = FOUND
    result = covey("netcheck")
    assert result.code == 11
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines[0].startswith("degraded: a NAT that takes any port for every destination")
    assert lines[0].endswith("found 1 warning; 1 of 2 peers direct")
    assert {"seen at 203.0.113.7", "UDP yes", "IPv6 no", "hairpin not measured"} <= set(lines)
    assert {"port mapping 192.168.1.1 offers none", "proxies HTTPS_PROXY=http://proxy:3128"} <= set(lines)
    assert "198.51.100.10:4040 20.4 - 700 s behind -" in lines
    assert "198.51.100.11:4040 - - - no \\x1b[2Janswer" in lines
    assert "direct paths with peers behind: none yes, symmetric no (hard-hard)" in lines
    assert "azure symmetric hard-hard relay hard-hard" in lines
    assert "azure: so it is (hard-hard). Change: change this" in lines
    assert "not measured: hairpin: nobody knows" in lines
    assert lines.index("warning one is silent (rendezvous-silent)") < lines.index("note some stay (hard-nat)")


def test_without_a_daemon_it_starts_from_the_ticket(covey: Covey) -> None:
    result = covey("netcheck", "--json")
    assert (result.code, result.document["error"]["code"]) == (11, "warnings-found")
    data = result.document["data"]
    assert (data["daemon"], [each["code"] for each in data["findings"]]) == (False, ["no-network"])
    assert data["unmeasured"]
