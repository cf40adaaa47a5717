import pytest

from covey.base.errors import StorageError
from covey.node.storage.database import Database
from covey.node.storage.settings import NAME, NETWORK, WALL_CLOCK, Settings


def test_settings_remember_bytes_text_and_numbers(database: Database) -> None:
    settings = Settings(database)
    assert (settings.get("x"), settings.get_text("x"), settings.get_int("x", 7)) == (None, "", 7)
    settings.set(NETWORK, "covey1abc")
    settings.set(NAME, "ada")
    settings.set(NAME, "bob")
    settings.set("n", -5)
    settings.set("raw", b"\x00\xff")
    again = Settings(database)
    assert again.get_text(NETWORK) == "covey1abc"
    assert again.get_text(NAME) == "bob"
    assert again.get_int("n") == -5
    assert again.get("raw") == b"\x00\xff"
    settings.set(NAME, None)
    assert again.get(NAME) is None


def test_clock_never_goes_back(database: Database) -> None:
    settings = Settings(database)
    for certain in (100, 50, 120, 0):
        settings.raise_clock(certain)
    assert settings.get_int(WALL_CLOCK) == 120


def test_handshake_timestamps_only_rise(database: Database) -> None:
    settings = Settings(database)
    assert settings.handshake_timestamp(b"i", b"k") == 0
    for timestamp in (10, 30, 20):
        settings.set_handshake_timestamp(b"i", b"k", timestamp)
    settings.set_handshake_timestamp(b"i", b"k2", 5)
    assert settings.handshake_timestamp(b"i", b"k") == 30
    assert settings.handshake_timestamps() == {(b"i", b"k"): 30, (b"i", b"k2"): 5}
    settings.forget_handshakes(30)
    assert settings.handshake_timestamps() == {(b"i", b"k"): 30}


def test_damaged_value_is_a_damaged_database(database: Database) -> None:
    settings = Settings(database)
    settings.set("x", b"\xff7")
    for get in (settings.get_int, settings.get_text):
        with pytest.raises(StorageError) as caught:
            get("x")
        assert (caught.value.code, bool(caught.value.next_step)) == ("store-corrupt", True)
    assert database.trouble is not None
