"""Why the paths of a session are what they are, and what two networks allow: codes of `base.reasons`.

Nothing is decided here; it only looks. `foretell` is the theory (what two NATs allow when nothing else interferes),
`path_reason` what is the case, explained by the theory where that says no.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Final

from covey.core import limits
from covey.core.connection import Connection
from covey.core.path import Path
from covey.core.paths import Paths
from covey.wire.control import CandidateKind, Candidates, Filtering, Mapping, NatTraits, Ports

__all__ = ["foretell", "nat_kind", "path_reason"]

_INTRODUCING_SECONDS: Final = 2.0
"""How long after the first path the candidates of a peer may still be on their way."""

_UNIQUE_LOCAL: Final = ip_network("fc00::/7")

_HARD: Final = (Mapping.ADDRESS_DEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT)
_LETS_STRANGERS_IN: Final = (Filtering.NONE, Filtering.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT)
"""What passes a packet from a port that nobody could foresee; ours, if we sent to its address."""

_FILTERINGS: Final = {
    Filtering.ENDPOINT_INDEPENDENT: "full-cone",
    Filtering.ADDRESS_DEPENDENT: "address-restricted",
    Filtering.ADDRESS_AND_PORT_DEPENDENT: "port-restricted",
}


def nat_kind(traits: NatTraits) -> str:
    """What people call it: `none`, `full-cone`, `port-restricted`, `symmetric`, `sequential`..., `unknown`."""
    match traits.mapping:
        case Mapping.UNKNOWN:
            return "unknown"
        case Mapping.NONE:
            return "none"
        case Mapping.BLOCKED:
            return "udp-blocked"
        case Mapping.ENDPOINT_INDEPENDENT:
            return _FILTERINGS.get(traits.filtering, "cone")
    return "sequential" if _foreseeable(traits) else "symmetric"


def foretell(own: Candidates, peer: Candidates) -> str:
    """`direct` if two agents with these networks can have a direct path, else the code of what stands in the way.

    `nat-unknown` if what was measured does not tell.
    """
    if own.traits.mapping is Mapping.BLOCKED:
        return "udp-blocked"
    if peer.traits.mapping is Mapping.BLOCKED:
        return "peer-udp-blocked"
    if not peer.items:
        return "no-candidate"
    if own.items and not _families(own) & _families(peer):
        return "no-common-family"
    if _reachable(own) or _reachable(peer):
        return "direct"
    if _routable_6(own) and _routable_6(peer):
        return "direct"  # behind firewalls, perhaps; not behind NATs
    if _behind_one_nat(own, peer):
        return "direct"  # by their private addresses, or through the NAT's hairpin
    if Mapping.UNKNOWN in (own.traits.mapping, peer.traits.mapping):
        return "nat-unknown"
    hard = [each for each in (own, peer) if each.traits.mapping in _HARD]
    if not hard or all(_foreseeable(each.traits) for each in hard):
        return "direct"
    if len(hard) == 2:
        return "hard-hard"
    easy = peer if hard[0] is own else own
    if easy.traits.filtering in _LETS_STRANGERS_IN:
        return "direct"
    if not own.consents:
        return "birthday-off"
    return "direct" if peer.consents else "peer-birthday-off"


def path_reason(now: float, connection: Connection, path: Path) -> str:
    """Why `path`, one of those of the session that carries `connection`, is used as it is."""
    session = connection.session
    if path.suspect:
        return "suspect"
    if session is None or path is not session.active:
        if session is not None and path is session.paths.bulk:
            return "bulk"
        return "standby" if connection.may_use(path) else "policy"
    if not path.route.relayed:
        return "direct"
    return _relay_reason(now, connection, session.paths)


def _relay_reason(now: float, connection: Connection, paths: Paths) -> str:
    """Why the data is relayed: why there is no direct path."""
    if not connection.direct:
        return "not-trusted"
    if not connection.may_use(paths.active):
        return "direct-only"
    if any(not path.route.relayed and not path.suspect for path in paths):
        order = connection.rule.order
        return "relay-only" if order and order[0].startswith("relay") else "policy"
    own, peer = paths.candidates_sent, Candidates(paths.remote_candidates, paths.remote_traits, paths.remote_consents)
    foretold = foretell(own, peer)
    if foretold == "no-candidate" and now < paths.active.made_at + _INTRODUCING_SECONDS:
        return "probing"
    if foretold not in ("direct", "nat-unknown"):
        return foretold
    if paths.proving.probing:
        return "probing"
    if paths.proving.narrow:
        return "mtu"
    if paths.proving.guessing.failed(now):
        return "birthday-failed"
    if now > connection.last_used + limits.ACTIVE_SECONDS:
        return "idle"
    if _behind_one_nat(own, peer):
        return "no-hairpin"
    return "peer-silent" if foretold == "direct" else "nat-unknown"


def _foreseeable(traits: NatTraits) -> bool:
    """The port of a hard NAT's next mapping can be guessed closely (`core/birthday.py`)."""
    return traits.ports in (Ports.SEQUENTIAL, Ports.PRESERVED)


def _reachable(side: Candidates) -> bool:
    """Somebody vouches that packets which nobody asked for arrive: a mapping, a declared address, no NAT at all."""
    if side.traits.mapping is Mapping.NONE and side.traits.filtering in _LETS_STRANGERS_IN:
        return True
    return any(each.kind in (CandidateKind.MAPPED, CandidateKind.DECLARED) for each in side.items)


def _families(side: Candidates) -> set[int]:
    return {6 if ":" in each.endpoint[0] else 4 for each in side.items}


def _routable_6(side: Candidates) -> bool:
    """It has an IPv6 address that is good beyond its own network."""
    hosts = [ip_address(each.endpoint[0]) for each in side.items if ":" in each.endpoint[0]]
    return any(host not in _UNIQUE_LOCAL and not host.is_link_local and not host.is_loopback for host in hosts)


def _behind_one_nat(one: Candidates, two: Candidates) -> bool:
    if Mapping.NONE in (one.traits.mapping, two.traits.mapping):
        return False
    return bool(_seen_at(one) & _seen_at(two))


def _seen_at(side: Candidates) -> set[str]:
    return {each.endpoint[0] for each in side.items if each.kind is CandidateKind.REFLEXIVE}
