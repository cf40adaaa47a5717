from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from benchmarks import plot, results
from tests.benchmarks.conftest import made_run

SVG = "{http://www.w3.org/2000/svg}"


def test_plot_has_a_panel_for_each_metric_and_a_point_for_each_whole_run(tmp_path: Path) -> None:
    for run in (made_run("a"), made_run("b"), made_run("c", quick=True)):
        results.keep(run, tmp_path)
    plot.write(tmp_path)
    drawn = ElementTree.parse(tmp_path / plot.PLOT).getroot()
    panels = drawn.findall(f"{SVG}g")
    assert [panel.findtext(f"{SVG}text") for panel in panels] == ["bulk_gbit_s", "rtt64_us_p50"]
    titles = [circle.findtext(f"{SVG}title") for circle in panels[0].findall(f"{SVG}circle")]
    assert titles == ["a 2026-01-02: 3.15 Gbit/s", "b 2026-01-02: 3.15 Gbit/s"]


def test_history_without_a_whole_run_gives_an_empty_plot() -> None:
    drawn = ElementTree.fromstring(plot.svg([]))
    assert drawn.findall(f"{SVG}g") == []
