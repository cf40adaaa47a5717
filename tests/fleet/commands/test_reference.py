from __future__ import annotations

from pathlib import Path

from tests.fleet.commands import reference


def test_reference_page_is_what_the_parser_says() -> None:
    page = Path(__file__).parents[3] / "docs" / "fleet" / "commands.md"
    assert page.read_text() == reference.page(), "python -m tests.fleet.commands.reference > docs/fleet/commands.md"
