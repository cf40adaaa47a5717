"""A lab's life, and what it does to packets on purpose."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress

import pytest

from covey.base.errors import CoveyError
from covey.lab import Lab
from tests.lab.sockets import is_lost, passes, seen, udp


def test_programs_end_with_the_lab() -> None:
    with Lab() as lab:
        server = lab.server("one")
        program = server.popen([sys.executable, "-c", "import os; os.fork(); os.read(0, 1)"], stdin=-1)
        orphan = int(server.run("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"))
        os.kill(orphan, 0)
    with program:
        assert program.wait() < 0
    try:
        os.kill(orphan, 0)
    except ProcessLookupError:
        return
    with open(f"/proc/{orphan}/stat") as stat:
        assert " Z " in stat.read()


UDP_SEGMENT = 103
"""linux/udp.h"""

DOOMED = """
import os, signal
from covey.lab import Lab
lab = Lab()
print(lab.server("one").run("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("lab")  # where labs can be
def test_nothing_is_left_of_a_lab_whose_process_was_killed() -> None:
    done = subprocess.run([sys.executable, "-c", DOOMED], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    with suppress(ProcessLookupError):
        orphan = os.pidfd_open(int(done.stdout))
        try:
            assert select.select([orphan], [], [], 30.0)[0]
        finally:
            os.close(orphan)


def test_cut_drops_what_passes_between_two(lab: Lab) -> None:
    one, two = lab.server("one"), lab.server("two")
    agent = lab.agent("a")
    with udp(agent, 5000) as (inside,), udp(one, 7000) as (first,), udp(two, 7000) as (second,):
        lab.cut("a", "one")
        for server, passed in ((first, False), (second, True)):
            assert (passes if passed else is_lost)(inside, server.getsockname(), server)
            assert (passes if passed else is_lost)(server, inside.getsockname(), inside)
        lab.heal("a", "one")
        assert passes(inside, first.getsockname(), first)
        lab.cut("a")
        assert is_lost(inside, second.getsockname(), second)
        lab.heal("a")
        assert passes(second, inside.getsockname(), inside)


def test_black_hole_passes_small_packets(lab: Lab) -> None:
    server, agent = lab.server("one"), lab.agent("a")
    with udp(agent, 5000) as (inside,), udp(server, 7000) as (outside,):
        lab.black_hole("a", "one", over=200)
        for size, passed in ((172, True), (173, False)):  # and 28 bytes of headers
            assert (passes if passed else is_lost)(inside, outside.getsockname(), outside, bytes(size))
            assert (passes if passed else is_lost)(outside, inside.getsockname(), inside, bytes(size))


def test_filters_judge_each_datagram_of_a_train(lab: Lab) -> None:
    """As a train they would be larger than the filter lets pass, and fewer (PROTOCOL 38)."""
    server, agent = lab.server("one"), lab.agent("a", nat="port-restricted")
    with udp(agent, 5000) as (inside,), udp(server, 7000) as (outside,):
        mapping = seen(inside, outside)
        lab.black_hole("a", "one", over=200)
        for sender, to, receiver in ((inside, outside.getsockname(), outside), (outside, mapping, inside)):
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 150)
            sender.sendto(bytes(1500), to)
            assert [len(receiver.recv(2000)) for _ in range(10)] == [150] * 10
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 300)
            assert is_lost(sender, to, receiver, bytes(1500))


@pytest.mark.parametrize("kind", ["none", "port-restricted", "symmetric"])
def test_changed_uplink_has_other_addresses_and_the_old_one_is_dead(lab: Lab, kind: str) -> None:
    server, agent = lab.server("one"), lab.agent("a", nat=kind)
    old, old_ip, old_box = agent.public_ip, agent.ip, agent.box
    lab.cut("a", "one")
    with udp(server, 7000) as (outside,):
        with udp(agent, 5000) as (inside,):
            lab.change_uplink("a")
            assert agent.public_ip != old
            assert agent.ip != old_ip
            with pytest.raises(OSError, check=lambda error: error.errno == errno.ENETUNREACH):
                inside.sendto(b"gone", outside.getsockname())
        with udp(agent, 5000) as (inside,):
            assert is_lost(inside, outside.getsockname(), outside)  # a cut stays with its machine
            lab.heal("a", "one")
            assert seen(inside, outside)[0] == agent.public_ip
    assert old_box is None or old_box.name not in lab.machines


@pytest.mark.parametrize("kind", ["none", "port-restricted", "double"])
def test_redial_changes_the_address_outside_only(lab: Lab, kind: str) -> None:
    server, agent = lab.server("one"), lab.agent("a", nat=kind)
    old, inner = agent.public_ip, agent.ip
    with udp(agent, 5000, host="0.0.0.0") as (inside,), udp(server, 7000) as (outside,):
        assert seen(inside, outside)[0] == old
        lab.redial("a")
        assert seen(inside, outside) == (agent.public_ip, 5000)
        assert passes(outside, (agent.public_ip, 5000), inside)
    assert agent.public_ip != old
    assert (agent.ip == inner) is (agent.box is not None)


def test_forget_ends_mappings(lab: Lab) -> None:
    server, agent = lab.server("one"), lab.agent("a", nat="full-cone")
    with udp(agent, 5000) as (inside,), udp(server, 7000) as (outside,):
        mapping = seen(inside, outside)
        assert passes(outside, mapping, inside)
        lab.forget("a")
        assert is_lost(outside, mapping, inside)
        assert seen(inside, outside) == mapping


def test_symmetric_box_that_forgot_maps_anew(lab: Lab) -> None:
    server, agent = lab.server("one"), lab.agent("a", nat="symmetric")
    with udp(agent, 5000) as (inside,), udp(server, 7000) as (outside,):
        mapping = seen(inside, outside)
        lab.forget("a")
        assert seen(inside, outside) != mapping


def test_picture_shows_who_stands_behind_whom_and_what_is_broken(lab: Lab) -> None:
    lab.server("one")
    lab.agent("a", nat="double")
    lab.agent("b", beside="a")
    lab.agent("c")
    lab.cut("a", "c")
    lab.black_hole("b")
    assert (
        lab.text()
        == """\
internet
|-- one (server) 198.51.100.10 2001:db8:ffff::a
|-- a.box.carrier (port-restricted) 203.0.113.10
|   `-- a.box (double) 100.64.10.2
|       |-- a 192.168.11.2
|       `-- b 192.168.11.3
`-- c (none) 203.0.113.11

a x c: nothing passes
b x everybody: IP packets over 200 bytes vanish"""
    )


def test_mistakes_are_named(lab: Lab) -> None:
    lab.server("one")
    for mistake, code in (
        (lambda: lab.agent("one"), "name-taken"),
        (lambda: lab.agent("internet"), "name-taken"),
        (lambda: lab.agent("../x"), "bad-name"),
        (lambda: lab.agent(""), "bad-name"),
        (lambda: lab.agent("a", nat="cone"), "bad-kind"),
        (lambda: lab.agent("a", beside="one"), "bad-kind"),
        (lambda: lab.cut("one", "two"), "no-machine"),
        (lambda: lab["one"].run("false"), "lab-command-failed"),
    ):
        with pytest.raises(CoveyError, check=lambda error, code=code: error.code == code):
            mistake()
