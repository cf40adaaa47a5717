"""Modelled against billed."""

from __future__ import annotations

import pytest

from covey.base.errors import ParseError
from covey.fleet.model import Candidate, Decision, Wanted
from covey.fleet.prices.billed import compare, modelled, read_billed

MIDNIGHT = 1_799_971_200.0
"""2027-01-15 00:00 UTC."""


def day(*, usd: float, count: int, gap: tuple[int, int] = (0, 0)) -> list[Decision]:
    """A decision each minute, but for the minutes of `gap`."""
    key = "east/m5.large/on-demand"
    return [
        Decision(
            at=MIDNIGHT + 60 * minute,
            turn=minute,
            workload="web",
            mode="act",
            wanted=Wanted(agents=count, binding="min", reason=""),
            agents={key: {"ready": count, "coming": 3}},
            candidates=(
                Candidate(offering=key, count=count, was=count, price=9.0, parts={"list": usd, "egress": None}),
            ),
        )
        for minute in range(24 * 60 + 1)
        if not gap[0] <= minute < gap[1]
    ]


CASES = {
    "the same": (24 * 2 * 0.1, (0, 0), 0.0, False),
    "4 % more": (24 * 2 * 0.1 / 1.04, (0, 0), 0.04, False),
    "6 % more": (24 * 2 * 0.1 / 1.06, (0, 0), 0.06, True),
    "6 % less": (24 * 2 * 0.1 / 0.94, (0, 0), -0.06, True),
    "a controller that was away": (100.0, (300, 400), None, False),
    "nothing billed": (0.0, (0, 0), None, False),
}


@pytest.mark.parametrize("name", CASES)
def test_more_than_five_percent_apart_is_an_alert(name: str) -> None:
    billed, gap, apart, alert = CASES[name]
    known = modelled(day(usd=0.1, count=2, gap=gap), {"east": "aws"})
    (found,) = compare({("2027-01-15", "aws"): billed}, known)
    assert (None if found.apart is None else round(found.apart, 6), found.alert) == (apart, alert)


def test_lines_of_one_day_add_up() -> None:
    text = "day,cloud,usd\n2027-01-15,aws,1.5\n2027-01-15,aws,2\n2027-01-16,gcp,1\n"
    assert read_billed(text, "bill.csv") == {("2027-01-15", "aws"): 3.5, ("2027-01-16", "gcp"): 1.0}


@pytest.mark.parametrize(
    "text", ["a,b\n", "day,cloud,usd\nsoon,aws,1\n", "day,cloud,usd\n2027-01-15,aws,\n", "day,cloud,usd\n2027\n"]
)
def test_wrong_bill_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        read_billed(text, "bill.csv")
