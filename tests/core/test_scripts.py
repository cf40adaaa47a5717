"""Random scripts of two programs and the network between them (`script.py`), and those that once failed.

Sixty in the default tier, always the same; as many as wanted in `make prove`. That they find faults is shown by
`make mutants`.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, note, settings

from tests.core.script import (
    Close,
    Cut,
    Finish,
    Open,
    Pause,
    Play,
    Resume,
    Script,
    Setting,
    Wait,
    Write,
    play,
    program,
)
from tests.core.script_search import cases


@settings(max_examples=60, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(cases)
def test_scripts_keep_every_promise(case: tuple[Setting, Script]) -> None:
    note(program(*case))
    play(*case)


def test_script_prints_as_the_test_that_plays_it() -> None:
    script = [Open("a"), Write("a", 0, 3), Cut("to b"), Open("b", early=True)]
    written = program(Setting(relay=True), script, "pasted")
    played: list[tuple[Setting, Script]] = []
    names = {each.__name__: each for each in (Open, Write, Cut, Setting)}
    exec(written, names | {"play": lambda *case: played.append(case)}, scope := {})
    scope["test_script_pasted"]()
    assert played == [(Setting(relay=True), script)]


def test_script_notices_a_byte_that_is_not_what_was_written() -> None:
    stage = Play(Setting())
    for step in (Open("a"), Wait(1.0), Pause("b", 0), Write("a", 0, 100), Wait(1.0)):
        stage.step(step)
    incoming = stage.talks[0].ends["b"].incoming
    incoming._ready[0] = bytes(incoming.available)
    try:
        stage.step(Resume("b", 0))
    except AssertionError as error:
        assert "not what was written" in str(error)  # noqa: PT017
    else:
        raise AssertionError("unnoticed")


def test_script_given_up_before_it_was_live() -> None:
    play(Setting(admit=False), [Open("a"), Cut("all"), Wait(60.0)])


def test_script_closed_over_bytes_that_nobody_read() -> None:
    play(
        Setting(admit=False, delay=0.0002),
        [
            Open("a"),
            Wait(0.001),
            Pause("a", 0),
            Write("b", 0, 1),
            Wait(0.001),
            Close("a"),
            Wait(0.0),
            Finish("b", 0),
        ],
    )
