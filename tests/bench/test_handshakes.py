from __future__ import annotations

from covey.bench.handshakes import handshakes_per_cpu_s


def test_handshakes_are_counted_by_cpu_time() -> None:
    found = handshakes_per_cpu_s(20)
    assert set(found) == {"pinned", "cold_chain", "stranger", "both_sides", "refused"}
    assert found["pinned"] > found["both_sides"] > 0
    assert min(found.values()) > 0
