from __future__ import annotations

import sys

import pytest

from benchmarks import lab, sites
from covey.bench.pair import TCP, Failed, Pair

_, refused = lab.best_site()
needs_namespaces = pytest.mark.skipif(bool(refused), reason=refused)


def tun_refused() -> str:
    try:
        lab.need_tun()
    except Failed as failed:
        return str(failed)
    return ""


@needs_namespaces
@pytest.mark.skipif(bool(tun_refused()), reason=tun_refused())
def test_delayed_link_carries_both_ways_and_takes_its_time() -> None:
    with sites.delayed(2_000) as site, Pair.started(TCP, site) as pair:
        assert pair.job("round_trips", timeout=20.0, seconds=0.01)["p50"] >= 4_000


@needs_namespaces
def test_ends_of_a_relayed_site_reach_the_relay_and_not_each_other() -> None:
    with sites.relayed() as site:
        assert isinstance(site, lab.Lab)
        for end, other in (("server", "client"), ("client", "server")):
            assert site.run(end, "ip", "route", "get", site.address("relay"))
            with pytest.raises(Failed, match="unreachable"):
                site.run(end, "ip", "route", "get", site.address(other))


@needs_namespaces
def test_device_makes_no_super_packets_any_more() -> None:
    with lab.two_ends() as site:
        assert isinstance(site, lab.Lab)
        look = "import sys; from benchmarks import offloads; print(offloads.features(sys.argv[1]))"
        (device,) = site.devices["server"]
        assert "'tx-udp-segmentation': True" in site.run("server", *_python(look, device))
        site.run(
            "server", *_python("import sys; from benchmarks import offloads; offloads.turn_off(sys.argv[1])", device)
        )
        after = site.run("server", *_python(look, device))
        assert "'tx-udp-segmentation': False" in after
        assert "'tx-tcp-segmentation': False" in after
        assert "'tx-generic-segmentation': True" in after


def _python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, *arguments]
