import os
import stat
from pathlib import Path

import pytest

from covey.base.errors import StorageError
from covey.node.storage.paths import locate, prepare


def test_prepare_makes_every_directory_for_us_alone(short_path: Path) -> None:
    home = locate(None, {"COVEY_HOME": str(short_path / "home")}, temporary=short_path)
    prepare(home)
    prepare(home)
    for directory in (home.state_dir, home.config_dir, home.recovery_dir, home.run_dir):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_locate_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVEY_HOME", "/srv/agent")
    monkeypatch.setenv("COVEY_PROFILE", "blue")
    assert locate().state_dir == Path("/srv/agent/blue/state")
    assert locate("red").state_dir == Path("/srv/agent/red/state")


def long_home(tmp_path: Path) -> dict[str, str]:
    return {"COVEY_HOME": str(tmp_path / ("x" * 100))}


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """A short, shared place, so that socket paths fit even below a long tmp_path."""
    path = Path("/tmp") / f"covey-test-{os.getpid()}-{abs(hash(tmp_path)) % 10**8}"
    path.mkdir()
    yield path
    for folder, directories, _ in os.walk(path, topdown=False):
        for directory in directories:
            (Path(folder) / directory).rmdir()
    path.rmdir()


def test_prepare_makes_the_folder_for_long_socket_paths(tmp_path: Path, temporary: Path) -> None:
    home = locate(None, long_home(tmp_path), temporary=temporary)
    prepare(home)
    assert home.run_parent == temporary / f"covey-{os.getuid()}"
    assert stat.S_IMODE(home.run_parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.run_dir.stat().st_mode) == 0o700


@pytest.mark.parametrize("trap", ["open", "link"])
def test_prepare_refuses_a_folder_that_somebody_made_before(tmp_path: Path, temporary: Path, trap: str) -> None:
    home = locate(None, long_home(tmp_path), temporary=temporary)
    assert home.run_parent is not None
    if trap == "open":
        home.run_parent.mkdir(mode=0o777)
        home.run_parent.chmod(0o777)
    else:
        home.run_parent.symlink_to(tmp_path)
    with pytest.raises(StorageError) as caught:
        prepare(home)
    assert caught.value.code == "bad-permissions"
    assert not home.run_dir.exists()
    if trap == "link":
        home.run_parent.unlink()
