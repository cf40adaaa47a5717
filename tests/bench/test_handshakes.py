from __future__ import annotations

from covey.bench.handshakes import handshake_rows


def test_handshakes_are_counted_by_cpu_time() -> None:
    said: list[str] = []
    rows = handshake_rows(1, said.append, handshakes=20)
    by_name = {each["metric"].removeprefix("handshakes_").removesuffix("_per_cpu_s"): each["value"] for each in rows}
    assert set(by_name) == {"pinned", "cold_chain", "stranger", "both_sides"}
    assert by_name["pinned"] > by_name["both_sides"] > 0
    assert said == ["run 1 of 1: handshakes"]
