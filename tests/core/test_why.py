"""What two networks allow, as a table; what is the case is tested where paths are (`test_paths.py`, `tests/sim`)."""

from __future__ import annotations

import pytest

from covey.base.reasons import REASONS
from covey.core.why import foretell, nat_kind
from covey.wire.control import Candidate, CandidateKind, Candidates, Filtering, Mapping, NatTraits, Ports

EASY, HARD = Mapping.ENDPOINT_INDEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT
KINDS = {
    "none": NatTraits(Mapping.NONE, Filtering.NONE, Ports.PRESERVED),
    "full-cone": NatTraits(EASY, Filtering.ENDPOINT_INDEPENDENT),
    "address-restricted": NatTraits(EASY, Filtering.ADDRESS_DEPENDENT),
    "port-restricted": NatTraits(EASY, Filtering.ADDRESS_AND_PORT_DEPENDENT),
    "sequential": NatTraits(HARD, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.SEQUENTIAL, 1),
    "symmetric": NatTraits(HARD, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.RANDOM),
    "unknown": NatTraits(),
    "udp-blocked": NatTraits(Mapping.BLOCKED),
}
EXPECTED = {
    ("port-restricted", "port-restricted"): "direct",
    ("port-restricted", "symmetric"): "birthday-off",
    ("symmetric", "port-restricted"): "birthday-off",
    ("port-restricted", "sequential"): "direct",
    ("sequential", "sequential"): "direct",
    ("sequential", "symmetric"): "hard-hard",
    ("symmetric", "symmetric"): "hard-hard",
    ("symmetric", "address-restricted"): "direct",
    ("symmetric", "full-cone"): "direct",
    ("symmetric", "none"): "direct",
    ("symmetric", "unknown"): "nat-unknown",
    ("unknown", "none"): "direct",
    ("udp-blocked", "none"): "udp-blocked",
    ("none", "udp-blocked"): "peer-udp-blocked",
}


def side(kind: str, host: str, *, consents: bool = False, how: CandidateKind = CandidateKind.REFLEXIVE) -> Candidates:
    return Candidates((Candidate(how, (host, 4040)),), KINDS[kind], consents)


@pytest.mark.parametrize(("own", "peer"), EXPECTED)
def test_kinds_of_nat_allow(own: str, peer: str) -> None:
    assert foretell(side(own, "192.0.2.1"), side(peer, "198.51.100.1")) == EXPECTED[own, peer]


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [(True, True, "direct"), (True, False, "peer-birthday-off"), (False, True, "birthday-off")],
)
def test_birthday_needs_both_sides_consent(here: bool, there: bool, expected: str) -> None:
    own, peer = side("symmetric", "192.0.2.1", consents=here), side("port-restricted", "198.51.100.1", consents=there)
    assert foretell(own, peer) == expected


@pytest.mark.parametrize("how", [CandidateKind.MAPPED, CandidateKind.DECLARED])
def test_mapped_or_declared_address_makes_the_hardest_pair_direct(how: CandidateKind) -> None:
    assert foretell(side("symmetric", "192.0.2.1", how=how), side("symmetric", "198.51.100.1")) == "direct"


def test_both_behind_one_nat_meet_inside() -> None:
    assert foretell(side("symmetric", "192.0.2.1"), side("symmetric", "192.0.2.1")) == "direct"


def test_ipv6_on_both_sides_needs_no_nat_to_be_easy() -> None:
    assert foretell(side("symmetric", "2001:db8::1"), side("symmetric", "2001:db8:1::1")) == "direct"


def test_no_family_in_common() -> None:
    assert foretell(side("none", "192.0.2.1"), side("none", "2001:db8::1")) == "no-common-family"


def test_peer_without_address() -> None:
    assert foretell(side("none", "192.0.2.1"), Candidates()) == "no-candidate"


@pytest.mark.parametrize("kind", KINDS)
def test_kind_is_named_as_people_name_it(kind: str) -> None:
    assert nat_kind(KINDS[kind]) == kind


def test_every_verdict_is_in_the_table() -> None:
    sides = [side(kind, host, consents=yes) for kind in KINDS for host in ("192.0.2.1", "::1") for yes in (True, False)]
    assert {foretell(one, two) for one in sides for two in sides} <= set(REASONS)
