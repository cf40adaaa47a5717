"""The node's inner values as the structures of `base.schema`."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata
from typing import Final, cast

from covey.base.errors import CoveyError
from covey.base.reasons import change_for, reason
from covey.base.schema import (
    ErrorView,
    IntroductionState,
    IntroductionView,
    MessageView,
    PathView,
    PeerView,
    SendResult,
    SendView,
    Told,
)
from covey.base.types import Endpoint, Identity, address_text, endpoint_text, identity_text
from covey.core.connection import Connection
from covey.core.why import path_reason
from covey.crypto.safety import safety_number
from covey.node.introducer import Meeting
from covey.node.storage import Deposit, InboxMessage, Peer

__all__ = [
    "introduction_view",
    "message_view",
    "paths",
    "peer_view",
    "pid",
    "safety_digits",
    "send_view",
    "told",
    "version",
]

_INTRODUCTION_ENDS: Final[dict[str, IntroductionState]] = {"window-expired": "expired", "window-closed": "closed"}


@cache
def version() -> str:
    """Of the installed package; `0+unknown` for a tree that was never installed."""
    try:
        return metadata.version("covey")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def pid() -> int:
    return os.getpid()


def safety_digits(peer: Identity, own: Identity) -> str:
    """The safety number without its blanks: 60 digits."""
    return safety_number(own, peer).replace(" ", "")


def paths(
    connection: Connection, now: float, wall: float, relay_at: Callable[[Endpoint], str] = lambda _: "rendezvous"
) -> list[PathView]:
    """Every path of the session that carries the connection. `now` is monotonic, `wall` the same as epoch seconds.
    `relay_at` names the relay at an endpoint."""
    session = connection.session
    if session is None:
        return []
    found = []
    for path in session.paths:
        rtt = path.recovery.rtt
        sent = max(path.sent_bytes, 1)
        active = path is session.active
        found.append(
            PathView(
                kind="relay" if path.route.relayed else "direct",
                remote=endpoint_text(path.route.remote),
                active=active,
                rtt_ms=round(rtt.smoothed * 1000, 3) if rtt.sampled else None,
                mtu=path.mtu,
                loss=round(path.recovery.lost_bytes / sent, 4),
                sent_bytes=path.sent_bytes,
                received_bytes=path.received_bytes,
                reason=path_reason(now, connection, path),
                since=round(wall - (now - path.made_at), 3),
                transport="websocket" if path.route.websocket else "udp",
                label=path.interconnect or "",
                cost=path.cost,
                relay=relay_at(path.route.remote) if path.route.relayed else "",
            )
        )
    return found


def _why(connected: bool, ways: list[PathView], unreachable: str) -> str:
    """The reason that counts for the peer as a whole. `unreachable`: why the last search for it found nothing."""
    if connected:
        return next((path.reason for path in ways if path.active), "")
    return unreachable


def _change(why: str, peer: Peer) -> str:
    name = peer.name or identity_text(peer.identity)[:8]
    if why == "not-trusted" and peer.trust == "pending":
        return f"covey approve {name}"
    if why == "not-trusted" and peer.trust == "requested":
        return f"wait for its answer; on the machine of {name}: covey approve"
    return change_for(why, name)


def told(peer: Peer, deposit: Deposit | None) -> Told:
    """Where our last word about trust is. `deposit`: where it waits, if it does."""
    if peer.action is not None:
        return "queued" if deposit is None else "sealed"
    return "delivered" if peer.trust in ("requested", "trusted", "rejected") else ""


def peer_view(
    peer: Peer,
    own: Identity,
    connection: Connection | None,
    ways: list[PathView],
    *,
    queued: int,
    rendezvous: int,
    deposit: Deposit | None = None,
    custodians: Mapping[Identity, str] | None = None,
    problem: str = "",
    unreachable: str = "",
) -> PeerView:
    """`ways`: its `paths`. `rendezvous`: how many could have answered for its name at first contact. `custodians`:
    rendezvous' endpoints by identity. `problem`: why what waits for the peer waits. `unreachable`: why the last search
    for it found nothing, a code."""
    where = told(peer, deposit)
    warning = ""
    if peer.trust in ("pending", "requested"):
        if rendezvous < 2:
            warning = "first contact: compare the safety number with the other side before you rely on it"
        elif peer.trust == "requested" and peer.witnesses == 1:
            warning = (
                f"only one of {rendezvous} rendezvous answered for this name: compare the safety number with the other "
                "side before you rely on it"
            )
    session = connection.session if connection is not None else None
    connected = session is not None and session.verified and connection is not None and connection.stalled_at is None
    why = _why(connected, ways, unreachable or ("idle" if peer.trust == "trusted" else ""))
    return PeerView(
        identity=identity_text(peer.identity),
        address=address_text(peer.address) if peer.address else "",
        name=peer.name,
        trust=peer.trust,
        safety_number=safety_number(own, peer.identity),
        connected=connected,
        paths=ways,
        reason=peer.reason,
        since=peer.since_us / 1e6,
        queued=queued,
        witnesses=peer.witnesses,
        warning=warning,
        told=where,
        told_at=[(custodians or {}).get(each, identity_text(each)) for each in deposit.custodians] if deposit else [],
        told_until=deposit.until_us / 1e6 if deposit else None,
        told_problem=problem if where == "queued" else "",
        why=why,
        why_text=reason(why).says if why else "",
        change=_change(why, peer) if why else "",
    )


def introduction_view(
    window: Meeting, *, expires: float, peer: PeerView | None, error: CoveyError | None, code: str
) -> IntroductionView:
    """`code` is told once, to whoever opened the window; "" for everybody else."""
    state: IntroductionState = "open"
    if peer is not None:
        state = "introduced"
    elif error is not None:
        state = _INTRODUCTION_ENDS.get(error.code, "failed")
    return IntroductionView(
        state=state,
        code=code,
        invitation=f"{code}@{','.join(window.places)}" if code else "",
        places=list(window.places),
        expires=expires,
        peer=peer,
        problem=ErrorView(error.code, error.message, error.next_step) if error is not None else None,
    )


def send_view(id: bytes, peer: Peer, outcome: str, elapsed_ms: float) -> SendView:
    """`outcome` is the result, a space, and the reason (or nothing)."""
    result, _, reason = outcome.partition(" ")
    return SendView(
        id=id.hex(),
        peer=identity_text(peer.identity),
        name=peer.name,
        result=cast(SendResult, result),
        reason=reason,
        elapsed_ms=elapsed_ms,
    )


def message_view(row: InboxMessage, sender_name: str) -> MessageView:
    body = base64.b64encode(row.body).decode() if row.type == "binary" else row.body.decode("utf-8", "replace")
    return MessageView(
        number=row.number,
        id=row.id.hex(),
        sender=identity_text(row.sender),
        sender_name=sender_name,
        type=row.type,
        received=row.received_us / 1e6,
        size=row.size,
        body=body,
        acknowledged=row.acknowledged,
    )
