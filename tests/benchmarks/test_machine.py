from __future__ import annotations

from benchmarks import machine


def test_facts_say_what_a_reader_compares_machines_by() -> None:
    found = machine.facts()
    assert set(found) == {
        *("processor", "cores", "kernel", "python", "executable", "cryptography", "openssl"),
        *("tcp_congestion_control",),
    }
    assert all(found.values())


def test_watch_sees_others_at_work_and_time_that_was_stolen() -> None:
    idle = {"busy": 0, "steal": 0, "all": 0}
    later = {"busy": 30, "steal": 5, "all": 100}
    assert machine._share(idle, later, "busy") == 0.3
    assert machine._share(idle, later, "steal") == 0.05
    watch = machine.Watch()
    watch.before()
    watch.after()
    assert set(watch.marks[0]) == {"foreign", "steal", "load"}
