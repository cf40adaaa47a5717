from __future__ import annotations

import pytest

from tests.daemon.test_imports import loaded_after

SLOW = {"asyncio", "cryptography", "httpx", "rich", "starlette", "structlog", "uvicorn", "pydantic", "click"}


@pytest.mark.parametrize(
    "statement",
    [
        "import covey.cli.main",
        "import covey.cli.app",
        "from covey.cli.main import run; run(['--help'])",
        "from covey.cli.main import run; run(['status', '--profile', 'import-test', '--json'])",
    ],
)
def test_command_line_loads_nothing_slow(statement: str, capfd: pytest.CaptureFixture[str]) -> None:
    quiet = "contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO()))"
    statement = f"import contextlib, io\nwith {quiet}: exec({statement!r})"
    assert loaded_after(statement) & SLOW == set()


def test_package_is_lazy() -> None:
    assert {name for name in loaded_after("import covey") if name.startswith("covey.")} == set()


def test_version_does_not_load_the_node() -> None:
    assert "covey.node" not in loaded_after("import covey; covey.__version__")


def test_unknown_name_is_an_attribute_error() -> None:
    import covey

    with pytest.raises(AttributeError, match="nothing"):
        covey.nothing  # noqa: B018
    assert set(covey.__all__) == {"Node", "__version__"}
    assert set(covey.__all__) <= set(dir(covey))
