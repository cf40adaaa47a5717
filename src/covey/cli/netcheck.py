"""`netcheck`: what the network around this machine allows, and what that means for each peer."""

from __future__ import annotations

from functools import partial

import typer

from covey.base.errors import CoveyError
from covey.base.schema import FindingView, ForetoldView, NetcheckView, PeerReachView
from covey.cli import launch, render
from covey.cli.command import Call, Outcome, command
from covey.cli.judgement import judgement

__all__ = ["netcheck", "register"]

_NATS = {
    "none": "no NAT",
    "full-cone": "a NAT that lets everybody in (full cone)",
    "address-restricted": "a NAT that keeps its ports and lets in those we sent to (address-restricted)",
    "port-restricted": "a NAT that keeps its ports and lets in those we sent to (port-restricted)",
    "cone": "a NAT that keeps its ports",
    "sequential": "a NAT that counts its ports up for every destination (symmetric, sequential)",
    "symmetric": "a NAT that takes any port for every destination (symmetric, random)",
    "udp-blocked": "UDP does not get out",
    "unknown": "not known",
}
_TOLD = {True: "yes", False: "no", None: "not measured"}


def register(app: typer.Typer) -> None:
    command(app, "netcheck")(netcheck)


def netcheck(call: Call) -> Outcome:
    """Find out what the network allows: direct paths, with whom, and why not.

    Works with the daemon running or not, within five seconds. Exits with 0 if nothing is worse than a note, with 11 for
    a warning and 12 for an error.
    """
    view = _from_daemon(call)
    if view is None:
        view = launch.ask(call, "netcheck", NetcheckView)
    return Outcome(view, partial(_show, view), error=judgement(view.findings))


def _from_daemon(call: Call) -> NetcheckView | None:
    """None if no daemon runs."""
    try:
        with call.client() as client:
            return client.post("/v1/netcheck", NetcheckView)
    except CoveyError as error:
        if error.code != "not-running":
            raise
        return None


def _show(view: NetcheckView) -> None:
    network = view.network
    problems = [each for each in view.findings if each.severity != "note"]
    render.verdict("degraded" if problems else "ok", _verdict(view))
    render.fields(
        [
            ("NAT", _NATS.get(view.nat, view.nat)),
            ("seen at", ", ".join(network.public)),
            ("UDP", _TOLD[network.udp]),
            ("IPv6", _TOLD[network.ipv6]),
            ("hairpin", _TOLD[network.hairpin] if view.nat != "none" else ""),
            ("port mapping", _mapping(view)),
            ("proxies", ", ".join(map(render.safe, view.proxies)) or "none in the environment"),
        ]
    )
    render.table(
        ("RENDEZVOUS", "UDP ms", "WEBSOCKET ms", "CLOCK", "PROBLEM"),
        [
            (
                render.safe(each.endpoint),
                _milliseconds(each.udp_ms),
                _milliseconds(each.websocket_ms),
                _clock(each.ahead_s) if each.udp_ms is not None else "-",
                "; ".join(filter(None, (render.safe(each.problem), render.safe(each.websocket_problem)))) or "-",
            )
            for each in view.rendezvous
        ],
        empty="no rendezvous to ask",
    )
    if view.foretold:
        render.line(f"direct paths with peers behind: {', '.join(map(_foretold, view.foretold))}")
    if view.daemon:
        _show_peers(view.peers)
    else:
        render.note("the daemon is not running: nothing is said of single peers")
    for each in view.unmeasured:
        render.line(f"not measured: {each}")
    render.findings(render.worst_first(view.findings))


def _mapping(view: NetcheckView) -> str:
    """What the router was asked for and gave, or else in which ways it could be asked."""
    given = [f"{each.external} by {each.method}" for each in view.network.port_mapping if each.external]
    refused = [f"none ({each.problem})" for each in view.network.port_mapping if each.problem]
    ways = [f"{gateway} offers {', '.join(names) or 'none'}" for gateway, names in (view.routers or {}).items()]
    return ", ".join(given or ways or refused)


def _verdict(view: NetcheckView) -> str:
    direct = sum(each.path == "direct" for each in view.peers)
    said = f"{_NATS.get(view.nat, view.nat)}; {_worst(view.findings)}"
    return f"{said}; {direct} of {len(view.peers)} peers direct" if view.peers else said


def _worst(findings: list[FindingView]) -> str:
    found = [each for each in findings if each.severity != "note"]
    return f"found {render.tally(found)}" if found else "nothing stands in the way of UDP"


def _show_peers(peers: list[PeerReachView]) -> None:
    render.table(
        ("PEER", "THEIR NAT", "POSSIBLE", "NOW", "WHY"),
        [
            (render.safe(each.name), each.nat, each.expected or "-", each.path or "none", each.why or "-")
            for each in peers
        ],
        empty="no trusted peers yet",
    )
    for each in peers:
        if each.change:
            render.line(f"{render.safe(each.name)}: {each.why_text} ({each.why}). Change: {render.safe(each.change)}")


def _foretold(each: ForetoldView) -> str:
    return f"{each.nat} {'yes' if each.why == 'direct' else f'no ({each.why})'}"


def _clock(ahead: float) -> str:
    if not ahead:
        return "agrees"
    return f"{abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
