"""A lab's life, and what it does to packets on purpose."""

from __future__ import annotations

import os
import sys

from covey.lab import Lab
from tests.lab.sockets import passes, udp


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


def test_cut_drops_what_passes_between_two(lab: Lab) -> None:
    one, two = lab.server("one"), lab.server("two")
    agent = lab.agent("a")
    with udp(agent, 5000) as (inside,), udp(one, 7000) as (first,), udp(two, 7000) as (second,):
        lab.cut("a", "one")
        for server, passed in ((first, False), (second, True)):
            assert passes(inside, server.getsockname(), server) is passed
            assert passes(server, inside.getsockname(), inside) is passed
        lab.heal("a", "one")
        assert passes(inside, first.getsockname(), first)
        lab.cut("a")
        assert not passes(inside, second.getsockname(), second)
        lab.heal("a")
        assert passes(second, inside.getsockname(), inside)


def test_black_hole_passes_small_packets(lab: Lab) -> None:
    server, agent = lab.server("one"), lab.agent("a")
    with udp(agent, 5000) as (inside,), udp(server, 7000) as (outside,):
        lab.black_hole("a", "one", over=200)
        for size, passed in ((172, True), (173, False)):  # and 28 bytes of headers
            assert passes(inside, outside.getsockname(), outside, bytes(size)) is passed
            assert passes(outside, inside.getsockname(), inside, bytes(size)) is passed
