from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import lab
from covey.bench.pair import TCP, Failed, Loopback, Pair
from covey.lab import namespaces

_, refused = lab.best_site()
needs_namespaces = pytest.mark.skipif(bool(refused), reason=refused)


@needs_namespaces
def test_two_ends_stand_in_namespaces_of_their_own_with_one_link() -> None:
    with lab.two_ends(9000) as site:
        assert site.name == "two network namespaces, veth, MTU 9000"
        assert isinstance(site, lab.Lab)
        for end in ("server", "client"):
            shown = site.run(end, "ip", "-brief", "address", "show")
            assert site.address(end) in shown
            assert site.run(end, "cat", f"/proc/sys/net/ipv4/conf/{site.devices[end][0]}/forwarding").strip() in "01"
            assert "mtu 9000" in site.run(end, "ip", "link", "show", site.devices[end][0])
        with Pair.started(TCP, site) as pair:
            assert pair.job("round_trips", timeout=20.0, seconds=0.01)["p50"] > 0
            spaces = {os.readlink(f"/proc/{pid}/ns/net") for pid in (*pair.pids, os.getpid())}
        assert len(spaces) == 3


@needs_namespaces
def test_nothing_of_a_lab_is_left() -> None:
    with lab.Lab() as site:
        site.add("server")
        assert site.namespaces is not None
        keeper = Path(f"/proc/{site.namespaces.pid}")
        assert keeper.exists()
    assert not keeper.exists()


@needs_namespaces
def test_program_that_fails_in_a_namespace_says_why() -> None:
    with lab.Lab() as site:
        site.add("server")
        with pytest.raises(Failed, match=r"ip link show nowhere: .*nowhere"):
            site.run("server", "ip", "link", "show", "nowhere")


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(namespaces, "_PATH", "/nowhere")
    site_for, why = lab.best_site()
    assert "apt-get install --no-install-recommends iproute2 util-linux" in why
    with site_for(1500)() as site:
        assert isinstance(site, Loopback)
