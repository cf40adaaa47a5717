import stat
from pathlib import Path

import pytest

from covey.base.errors import StorageError, UsageError
from covey.base.paths import SOCKET_PATH_LIMIT, Home, check_private, check_profile

HOME = {"HOME": "/home/ada"}
ME = 1000


def locate(env: dict[str, str], profile: str | None = None) -> Home:
    return Home.locate(profile, env, uid=ME)


@pytest.mark.parametrize(
    ("env", "config", "state", "recovery", "run"),
    [
        (
            HOME,
            "/home/ada/.config/covey/default",
            "/home/ada/.local/state/covey/default",
            "/home/ada/.local/share/covey/default/recovery",
            "/home/ada/.local/state/covey/default/run",
        ),
        (
            HOME | {"XDG_RUNTIME_DIR": "/run/user/1000", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"},
            "/c/covey/default",
            "/s/covey/default",
            "/home/ada/.local/share/covey/default/recovery",
            "/run/user/1000/covey/default",
        ),
        (
            {"XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s", "XDG_DATA_HOME": "/d"},
            "/c/covey/default",
            "/s/covey/default",
            "/d/covey/default/recovery",
            "/s/covey/default/run",
        ),
        (
            HOME | {"XDG_CONFIG_HOME": "relative", "XDG_STATE_HOME": "", "XDG_RUNTIME_DIR": "run"},
            "/home/ada/.config/covey/default",
            "/home/ada/.local/state/covey/default",
            "/home/ada/.local/share/covey/default/recovery",
            "/home/ada/.local/state/covey/default/run",
        ),
        (
            HOME | {"COVEY_HOME": "/srv/agent", "XDG_RUNTIME_DIR": "/run/user/1000"},
            "/srv/agent/default/config",
            "/srv/agent/default/state",
            "/srv/agent/default/recovery",
            "/srv/agent/default/run",
        ),
    ],
    ids=["plain", "xdg", "no-home-needed", "relative-xdg-ignored", "covey-home"],
)
def test_locate_follows_the_environment(env: dict[str, str], config: str, state: str, recovery: str, run: str) -> None:
    home = locate(env)
    expected = [Path(config), Path(state), Path(recovery), Path(run)]
    assert expected == [home.config_dir, home.state_dir, home.recovery_dir, home.run_dir]
    assert home.run_parent is None


def test_locate_names_every_file() -> None:
    home = locate({"COVEY_HOME": "/h"})
    expected = {
        "identity_file": "/h/default/state/identity",
        "mailbox_file": "/h/default/state/mailbox-keys",
        "recovery_file": "/h/default/recovery/next-root-key",
        "database": "/h/default/state/covey.db",
        "generation_file": "/h/default/state/generation",
        "lock_file": "/h/default/state/lock",
        "log_file": "/h/default/state/daemon.log",
        "api_socket": "/h/default/run/api.sock",
        "stream_socket": "/h/default/run/stream.sock",
        "config_file": "/h/default/config/config.toml",
    }
    names = [n for n in vars(Home) if n.endswith(("_file", "_socket")) or n == "database"]
    assert expected == {name: str(getattr(home, name)) for name in names}


def test_locate_keeps_the_recovery_file_out_of_the_other_directories() -> None:
    for env in (HOME, {"COVEY_HOME": "/h"}):
        home = locate(env)
        for directory in (home.state_dir, home.config_dir, home.run_dir):
            assert directory not in home.recovery_file.parents


@pytest.mark.parametrize(
    ("profile", "env", "expected"),
    [
        (None, {}, "default"),
        (None, {"COVEY_PROFILE": ""}, "default"),
        (None, {"COVEY_PROFILE": "work"}, "work"),
        ("play", {"COVEY_PROFILE": "work"}, "play"),
    ],
)
def test_locate_chooses_the_profile(profile: str | None, env: dict[str, str], expected: str) -> None:
    home = locate(HOME | env, profile)
    assert expected == home.profile
    assert expected == home.state_dir.name


@pytest.mark.parametrize("profile", ["", ".", "..", "a/b", "-a", "A", "a" * 33, "a\n", "a b"])
def test_check_profile_refuses_what_is_no_directory_name(profile: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_profile(profile)
    assert caught.value.code == "bad-profile"


@pytest.mark.parametrize("env", [{}, {"HOME": "relative"}, {"HOME": "/h", "COVEY_HOME": "relative"}])
def test_locate_without_a_place_says_what_to_set(env: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        locate(env)
    assert caught.value.code == "no-home"
    assert "COVEY_HOME" in caught.value.next_step


def test_locate_moves_sockets_with_long_paths_to_a_folder_of_the_user() -> None:
    longest = "/" + "x" * (SOCKET_PATH_LIMIT - len("//default/run/stream.sock"))
    fits, moved = locate({"COVEY_HOME": longest}), locate({"COVEY_HOME": longest + "x"})
    assert len(str(fits.stream_socket)) == SOCKET_PATH_LIMIT
    assert fits.run_parent is None
    assert moved.run_parent == Path("/tmp/covey-1000")
    assert moved.run_dir.parent == moved.run_parent
    assert len(str(moved.stream_socket)) <= SOCKET_PATH_LIMIT


def test_locate_counts_bytes_not_characters() -> None:
    assert locate({"COVEY_HOME": "/" + "ü" * 40}).run_parent is not None


def test_locate_keeps_profiles_apart_in_the_shared_folder() -> None:
    env = {"COVEY_HOME": "/" + "x" * 200}
    assert locate(env, "a").run_dir != locate(env, "b").run_dir
    assert locate(env, "a").run_dir == locate(env, "a").run_dir


def test_locate_refuses_a_shared_folder_that_is_too_long_itself() -> None:
    with pytest.raises(UsageError) as caught:
        Home.locate(None, {"COVEY_HOME": "/" + "x" * 200}, uid=ME, temporary=Path("/" + "t" * 90))
    assert caught.value.code == "path-too-long"


@pytest.mark.parametrize(
    ("mode", "owner", "step"),
    [
        (stat.S_IFDIR | 0o755, ME, "chmod 700 /x"),
        (stat.S_IFDIR | 0o710, ME, "chmod 700 /x"),
        (stat.S_IFREG | 0o640, ME, "chmod 600 /x"),
        (stat.S_IFREG | 0o604, ME, "chmod 600 /x"),
        (stat.S_IFLNK | 0o777, ME, "rm /x"),
        (stat.S_IFDIR | 0o700, 0, "find out who made /x"),
        (stat.S_IFDIR | 0o700, ME + 1, "find out who made /x"),
    ],
)
def test_check_private_refuses_what_others_can_touch(mode: int, owner: int, step: str) -> None:
    with pytest.raises(StorageError) as caught:
        check_private(Path("/x"), mode=mode, owner=owner, uid=ME)
    assert caught.value.code == "bad-permissions"
    assert step in caught.value.next_step


@pytest.mark.parametrize("mode", [stat.S_IFDIR | 0o700, stat.S_IFDIR | 0o2700, stat.S_IFREG | 0o600])
def test_check_private_accepts_what_is_ours_alone(mode: int) -> None:
    check_private(Path("/x"), mode=mode, owner=ME, uid=ME)
