"""What the pages say is there, is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
"""The changelog tells of what was, too."""
TESTS = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("*.py")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    missing = {
        name
        for name in named
        if not re.search(rf"def {name}\(", TESTS) and not list((ROOT / "tests").rglob(f"{name}.py"))
    }
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    links = {target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target}
    missing = {link for link in links if link and not (page.parent / link).exists()}
    paths = set(re.findall(r"`((?:tests|scripts|benchmarks)/[\w./-]+)`", text))
    missing |= {path for path in paths if not (ROOT / path).exists()}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_place_in_the_code_that_a_page_names_exists(page: Path) -> None:
    """Places look like `core/keyring.py: Keyring.check`."""
    missing = []
    for file, name in re.findall(r"`(\w+(?:/\w+)+\.py): ([\w.]+)`", page.read_text()):
        path = ROOT / "src" / "covey" / file
        last = name.rpartition(".")[2]
        if not path.exists() or not re.search(rf"\b{last}\b", path.read_text()):
            missing.append(f"{file}: {name}")
    assert not missing
