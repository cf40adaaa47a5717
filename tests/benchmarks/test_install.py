from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import install
from benchmarks.install import Debian, cache
from covey.bench.pair import Failed


def test_cache_is_the_users_own_unless_told() -> None:
    assert cache({"COVEY_BENCH_CACHE": "/there"}) == Path("/there")
    assert cache({"XDG_CACHE_HOME": "/mine"}) == Path("/mine/covey-bench")
    assert cache({}) == Path.home() / ".cache" / "covey-bench"


def test_debian_files_are_found_below_their_root_and_know_their_version(tmp_path: Path) -> None:
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/nats-server").touch()
    (tmp_path / "nats-server_2.9.10-1+b3_amd64.deb").touch()
    (tmp_path / "nebula_1.6.1+dfsg-3+b4_amd64.deb").touch()
    package = Debian(tmp_path)
    assert package.program("nats-server") == str(tmp_path / "usr/sbin/nats-server")
    assert (package.version("nats-server"), package.version("nebula")) == ("2.9.10", "1.6.1")
    with pytest.raises(Failed, match="no wg in"):
        package.program("wg")


def test_what_cannot_be_fetched_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVEY_BENCH_CACHE", str(tmp_path))
    target = cache() / "thing"
    with pytest.raises(Failed, match="sh: no route"):
        install._fetch(target, [["touch", "half"], ["sh", "-c", "echo no route >&2; exit 1"]])
    assert list(tmp_path.iterdir()) == []
    install._fetch(target, [["touch", "whole"]])
    install._fetch(target, [["false"]])  # it is there, and not asked for again
    assert [file.name for file in target.iterdir()] == ["whole"]
