"""Each box behaves as its name says, in the words of RFC 4787, asked with plain UDP sockets."""

from __future__ import annotations

import dataclasses
import errno
import socket

import pytest

from covey.base.errors import UsageError
from covey.lab import KINDS, Kind, Lab
from tests.lab.sockets import is_lost, passes, seen, udp

BOXES = {
    # What the external port of each new remote endpoint is, and what of a stranger passes to a mapping that was made by
    # sending to one endpoint: another port there, another host.
    "none": ("preserved", True, True),
    "full-cone": ("preserved", True, True),
    "address-restricted": ("preserved", True, False),
    "port-restricted": ("preserved", False, False),
    "double": ("preserved", False, False),
    "port-changing": ("changed", False, False),
    "symmetric": ("random", False, False),
    "sequential": ("sequential", False, False),
}


@pytest.mark.parametrize("kind", BOXES)
def test_box_maps_and_filters_as_its_name_says(lab: Lab, kind: str) -> None:
    ports, *expected = BOXES[kind]
    one, two = lab.server("one"), lab.server("two")
    agent = lab.agent("a", nat=kind)
    with (
        udp(agent, 5000) as (inside,),
        udp(one, 7000, 7001) as (first, port),
        udp(two, 7000) as (address,),
    ):
        mapping = seen(inside, first)
        assert passes(first, mapping, inside)
        for stranger, passed in zip((port, address), expected, strict=True):
            assert (passes if passed else is_lost)(stranger, mapping, inside)
        found = [mapping, seen(inside, port), seen(inside, address)]
        assert {each[0] for each in found} == {agent.public_ip}
        assert seen(inside, first) == mapping
    assert _ports([each[1] for each in found]) == ports


def _ports(found: list[int]) -> str:
    if found == [5000] * 3:
        return "preserved"
    if found == [found[0], found[0] + 1, found[0] + 2]:
        return "sequential"
    if found == [found[0]] * 3:
        return "changed"
    return "random" if len({5000, *found}) == 4 else "none of these"


def test_port_restricted_keeps_its_mapping_though_the_peer_punched_first(lab: Lab) -> None:
    """What arrives too early is dropped without a trace; it would take the port of our own mapping."""
    server = lab.server("one")
    agent = lab.agent("a", nat="port-restricted")
    with udp(agent, 5000) as (inside,), udp(server, 7000) as (outside,):
        assert is_lost(outside, (agent.public_ip, 5000), inside)
        assert seen(inside, outside) == (agent.public_ip, 5000)
        assert passes(outside, (agent.public_ip, 5000), inside)


@pytest.mark.parametrize("kind", ["full-cone", "port-restricted"])
def test_two_hosts_that_use_one_port_have_a_mapping_each(lab: Lab, kind: str) -> None:
    one, two = lab.server("one"), lab.server("two")
    alice = lab.agent("a", nat=kind)
    bob = lab.agent("b", beside="a")
    with (
        udp(alice, 5000) as (from_alice,),
        udp(bob, 5000) as (from_bob,),
        udp(one, 7000) as (first,),
        udp(two, 7000) as (second,),
    ):
        mapping, other = seen(from_alice, first), seen(from_bob, first)
        assert mapping == (alice.public_ip, 5000)
        assert other[1] != 5000
        assert (seen(from_alice, second), seen(from_bob, second)) == (mapping, other)
        assert passes(second, mapping, from_alice)
        assert passes(second, other, from_bob)


def test_hairpin_box_lets_its_hosts_meet_at_their_external_endpoints(lab: Lab) -> None:
    server = lab.server("one")
    for kind, expected in (("hairpin", True), ("port-restricted", False)):
        alice = lab.agent(f"a-{kind}", nat=kind)
        bob = lab.agent(f"b-{kind}", beside=alice.name)
        with udp(alice, 5000) as (from_alice,), udp(bob, 6000) as (from_bob,), udp(server, 7000) as (outside,):
            mapping, other = seen(from_alice, outside), seen(from_bob, outside)
            if not expected:
                assert is_lost(from_bob, mapping, from_alice)
                continue
            from_bob.sendto(b"over here", mapping)
            assert from_alice.recvfrom(100) == (b"over here", other)
            assert passes(from_alice, other, from_bob)


def test_blocked_udp_and_proxy_only(lab: Lab) -> None:
    server = lab.server("one")
    blocked, proxied = lab.agent("a", nat="udp-blocked"), lab.agent("b", nat="proxy-only")
    web = server.sockets(kind=socket.SOCK_STREAM)[0]
    with web, udp(server, 7000) as (outside,):
        web.bind((server.ip, 443))
        web.listen()
        for agent, passed in ((blocked, True), (proxied, False)):
            with udp(agent, 5000) as (inside,):
                assert is_lost(inside, outside.getsockname(), outside)
            with agent.sockets(kind=socket.SOCK_STREAM)[0] as tcp:
                tcp.settimeout(5.0 if passed else 0.2)
                if passed:
                    tcp.connect((server.ip, 443))
                else:
                    with pytest.raises(TimeoutError):
                        tcp.connect((server.ip, 443))


def test_proxy_knows_connect_to_443_with_a_password(lab: Lab) -> None:
    server, agent = lab.server("one"), lab.agent("a", nat="proxy-only")
    assert agent.environment == {"HTTPS_PROXY": "http://lab:let%40me%3Ain@192.168.10.1:3128"}
    good = "Proxy-Authorization: Basic bGFiOmxldEBtZTppbg==\r\n"
    cases = [
        (f"CONNECT {server.ip}:443 HTTP/1.1\r\n{good}", b"200"),
        (f"CONNECT {server.ip}:443 HTTP/1.1\r\n", b"407"),
        (f"CONNECT {server.ip}:22 HTTP/1.1\r\n{good}", b"403"),
        (f"GET http://{server.ip}/ HTTP/1.1\r\n{good}", b"405"),
        ("nonsense\r\n", b"400"),
    ]
    with server.sockets(kind=socket.SOCK_STREAM)[0] as web:
        web.bind((server.ip, 443))
        web.listen()
        for client, (head, status) in zip(agent.sockets(len(cases), kind=socket.SOCK_STREAM), cases, strict=True):
            with client:
                client.settimeout(5.0)
                client.connect(("192.168.10.1", 3128))
                client.sendall(f"{head}\r\n".encode())
                assert client.recv(1000).split(b" ")[1] == status
                if status == b"200":
                    far, source = web.accept()
                    with far:
                        assert source[0] == agent.public_ip
                        client.sendall(b"through")
                        assert far.recv(100) == b"through"


def test_ipv6_is_routed_and_lets_in_what_was_asked_for(lab: Lab) -> None:
    server = lab.server("one")
    only, dual = lab.agent("a", nat="ipv6-only"), lab.agent("b", nat="dual-stack")
    assert (only.ip, only.public_ip) == ("", "")
    bare = lab.agent("c", nat=Kind(box=False, ipv6=True))
    with udp(bare, 5000, host=bare.ip6) as (open_to_all,), udp(only, 5001) as (stranger,):
        assert passes(stranger, open_to_all.getsockname(), open_to_all)
    with (
        udp(only, 5000) as (alice,),
        udp(dual, 5000, host=dual.ip6) as (bob,),
        udp(server, 7000, host=server.ip6) as (outside,),
    ):
        assert seen(alice, outside) == (only.ip6, 5000)
        assert is_lost(alice, bob.getsockname(), bob)
        assert passes(bob, alice.getsockname(), alice)
        assert passes(alice, bob.getsockname(), bob)


def test_small_mtu_is_found_and_larger_packets_do_not_pass(lab: Lab) -> None:
    server, agent = lab.server("one"), lab.agent("a", nat="mtu-1280")
    with udp(agent, 5000) as (inside,), udp(server, 7000) as (outside,):
        inside.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        assert passes(inside, outside.getsockname(), outside, bytes(1252))
        assert is_lost(inside, outside.getsockname(), outside, bytes(1253))
        with pytest.raises(OSError, check=lambda error: error.errno == errno.EMSGSIZE):
            inside.sendto(bytes(1253), outside.getsockname())  # the box has said so


def test_black_hole_swallows_large_packets_of_other_agents_only(lab: Lab) -> None:
    server, agent, peer = lab.server("one"), lab.agent("a", nat="black-hole"), lab.agent("b")
    with udp(agent, 5000) as (inside,), udp(server, 7000) as (outside,), udp(peer, 5000) as (other,):
        for size, lost in ((172, False), (173, True)):
            assert (is_lost if lost else passes)(inside, other.getsockname(), other, bytes(size))
            assert (is_lost if lost else passes)(other, (agent.public_ip, 5000), inside, bytes(size))
            assert passes(inside, outside.getsockname(), outside, bytes(size))
            assert passes(outside, (agent.public_ip, 5000), inside, bytes(size))


def test_mappings_end_without_use(lab: Lab) -> None:
    """The kind `forgetful` within a test's patience: after one second."""
    server, agent = lab.server("one"), lab.agent("a", nat=dataclasses.replace(KINDS["forgetful"], mapping_s=1))
    with udp(agent, 5000) as (inside,), udp(server, 7000) as (outside,):
        mapping = seen(inside, outside)
        assert passes(outside, mapping, inside)
        inside.settimeout(1.1)
        with pytest.raises(TimeoutError):
            inside.recv(1)
        assert is_lost(outside, mapping, inside)
    assert KINDS["forgetful"].mapping_s == 20


def test_upnp_box_opens_a_port_that_nat_pmp_asked_for(lab: Lab) -> None:
    server, agent = lab.server("one"), lab.agent("a", nat="upnp")
    with udp(agent, 5000, 6000) as (inside, asking), udp(server, 7000) as (outside,):
        assert is_lost(outside, (agent.public_ip, 5000), inside)
        asking.sendto(bytes.fromhex("00 01 0000 1388 1388 00000e10"), ("192.168.10.1", 5351))  # RFC 6886, 3.3
        assert asking.recv(100)[:4] == bytes.fromhex("00 81 0000")
        assert passes(outside, (agent.public_ip, 5000), inside)
        lab.forget("a")
        assert is_lost(outside, (agent.public_ip, 5000), inside)


@pytest.mark.parametrize(
    "wrong", [{"mapping_s": 0}, {"ipv4": False}, {"mtu": 1279}, {"mtu": 65_536}], ids=lambda wrong: next(iter(wrong))
)
def test_impossible_kinds_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Kind(**wrong)  # type: ignore[arg-type]
