from collections.abc import Iterator
from pathlib import Path

import pytest

from covey.base.errors import LimitError
from covey.rendezvous.store import (
    CLAIMS_LIMIT,
    DAY_US,
    HINT_LIFE_US,
    NAME_LEASE_US,
    Published,
    RendezvousStore,
)

ADDRESS = bytes.fromhex("7f3a91c0d2e4")
OTHER = bytes(6)
Order = tuple[int, int, int]


def identity(n: int) -> bytes:
    return n.to_bytes(2, "big") * 16


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RendezvousStore]:
    opened = RendezvousStore(tmp_path / "rendezvous.db", synchronous="OFF", records_limit=20)
    yield opened
    opened.close()


def put(
    store: RendezvousStore,
    n: int,
    name: str = "",
    *,
    now: int = 0,
    order: Order | None = None,
    address: bytes = ADDRESS,
    record: bytes | None = None,
    log: bytes | None = b"log",
    life: int = DAY_US,
) -> Published:
    order = order or (0, 0, now)
    return store.put(
        identity(n),
        address=address,
        name=name,
        order=order,
        record=b"record %d" % order[2] if record is None else record,
        log=log,
        expires_us=now + life,
        now_us=now,
    )


def test_put_then_look_up_every_way(store: RendezvousStore) -> None:
    assert put(store, 1, "ada", now=5, order=(1, 2, 3)) == Published(True, "held")
    entry = store.by_identity(identity(1))
    assert entry is not None
    assert (entry.identity, entry.address, entry.name, entry.order) == (
        identity(1),
        ADDRESS,
        "ada",
        (1, 2, 3),
    )
    assert (entry.record, entry.log) == (b"record 3", b"log")
    assert (entry.first_us, entry.updated_us, entry.expires_us) == (5, 5, 5 + DAY_US)
    assert store.by_address(ADDRESS) == [entry]
    assert store.by_name("ada", 6) == entry
    assert store.counts() == (1, 1)


def test_look_up_of_the_unknown_finds_nothing(store: RendezvousStore) -> None:
    assert store.by_identity(identity(1)) is None
    assert store.by_address(ADDRESS) == []
    assert store.by_name("ada", 0) is None


@pytest.mark.parametrize(
    ("order", "record", "stored"),
    [
        ((1, 5, 100), b"same", True),
        ((1, 5, 100), b"other", False),
        ((1, 5, 99), b"x", False),
        ((0, 2**64 - 1, 0), b"x", False),
        ((1, 5, 101), b"x", True),
        ((1, 6, 0), b"x", True),
        ((2, 0, 0), b"x", True),
    ],
)
def test_put_never_goes_back(store: RendezvousStore, order: Order, record: bytes, stored: bool) -> None:
    put(store, 1, order=(1, 5, 100), record=b"same")
    assert put(store, 1, order=order, record=record, now=9).stored is stored
    entry = store.by_identity(identity(1))
    assert entry is not None
    assert entry.record == (record if stored else b"same")


def test_put_without_a_log_keeps_the_one_held(store: RendezvousStore) -> None:
    put(store, 1, log=b"one")
    put(store, 1, now=1, log=None)
    entry = store.by_identity(identity(1))
    assert entry is not None
    assert (entry.log, entry.record) == (b"one", b"record 1")
    put(store, 2, log=None)
    entry = store.by_identity(identity(2))
    assert entry is not None
    assert entry.log == b""


def test_address_may_have_several_claims_oldest_first(store: RendezvousStore) -> None:
    for now, n in enumerate((3, 1, 2)):
        put(store, n, now=now)
    put(store, 1, now=9)
    put(store, 4, address=OTHER)
    assert [entry.identity for entry in store.by_address(ADDRESS)] == [identity(3), identity(1), identity(2)]
    put(store, 3, now=10, address=OTHER)
    assert [entry.identity for entry in store.by_address(ADDRESS)] == [identity(1), identity(2)]


def test_address_claims_returned_are_bounded(store: RendezvousStore) -> None:
    for n in range(CLAIMS_LIMIT + 3):
        put(store, n, now=n)
    assert [entry.identity for entry in store.by_address(ADDRESS)] == [identity(n) for n in range(CLAIMS_LIMIT)]


def test_name_is_first_come(store: RendezvousStore) -> None:
    assert put(store, 1, "ada").name == "held"
    assert put(store, 2, "ada", now=1) == Published(True, "taken")
    second = store.by_identity(identity(2))
    assert second is not None
    assert second.name == ""
    found = store.by_name("ada", 2)
    assert found is not None
    assert found.identity == identity(1)


def test_name_lease_is_renewed_by_publishing(store: RendezvousStore) -> None:
    put(store, 1, "ada")
    put(store, 1, "ada", now=DAY_US)
    assert put(store, 2, "ada", now=NAME_LEASE_US).name == "taken"
    assert store.by_name("ada", DAY_US + NAME_LEASE_US - 1) is not None
    assert store.by_name("ada", DAY_US + NAME_LEASE_US) is None
    assert put(store, 2, "ada", now=DAY_US + NAME_LEASE_US).name == "held"
    assert put(store, 1, "ada", now=DAY_US + NAME_LEASE_US + 1).name == "taken"


def test_name_lease_is_not_renewed_by_a_stale_record(store: RendezvousStore) -> None:
    put(store, 1, "ada", order=(0, 0, 2))
    assert put(store, 1, "ada", now=DAY_US, order=(0, 0, 1)) == Published(False, "held")
    assert store.by_name("ada", NAME_LEASE_US) is None


def test_name_given_up_is_free_at_once(store: RendezvousStore) -> None:
    put(store, 1, "ada")
    assert put(store, 1, "ada-two", now=1).name == "held"
    assert store.by_name("ada", 2) is None
    assert put(store, 2, "ada", now=3).name == "held"
    assert put(store, 1, "", now=4).name == "none"
    assert store.by_name("ada-two", 5) is None


def test_name_wanted_in_vain_costs_the_old_one(store: RendezvousStore) -> None:
    """An identity says what it is called now; it cannot keep one name while it waits for another."""
    put(store, 1, "ada")
    put(store, 2, "bob")
    assert put(store, 2, "ada", now=1).name == "taken"
    assert store.by_name("bob", 2) is None


def test_log_of_a_revoked_identity_stays_beside_its_record_and_frees_its_name(store: RendezvousStore) -> None:
    put(store, 1, "ada")
    store.put_log(identity(1), b"ended", revoked=True)
    entry = store.by_identity(identity(1))
    assert entry is not None
    assert (entry.log, entry.name) == (b"ended", "")
    assert put(store, 2, "ada", now=1).name == "held"
    store.put_log(identity(3), b"ended", revoked=True)
    assert store.by_identity(identity(3)) is None, "nothing was known of it"


def test_expire_keeps_records_as_hints_and_frees_names(store: RendezvousStore) -> None:
    put(store, 1, "ada")
    put(store, 2, "bob", now=DAY_US)
    assert store.expire(2 * DAY_US) == 0
    hint = store.by_identity(identity(1))
    assert hint is not None
    assert hint.expires_us < 2 * DAY_US
    assert store.expire(DAY_US + HINT_LIFE_US) == 1
    assert store.by_identity(identity(1)) is None
    assert store.counts() == (1, 0)


def test_full_store_drops_the_longest_expired_then_refuses(store: RendezvousStore) -> None:
    put(store, 0, "ada", life=20)
    put(store, 1, life=10)
    for n in range(2, 20):
        put(store, n)
    with pytest.raises(LimitError) as caught:
        put(store, 20, now=9)
    assert caught.value.code == "rendezvous-full"
    assert put(store, 5, now=9).stored
    put(store, 20, now=30)
    assert store.by_identity(identity(1)) is None
    put(store, 21, now=30)
    assert store.by_name("ada", 30) is None
    assert store.counts() == (20, 0)
    with pytest.raises(LimitError):
        put(store, 22, now=30)


def test_store_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "rendezvous.db"
    first = RendezvousStore(path)
    put(first, 1, "ada")
    first.close()
    second = RendezvousStore(path)
    entry = second.by_name("ada", 1)
    assert second.counts() == (1, 1)
    second.close()
    assert entry is not None
    assert entry.identity == identity(1)
