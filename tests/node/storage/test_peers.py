import pytest

from covey.base.errors import NotFoundError, StateError
from covey.base.types import address_text, identity_text
from covey.core.trust import PENDING_LIMIT, TrustEvent
from covey.node.storage.database import Database
from covey.node.storage.peers import CANDIDATES_KEPT, STRANGERS_LIMIT, Order, Peer, Peers, find_peer

ADDRESS = bytes.fromhex("7f3a91c0d2e4")


def identity(n: int) -> bytes:
    return n.to_bytes(2, "big") * 16


def add(peers: Peers, n: int, name: str = "", address: bytes = ADDRESS, order: Order = (0, 0, 1), at: int = 1) -> None:
    assert peers.upsert(identity(n), now_us=at, address=address, name=name, order=order, record=b"r%d" % order[2])


def trust(peers: Peers, n: int, at: int = 2) -> Peer:
    peers.apply(identity(n), "remote-request", now_us=at, reason="hi")
    return peers.apply(identity(n), "local-approve", now_us=at).peer


def test_upsert_makes_and_updates_a_peer(database: Database) -> None:
    peers = Peers(database)
    assert peers.get(identity(1)) is None
    assert peers.upsert(
        identity(1),
        now_us=5,
        address=ADDRESS,
        name="ada",
        order=(1, 2, 3),
        record=b"record",
        log=b"log",
        witnesses=2,
    )
    peer = peers.get(identity(1))
    assert peer is not None
    assert (peer.address, peer.name, peer.order) == (ADDRESS, "ada", (1, 2, 3))
    assert (peer.record, peer.log, peer.witnesses, peer.trust) == (b"record", b"log", 2, "unknown")
    add(peers, 1, "ada2", order=(1, 2, 4))
    peer = peers.get(identity(1))
    assert peer is not None
    assert (peer.name, peer.log, peer.witnesses, peer.record) == ("ada2", b"log", 2, b"r4")


@pytest.mark.parametrize(
    ("order", "record", "accepted"),
    [
        ((1, 5, 100), b"same", True),
        ((1, 5, 100), b"other", False),
        ((1, 5, 99), b"x", False),
        ((1, 4, 2**64 - 1), b"x", False),
        ((0, 2**64 - 1, 2**64 - 1), b"x", False),
        ((1, 5, 101), b"x", True),
        ((1, 6, 0), b"x", True),
        ((2, 0, 0), b"x", True),
        ((2**64 - 1, 0, 0), b"x", True),
    ],
)
def test_upsert_never_accepts_a_lower_order(database: Database, order: Order, record: bytes, accepted: bool) -> None:
    peers = Peers(database)
    first = {"now_us": 1, "address": ADDRESS, "name": "a"}
    assert peers.upsert(identity(1), order=(1, 5, 100), record=b"same", **first)  # type: ignore[arg-type]
    assert peers.upsert(identity(1), order=order, record=record, **first) is accepted  # type: ignore[arg-type]
    peer = peers.get(identity(1))
    assert peer is not None
    assert peer.order == (order if accepted else (1, 5, 100))


def test_upsert_remembers_the_order_whatever_happens_to_trust(database: Database) -> None:
    peers = Peers(database)
    add(peers, 1, order=(3, 0, 0))
    trust(peers, 1)
    peers.apply(identity(1), "local-untrust", now_us=3)
    assert not peers.upsert(identity(1), now_us=4, address=ADDRESS, name="", order=(2, 9, 9), record=b"")


def test_apply_request_and_approval(database: Database) -> None:
    peers = Peers(database)
    add(peers, 1, "ada")
    asked = peers.apply(identity(1), "local-request", now_us=10, reason="let us talk")
    assert (asked.peer.trust, asked.peer.action, asked.changed) == ("requested", "request", True)
    assert (asked.peer.reason, asked.peer.since_us) == ("let us talk", 10)
    assert (asked.peer.we_asked, asked.peer.they_asked) == (True, False)
    assert peers.confirm_action(identity(1), asked.peer.action_number)
    approved = peers.apply(identity(1), "remote-approve", now_us=20)
    assert (approved.peer.trust, approved.peer.action, approved.decision.notice) == (
        "trusted",
        None,
        "trusted",
    )
    assert (approved.peer.pinned_name, approved.peer.since_us, approved.peer.reason) == (
        "ada",
        20,
        "let us talk",
    )
    again = peers.apply(identity(1), "remote-approve", now_us=30)
    assert (again.changed, again.peer.since_us) == (False, 20)


def test_apply_cleans_the_reason_and_keeps_that_of_a_rejection(database: Database) -> None:
    peers = Peers(database)
    asked = peers.apply(identity(1), "remote-request", now_us=1, reason="evil\x1b[2J\nname" + "x" * 999)
    assert asked.peer.reason.startswith("evil [2J namex")
    assert len(asked.peer.reason) == 256
    rejected = peers.apply(identity(1), "local-reject", now_us=2, reason="no thanks")
    assert (rejected.peer.reason, rejected.peer.action) == ("no thanks", "reject")


def test_apply_survives_a_restart(database: Database) -> None:
    add(Peers(database), 1, "ada")
    Peers(database).apply(identity(1), "remote-request", now_us=1, reason="hi")
    Peers(database).apply(identity(1), "local-approve", now_us=2)
    peer = Peers(database).get(identity(1))
    assert peer is not None
    assert (peer.trust, peer.action, peer.pinned_name) == ("trusted", "approve", "ada")
    assert [found.identity for found in Peers(database).actions()] == [identity(1)]


def test_apply_makes_nothing_of_a_strangers_nonsense(database: Database) -> None:
    peers = Peers(database)
    events: list[TrustEvent] = ["remote-approve", "remote-reject", "remote-untrust"]
    for event in events:
        applied = peers.apply(identity(1), event, now_us=1)
        assert (applied.peer.trust, applied.changed) == ("unknown", False)
    assert peers.all() == []


def test_apply_refuses_the_users_mistakes_and_changes_nothing(database: Database) -> None:
    peers = Peers(database)
    for event, code in (("local-approve", "nothing-pending"), ("local-untrust", "not-trusted")):
        with pytest.raises(StateError) as caught:
            peers.apply(identity(1), event, now_us=1)  # type: ignore[arg-type]
        assert caught.value.code == code
    assert peers.all() == []


def test_confirm_action_of_an_older_one_changes_nothing(database: Database) -> None:
    peers = Peers(database)
    old = peers.apply(identity(1), "local-request", now_us=1).peer.action_number
    new = peers.apply(identity(1), "local-untrust", now_us=2).peer.action_number
    assert not peers.confirm_action(identity(1), old)
    assert [(peer.action, peer.action_number) for peer in peers.actions()] == [("untrust", new)]
    assert peers.confirm_action(identity(1), new)
    assert not peers.confirm_action(identity(1), new)
    assert peers.actions() == []


def test_pending_strangers_are_bounded_and_the_oldest_goes(database: Database) -> None:
    peers = Peers(database)
    with database.transaction():
        for n in range(PENDING_LIMIT):
            assert peers.apply(identity(n), "remote-request", now_us=n).dropped == ()
        applied = peers.apply(identity(PENDING_LIMIT), "remote-request", now_us=PENDING_LIMIT)
    assert applied.dropped == (identity(0),)
    assert peers.counts() == {"pending": PENDING_LIMIT}
    assert peers.get(identity(0)) is None


def test_strangers_are_bounded_and_trusted_peers_stay(database: Database) -> None:
    peers = Peers(database)
    with database.transaction():
        add(peers, 0)
        trust(peers, 0)
        peers.apply(identity(1), "local-request", now_us=0)
        peers.apply(identity(1), "local-untrust", now_us=0)  # must still be told: stays longest
        for n in range(2, STRANGERS_LIMIT + 5):
            add(peers, n, at=n)
    assert peers.counts() == {"trusted": 1, "unknown": STRANGERS_LIMIT}
    assert peers.get(identity(2)) is None
    assert peers.get(identity(1)) is not None


def test_name_is_pinned_when_trust_begins_and_freed_when_it_ends(database: Database) -> None:
    peers = Peers(database)
    add(peers, 1, "ada")
    add(peers, 2, "ada")
    assert trust(peers, 1).pinned_name == "ada"
    assert trust(peers, 2).pinned_name is None
    assert find_peer(peers.all(), "ada").identity == identity(1)
    with pytest.raises(StateError) as caught:
        peers.pin_name(identity(2), "ada")
    assert caught.value.code == "name-taken"
    assert identity_text(identity(1)) in caught.value.message
    peers.pin_name(identity(2), "ada-two")
    peers.apply(identity(1), "remote-untrust", now_us=9)
    peers.pin_name(identity(2), "ada")
    assert find_peer(peers.all(), "ada").identity == identity(2)


def test_name_stays_pinned_when_the_record_claims_another(database: Database) -> None:
    peers = Peers(database)
    add(peers, 1, "ada")
    trust(peers, 1)
    add(peers, 1, "eve", order=(0, 0, 2))
    peer = peers.get(identity(1))
    assert peer is not None
    assert (peer.name, peer.claimed_name) == ("ada", "eve")


def test_name_is_pinned_by_the_first_record_of_a_peer_trusted_without_one(database: Database) -> None:
    peers = Peers(database)
    trust(peers, 1)
    add(peers, 1, "ada")
    peer = peers.get(identity(1))
    assert peer is not None
    assert peer.pinned_name == "ada"


def test_pin_name_needs_trust(database: Database) -> None:
    peers = Peers(database)
    add(peers, 1, "ada")
    for n in (1, 2):
        with pytest.raises(StateError) as caught:
            peers.pin_name(identity(n), "ada")
        assert caught.value.code == "not-trusted"


def test_find_by_everything_people_type(database: Database) -> None:
    peers = Peers(database)
    add(peers, 1, "ada")
    for text in (identity_text(identity(1)), address_text(ADDRESS), "ada", identity_text(identity(1))[:8]):
        assert find_peer(peers.all(), text).identity == identity(1)


@pytest.mark.parametrize("text", ["bob", "", "7f3a.91c0.d2e5", "aaaq", "zzzzzzzz", identity_text(identity(9))])
def test_find_of_an_unknown_peer_says_what_to_do(database: Database, text: str) -> None:
    peers = Peers(database)
    add(peers, 1, "ada")
    with pytest.raises(NotFoundError) as caught:
        find_peer(peers.all(), text)
    assert caught.value.code == "unknown-peer"
    assert caught.value.next_step.startswith("covey handshake")


@pytest.mark.parametrize(("text", "code"), [(address_text(ADDRESS), "ambiguous-address"), ("ada", "ambiguous-name")])
def test_find_of_several_lists_them_unless_one_is_trusted(database: Database, text: str, code: str) -> None:
    peers = Peers(database)
    add(peers, 1, "ada")
    add(peers, 2, "ada")
    with pytest.raises(LookupError) as caught:
        find_peer(peers.all(), text)
    assert isinstance(caught.value, NotFoundError)
    assert caught.value.code == code
    for n in (1, 2):
        assert identity_text(identity(n)) in caught.value.message
    trust(peers, 2)
    assert find_peer(peers.all(), text).identity == identity(2)


def test_find_two_trusted_at_one_address_is_ambiguous(database: Database) -> None:
    peers = Peers(database)
    for n in (1, 2):
        add(peers, n, f"name-{n}")
        trust(peers, n)
    with pytest.raises(NotFoundError, match="2 peers"):
        find_peer(peers.all(), address_text(ADDRESS))


def test_candidates_are_kept_best_first(database: Database) -> None:
    peers = Peers(database)
    add(peers, 1)
    endpoints = [("192.0.2.1", port) for port in range(1, 12)]
    peers.set_candidates(identity(1), endpoints)
    peers.set_log(identity(1), b"longer")
    peers.set_witnesses(identity(1), 3)
    peer = peers.get(identity(1))
    assert peer is not None
    assert peer.candidates == tuple(endpoints[:CANDIDATES_KEPT])
    assert (peer.log, peer.witnesses) == (b"longer", 3)


def test_all_filters_by_state(database: Database) -> None:
    peers = Peers(database)
    add(peers, 1)
    trust(peers, 2)
    peers.apply(identity(3), "remote-request", now_us=3)
    assert [peer.identity for peer in peers.all("trusted", "pending")] == [identity(2), identity(3)]
    assert len(peers.all()) == 3
    assert peers.forget(identity(2))
    assert not peers.forget(identity(2))
    assert peers.counts() == {"pending": 1, "unknown": 1}


def test_fork_is_kept_with_the_log_and_for_ever(database: Database) -> None:
    peers = Peers(database)
    assert peers.upsert(identity(1), now_us=1, address=ADDRESS, name="", order=(0, 0, 1), record=b"r1", log=b"log")
    assert not peers.all()[0].forked
    peers.set_log(identity(1), b"log", forked=True)
    peers.set_log(identity(1), b"longer log")
    add(peers, 1, order=(0, 0, 2))
    assert [(peer.log, peer.forked) for peer in peers.all()] == [(b"longer log", True)]


def test_fork_that_was_known_before_the_peer_is_kept_with_its_first_record(database: Database) -> None:
    peers = Peers(database)
    peers.upsert(
        identity(1), now_us=1, address=ADDRESS, name="", order=(0, 0, 1), record=b"r1", log=b"log", forked=True
    )
    assert peers.all()[0].forked
