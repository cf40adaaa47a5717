from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import page


def test_table_is_put_between_the_markers(tmp_path: Path, run: dict[str, Any]) -> None:
    file = tmp_path / "benchmarks.md"
    file.write_text(f"# Before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.write(run, file)
    text = file.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith(f"{page.END}\nafter\n")
    assert "old" not in text
    assert "| `bulk_gbit_s` | 3.15 | Gbit/s | 3 to 3.3 | 0.29 | 0.70 |" in text
    page.write(run, file)
    assert file.read_text() == text


def test_rivals_stand_beside_us_in_a_table_of_their_own(run: dict[str, Any]) -> None:
    lines = page.table(run).splitlines()
    assert "| peer | `bulk_gbit_s` |" in lines
    assert lines[-4:] == ["| covey | 3.15 |", "| asyncio_tls | 4.5 |", "| raw_tcp | 11 |", "| rival 1.0 | 0.3 |"]


def test_page_says_where_it_was_measured_and_what_is_in_doubt(run: dict[str, Any]) -> None:
    failure = {"setting": "loss1", "peer": "covey", "measure": "bulk", "error": "it died\nof cold"}
    text = page.table(run | {"doubts": ["run 2: the host took 9% of the cores away"], "failures": [failure, failure]})
    assert "TCP with bbr; two network namespaces. In doubt: run 2: the host took 9% of the cores away." in text
    assert text.count("Failed: loss1 covey bulk (of cold).") == 1


def test_page_without_markers_is_left_alone(tmp_path: Path, run: dict[str, Any]) -> None:
    file = tmp_path / "other.md"
    file.write_text("# No table here\n")
    with pytest.raises(ValueError, match=r"other\.md lacks the lines"):
        page.write(run, file)
    assert file.read_text() == "# No table here\n"


def test_the_page_of_the_project_has_its_markers() -> None:
    text = page.PAGE.read_text()
    assert 0 < text.index(page.BEGIN) < text.index(page.END)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0123456, "0.0123"), (3.14159, "3.14"), (123.4, "123"), (1234.5, "1,230"), (456789, "457,000")],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert page._number(value) == shown
