"""`covey fleet simulate`: figures, a page, and what is wrong in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.commands.conftest import Fleet

SPEC = """\
[pools.a]
provider = "local"
price = 0.1
labels = { cloud = "a" }
[pools.b]
provider = "local"
price = 0.3
labels = { cloud = "b" }
[workloads.work]
command = ["serve"]
replicas = { min = 2, max = 40 }
cold_start = "20s"
targets = [{ signal = "queue", source = "jobs", rate_per_agent = "1/s" }]
"""


@pytest.fixture
def day(fleet: Fleet) -> str:
    """Twenty minutes of 10 requests per second, in the folder of the test."""
    Path("day.csv").write_text("second,count\n" + "".join(f"{second},10\n" for second in range(1200)))
    return "day.csv"


def test_simulate_flies_the_spec_beside_the_baselines_and_writes_a_page(fleet: Fleet, day: str) -> None:
    Path("fleet.toml").write_text(SPEC)
    said = fleet("simulate", "--trace", day, "--policies", "covey,hpa", "--kill-cloud", "a@10:00:00", "--json")
    assert said.code == 0
    rows = {row["policy"]: row for row in said.data["rows"]}
    assert set(rows) == {"covey", "hpa"}
    assert rows["covey"]["violations"] == 0.0
    assert rows["covey"]["cost_usd"] == pytest.approx(rows["covey"]["replica_hours"] * 0.1, rel=1e-3)
    text = fleet("simulate", "--trace", day, "--policies", "covey", "--report", "day.html").out
    assert "covey" in text
    assert "written: day.html" in text
    assert Path("day.html").read_text().count("<svg") == 3


def test_simulate_says_which_target_no_trace_can_feed(fleet: Fleet, day: str) -> None:
    other = 'targets = [{ signal = "command", command = ["x"], value = 3.0 }'
    Path("fleet.toml").write_text(SPEC.replace("targets = [", other + ", "))
    assert "the target on command is left out" in fleet("simulate", "--trace", day, "--policies", "covey").out
    Path("fleet.toml").write_text(SPEC[: SPEC.index("targets")] + other + "]\n")
    said = fleet("simulate", "--trace", day, "--json")
    assert "follows from a trace" in said.error["message"]


def test_simulate_needs_no_spec(fleet: Fleet, day: str) -> None:
    assert [row["policy"] for row in fleet("simulate", "--trace", day, "--json").data["rows"]] == [
        "covey", "fixed_peak", "oracle", "hpa", "kpa", "skyserve", "rayserve", "threshold",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--trace", "none.csv"), "storage"),
        (("--trace", "day.csv", "--policies", "best"), "usage"),
        (("--trace", "day.csv", "--kill-cloud", "aws"), "malformed"),
        (("--trace", "day.csv", "--capacity", "one"), "usage"),
        (("--trace", "day.csv", "--capacity", "moon=3"), "usage"),
        (("--trace", "day.csv", "--preemptions", "nan"), "usage"),
        (("--trace", "day.csv", "--seeds", "0"), "usage"),
        (("--trace", "day.csv", "--prices", "."), "malformed"),
        (("--trace", "day.csv", "--spec", "none.toml"), "no-spec"),
        ((), "usage"),
    ],
)
def test_simulate_refuses_in_words(fleet: Fleet, day: str, arguments: tuple[str, ...], code: str) -> None:
    said = fleet("simulate", *arguments, "--json")
    assert said.code != 0
    assert said.error["code"] == code
    assert "Traceback" not in said.out + said.err
