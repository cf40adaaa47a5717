"""What a measured network means: for direct paths with peers, and for whoever has to change something about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast

from covey.base.reasons import change_for, reason
from covey.base.schema import (
    FindingView,
    ForetoldView,
    NatBehaviour,
    NatPorts,
    NetcheckView,
    NetworkView,
    ObserverView,
    PeerReachView,
    PeerView,
    ReachView,
)
from covey.base.types import endpoint_text
from covey.core.why import foretell, nat_kind
from covey.node.nat import word
from covey.node.netcheck import Family, Measured, WebSocketTried
from covey.node.reach import Reached, clock_finding
from covey.wire.control import Candidate, CandidateKind, Candidates, Filtering, NatTraits, Ports
from covey.wire.control import Mapping as NatMapping

__all__ = ["CODES", "netcheck_view", "own_candidates", "peer_reach", "proxies"]

CODES: Final = (
    "no-network",
    "other-family",
    "offline",
    "names-not-found",
    "nobody-answers",
    "udp-blocked",
    "rendezvous-silent",
    "hard-nat",
)
"""Of the findings made here; those about the clock are the doctor's."""

_EASY, _HARD = NatMapping.ENDPOINT_INDEPENDENT, NatMapping.ADDRESS_AND_PORT_DEPENDENT
_OTHERS: Final = (
    NatTraits(NatMapping.NONE, Filtering.NONE, Ports.PRESERVED),
    NatTraits(_EASY, Filtering.ENDPOINT_INDEPENDENT),
    NatTraits(_EASY, Filtering.ADDRESS_AND_PORT_DEPENDENT),
    NatTraits(_HARD, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.SEQUENTIAL, 1),
    NatTraits(_HARD, Filtering.ADDRESS_AND_PORT_DEPENDENT, Ports.RANDOM),
    NatTraits(NatMapping.BLOCKED),
)
"""What a peer may be behind."""
_SOMEWHERE: Final = {4: "192.0.2.1", 6: "fd00::1"}
"""Where such a peer is: addresses that lead nowhere (RFC 5737, RFC 4193)."""
_SCHEME: Final = re.compile(r"[A-Za-z0-9+.-]+://")
_PROXIES: Final = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


def netcheck_view(
    found: Measured, environment: Mapping[str, str], *, network: NetworkView | None = None, consents: bool = True
) -> NetcheckView:
    """`network`: what the running daemon knows of the same, for what only it has (candidates, port mapping)."""
    traits = _traits(found)
    measured = _network(found, traits, network)
    own = own_candidates(found, consents=consents)
    return NetcheckView(
        daemon=network is not None,
        nat=nat_kind(traits),
        network=measured,
        rendezvous=_reached(found),
        proxies=proxies(environment),
        routers=found.routers,
        foretold=_foretold(own),
        unmeasured=_unmeasured(found, traits, measured),
        findings=_findings(found, traits),
        elapsed_ms=round(found.seconds * 1000, 1),
    )


def own_candidates(found: Measured, *, consents: bool) -> Candidates:
    """What peers would be told, as far as it matters for what is foretold."""
    items = []
    for family in (found.four, found.six):
        if family.source is not None and family.surroundings.udp:
            items.append(Candidate(CandidateKind.HOST, (family.source, 1)))
        items += [Candidate(CandidateKind.REFLEXIVE, each.seen) for each in family.surroundings.observations]
    return Candidates(tuple(items), _traits(found), consents)


def peer_reach(view: PeerView, own: Candidates, peer: Candidates | None) -> PeerReachView:
    """`peer`: what it told of itself; None if there is no session with it."""
    active = next((path.kind for path in view.paths if path.active and view.connected), "")
    expected = active if active == "direct" else foretell(own, peer) if peer is not None and active else ""
    return PeerReachView(
        identity=view.identity,
        name=view.name,
        path=active,  # type: ignore[arg-type]
        nat=nat_kind(peer.traits) if peer is not None and active else "unknown",
        expected=expected,
        why=view.why,
        why_text=view.why_text,
        change=view.change,
    )


def proxies(environment: Mapping[str, str]) -> list[str]:
    """The proxies that the environment names, without credentials."""
    found = []
    for variable in _PROXIES:
        text = environment.get(variable, "").strip()
        if text:
            scheme = _SCHEME.match(text)
            rest = text[scheme.end() :] if scheme else text
            found.append(f"{variable}={scheme[0] if scheme else ''}{rest.rpartition('@')[2]}")
    return found


def _reached(found: Measured) -> list[ReachView]:
    tried = {each.identity: each for each in found.websockets}
    views = []
    for each in found.rendezvous:
        websocket = tried.get(each.identity, WebSocketTried(each.identity))
        views.append(
            ReachView(
                identity=each.identity,
                endpoint=each.endpoint,
                udp_ms=_shortest(each, found),
                websocket_ms=websocket.milliseconds,
                ahead_s=each.ahead_us / 1e6,
                problem=each.problem,
                websocket_problem=websocket.problem,
            )
        )
    return views


def _shortest(reached: Reached, found: Measured) -> float | None:
    """The rendezvous' own work, and ours, are in every measurement: the shortest has the least of it."""
    seen = [*found.four.surroundings.observations, *found.six.surroundings.observations]
    times = [round(each.rtt * 1000, 3) for each in seen if endpoint_text(each.observer) == reached.endpoint]
    return min([*times, reached.rtt_ms]) if reached.rtt_ms is not None else None


def _traits(found: Measured) -> NatTraits:
    """Those of IPv4, which has the NATs; of IPv6 where there is nothing else."""
    for family in (found.four, found.six):
        if family.surroundings.udp:
            return family.surroundings.traits
    return NatTraits(NatMapping.BLOCKED) if _udp_blocked(found) else NatTraits()


def _udp(found: Measured) -> bool:
    return (
        found.four.surroundings.udp
        or found.six.surroundings.udp
        or any(each.rtt_ms is not None for each in found.rendezvous)
    )


def _udp_blocked(found: Measured) -> bool:
    """Nobody answers over UDP, and somebody does otherwise."""
    return not _udp(found) and any(each.milliseconds is not None for each in found.websockets)


def _network(found: Measured, traits: NatTraits, known: NetworkView | None) -> NetworkView:
    seen = [each for family in (found.four, found.six) for each in family.surroundings.observations]
    asked = found.four.asked or found.six.asked
    hairpin = found.four.surroundings.hairpin
    return NetworkView(
        mapping=cast(NatBehaviour, word(traits.mapping)),
        filtering=cast(NatBehaviour, word(traits.filtering)),
        ports=cast(NatPorts, word(traits.ports)),
        step=traits.step,
        udp=_udp(found) if asked else None,
        hairpin=hairpin if hairpin is not None or known is None else known.hairpin,
        ipv6=found.six.surroundings.udp or found.six.elsewhere or (known is not None and known.ipv6),
        public=list(dict.fromkeys(each.seen[0] for each in seen)),
        observers=[
            ObserverView(each.kind, endpoint_text(each.observer), endpoint_text(each.seen), round(each.rtt * 1000, 3))
            for each in seen
        ],
        port_mapping=known.port_mapping if known is not None else [],
        candidates=known.candidates if known is not None else [],
        birthday=known.birthday if known is not None else False,
        measured=known.measured if known is not None else None,
    )


def _foretold(own: Candidates) -> list[ForetoldView]:
    families = {6 if ":" in each.endpoint[0] else 4 for each in own.items} or {4}
    where = tuple(Candidate(CandidateKind.REFLEXIVE, (_SOMEWHERE[each], 1)) for each in families)
    told = []
    for traits in _OTHERS if own.items else ():
        why = foretell(own, Candidates(where, traits, consents=True))
        told.append(ForetoldView(nat_kind(traits), why, reason(why).says))
    return told


def _unmeasured(found: Measured, traits: NatTraits, network: NetworkView) -> list[str]:
    if not found.rendezvous:
        return ["anything: there is no network, so there is nobody to ask"]
    if not _udp(found):
        return ["NAT, hairpin and IPv6: no rendezvous answered over UDP"]
    missing = []
    if traits.mapping is NatMapping.UNKNOWN:
        missing.append("which ports the NAT takes: only one rendezvous answered, at one port")
    if traits.filtering is Filtering.UNKNOWN and traits.mapping in (NatMapping.NONE, _EASY):
        missing.append("whose packets are let in: that takes a rendezvous with a second port, or a second rendezvous")
    if network.hairpin is None and traits.mapping is not NatMapping.NONE:
        missing.append("hairpin: it takes a NAT that shows everybody one port")
    if not found.websockets:
        missing.append("TCP 443: the ticket names no rendezvous that serves WebSockets")
    for name, family in (("IPv4", found.four), ("IPv6", found.six)):
        if family.asked and not family.surroundings.udp:
            missing.append(f"{name}: the rendezvous' addresses of this family do not answer")
    if not found.six.asked:
        missing.append(f"IPv6: {_why_not_6(found.six)}")
    return missing


def _why_not_6(family: Family) -> str:
    if family.addressed:
        return "no way out of this machine over it"
    return "no rendezvous has an IPv6 address" + (", this machine has" if family.elsewhere else "")


def _findings(found: Measured, traits: NatTraits) -> list[FindingView]:
    answered = [each for each in found.rendezvous if each.rtt_ms is not None]
    told = [] if answered else [_nobody(found)]
    if answered:
        for each in found.rendezvous:
            if each.rtt_ms is None:
                what = f"the rendezvous at {each.endpoint} does not answer over UDP ({each.problem})"
                told.append(FindingView("rendezvous-silent", "warning", what, "see that it runs: covey doctor"))
    told += [finding for each in answered if (finding := clock_finding(each)) is not None]
    if nat_kind(traits) == "symmetric":
        what = "the NAT takes a new, unforeseeable port for every destination: some peers will stay on a relay (below)"
        told.append(FindingView("hard-nat", "note", what, reason("hard-hard").change))
    return told


def _nobody(found: Measured) -> FindingView:
    """The most likely cause of no answer over UDP."""
    if not found.rendezvous and not found.unresolved:
        hint = "covey up --network covey1..."
        return FindingView("no-network", "warning", "this agent belongs to no network: there is nobody to ask", hint)
    if found.unresolved and not found.four.addressed and not found.six.addressed:
        names = ", ".join(sorted(set(found.unresolved)))
        what = f"the names of the rendezvous cannot be looked up: {names}"
        return FindingView("names-not-found", "error", what, "check this machine's DNS: getent hosts NAME")
    for family, theirs, ours in ((found.six, "IPv4", "IPv6"), (found.four, "IPv6", "IPv4")):
        if family.elsewhere and not found.four.asked and not found.six.asked:
            what = f"the rendezvous have {theirs} addresses only, and this machine has a way out over {ours} only"
            hint = f"give a rendezvous an {ours} address too: covey rendezvous --advertise, then its ticket to all"
            return FindingView("other-family", "error", what, hint)
    if not found.four.asked and not found.six.asked:
        return FindingView(
            "offline", "error", "no packet can leave this machine towards a rendezvous", "check its network: ip route"
        )
    if _udp_blocked(found):
        what = f"no rendezvous answers over UDP, but over TCP 443: {reason('udp-blocked').says}"
        return FindingView("udp-blocked", "warning", what, change_for("udp-blocked", ""))
    what = "no rendezvous answers: none of them runs, or the network between drops UDP"
    return FindingView(
        "nobody-answers", "error", what, "covey netcheck from another network tells which; here allow outbound UDP"
    )
