"""What time it is when the clock is wrong: nothing expired comes back, and no jump is for ever."""

from __future__ import annotations

import pytest

from covey.base.constants import RELEASE_US
from covey.net.host import Host
from covey.node.clock import BELIEVE_SECONDS, Clock, date_text

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
YEAR = 365 * DAY
START = RELEASE_US + YEAR
SKEW = 600 * SECOND


class Machine:
    """A host of which only the clocks work. `pass_s` lets time pass and the clock settle each minute."""

    def __init__(self, wall_us: int = START) -> None:
        self.mono = 1000.0
        self.wall = wall_us
        self.clock: Clock | None = None
        self.stored = 0

    def now(self) -> float:
        return self.mono

    def wall_us(self) -> int:
        return self.wall

    def boot(self, *, trust_wall: bool = False) -> Clock:
        self.mono = 50.0
        host: Host = self  # type: ignore[assignment]
        self.clock = Clock(host, self.stored, trust_wall=trust_wall)
        return self.clock

    def pass_s(self, seconds: float) -> None:
        assert self.clock is not None
        while seconds > 0:
            step = min(60.0, seconds)
            self.mono += step
            self.wall += int(step * SECOND)
            self.stored = max(self.stored, self.clock.settle())
            seconds -= step


def settled(wall_us: int = START) -> tuple[Machine, Clock]:
    machine = Machine(wall_us)
    clock = machine.boot()
    machine.pass_s(BELIEVE_SECONDS + 120)
    assert clock.certain_us == clock.now_us() == machine.wall
    return machine, clock


@pytest.mark.parametrize("back", [MINUTE, HOUR, DAY, YEAR])
def test_time_goes_on_although_the_clock_is_set_back(back: int) -> None:
    machine, clock = settled()
    before = clock.now_us()
    machine.wall -= back
    assert clock.now_us() == before
    assert clock.behind_us == (back if back > SKEW else 0)
    machine.pass_s(3600)
    assert clock.now_us() == before + HOUR
    machine.wall += back
    assert clock.now_us() == machine.wall
    assert clock.behind_us == clock.jumped_us == 0


@pytest.mark.parametrize("back", [HOUR, DAY, YEAR])
def test_restart_does_not_forget_what_was_certain(back: int) -> None:
    machine, _ = settled()
    late = machine.wall
    machine.wall -= back
    clock = machine.boot()
    assert clock.now_us() >= late
    assert clock.behind_us >= back - 2


@pytest.mark.parametrize("ahead", [HOUR, DAY, YEAR, 24 * YEAR])
@pytest.mark.parametrize("restarts", [0, 20])
def test_clock_that_jumps_ahead_and_back_leaves_no_trace(ahead: int, restarts: int) -> None:
    machine, clock = settled()
    machine.wall += ahead
    assert clock.now_us() == machine.wall, "nothing that the clock calls expired is accepted"
    assert clock.jumped_us == ahead
    machine.pass_s(1200)
    for _ in range(restarts):
        clock = machine.boot()
        machine.pass_s(120)
    right = machine.wall - ahead
    machine.wall = right
    machine.pass_s(60)
    assert clock.now_us() == machine.wall
    assert clock.behind_us == clock.jumped_us == 0
    machine.boot()
    assert clock.now_us() <= machine.wall + SKEW


def test_lead_is_believed_after_its_own_length_and_after_a_day_at_most() -> None:
    for ahead, patience in ((HOUR, 3600.0), (DAY // 2, 43_200.0), (YEAR, BELIEVE_SECONDS)):
        machine, clock = settled()
        machine.wall += ahead
        machine.pass_s(patience - 120)
        assert clock.certain_us <= machine.wall - ahead + SKEW
        machine.pass_s(300)
        assert clock.certain_us == machine.wall
        assert clock.jumped_us == 0


def test_clock_that_flaps_is_not_believed() -> None:
    machine, clock = settled()
    certain = machine.wall
    for _ in range(100):
        machine.wall += YEAR
        machine.pass_s(1800)
        machine.wall -= YEAR
        machine.pass_s(1800)
    assert clock.certain_us == machine.wall == certain + 100 * HOUR


def test_small_steps_are_nothing_special() -> None:
    machine, clock = settled()
    for step in (-5 * MINUTE, 9 * MINUTE, -3 * MINUTE, 2 * MINUTE):
        machine.wall += step
        machine.pass_s(600)
        assert clock.behind_us == clock.jumped_us == 0
    machine.pass_s(3600)
    assert abs(clock.certain_us - machine.wall) <= 5 * MINUTE


def test_machine_that_was_off_for_a_month_is_no_cause_for_alarm() -> None:
    machine, _ = settled()
    machine.wall += 30 * DAY
    clock = machine.boot()
    assert clock.now_us() == machine.wall
    assert clock.jumped_us == clock.behind_us == 0
    machine.pass_s(BELIEVE_SECONDS + 120)
    assert clock.certain_us == machine.wall


def test_machine_without_a_battery_starts_no_earlier_than_this_version() -> None:
    machine = Machine(wall_us=0)
    clock = machine.boot()
    assert clock.now_us() == RELEASE_US
    assert clock.behind_us == RELEASE_US
    machine.pass_s(60)
    machine.wall = START
    assert clock.now_us() == START


def test_owner_can_take_back_what_a_wrong_clock_made_certain() -> None:
    machine, _ = settled(START + 24 * YEAR)
    machine.wall -= 24 * YEAR
    assert machine.boot().behind_us > 23 * YEAR
    clock = machine.boot(trust_wall=True)
    assert clock.now_us() == machine.wall
    assert clock.behind_us == 0


def test_date_text_takes_any_number() -> None:
    assert date_text(RELEASE_US) == "2026-01-01 00:00 UTC"
    assert date_text(-5) == "1970-01-01 00:00 UTC"
    assert date_text(2**63).startswith("9999-")
