from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from scripts.fleet_demo.facts import Moment
from scripts.fleet_demo.plot import page, waited

MOMENTS = [
    Moment(at=0.0, arrived=0, finished=0, waiting=0, workers={"here": 1, "there": 0}),
    Moment(at=2.0, arrived=20, finished=10, waiting=10, workers={"here": 1, "there": 1}),
    Moment(at=4.0, arrived=40, finished=20, waiting=20, workers={"here": 0, "there": 0}),
    Moment(at=5.0, arrived=40, finished=40, waiting=0, workers={"here": 2, "there": 0}),
]


def test_page_has_three_plots_with_the_highest_values_on_their_scales() -> None:
    text = page(MOMENTS, [(4.0, "KILLED <here>")], ("here", "there"))
    plots = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    assert [next(each.text or "" for each in plot.iter("text") if each.get("x") == "4") for plot in plots] == [
        "10", "2", "20",
    ]  # fmt: skip
    assert "KILLED &lt;here&gt;" in text


def test_waited_is_the_share_of_time_in_which_a_job_would_wait_too_long() -> None:
    assert waited(MOMENTS, 5.0, 5.0) == pytest.approx(0.2), "from 4 s on, when nobody was there"
