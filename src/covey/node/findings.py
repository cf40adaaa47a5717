"""What this node would tell its owner unasked: what is degraded, and what to do about it.

`SOURCES` is the one list. A source looks at a running agent, without waiting for anything, and yields a `FindingView`
for each thing that is not as it should be; whoever adds a way to be degraded adds a source (or a finding to one) and
its code to the table in `docs/operations.md`, which a test holds against `CODES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from covey.base.reasons import change_for
from covey.base.schema import SEVERITIES, FindingView
from covey.base.types import identity_text
from covey.crypto.renewal import DELEGATE_US
from covey.node.clock import date_text
from covey.node.deposits import CUSTODIANS
from covey.node.storage.database import TROUBLES
from covey.node.storage.inbox import MESSAGES_LIMIT
from covey.wire import rendezvous as wire

if TYPE_CHECKING:
    from covey.node.agent import Agent
    from covey.node.storage import Peer

__all__ = ["CODES", "SOURCES", "findings"]

CODES: Final = (
    frozenset(
        {
            "clock-ahead",
            "clock-behind",
            "database-damaged",
            "database-restored",
            "inbox-filling",
            "introduction-open",
            "mailbox-damaged",
            "name-taken",
            "no-network",
            "no-relay-allowed",
            "operational-key-ends",
            "peer-revoked",
            "rendezvous-away",
            "rendezvous-contradiction",
            "rendezvous-silent",
            "rendezvous-stopping",
            "single-rendezvous",
            "trust-unsent",
            "trust-waits",
            "udp-blocked",
        }
    )
    | TROUBLES
)
"""Every code that a source may give."""

_NAMES: Final = 5
"""Names in one finding."""
_FILLING: Final = 0.8
"""The share of the inbox that may be unread before it is told."""
_TICKET_ONCE: Final = "covey daemon stop && covey up --network covey1..."


def findings(agent: Agent) -> list[FindingView]:
    """Everything, the worst first."""
    found = [finding for source in SOURCES for finding in source(agent)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _network(agent: Agent) -> Iterator[FindingView]:
    """Does it belong to one, and is it reached?"""
    if not agent.clients:
        what = "this agent belongs to no network"
        if any(peer.trust == "trusted" for peer in agent.book.all()):
            yield FindingView("no-network", "note", f"{what}: it finds peers only where it met them last", _TICKET_ONCE)
        else:
            yield FindingView("no-network", "warning", what, f"{_TICKET_ONCE}, or meet one agent: covey introduce")
        return
    away = [client for client in agent.clients if not client.connected]
    left = len(agent.clients) - len(away)
    lacking = "; until then a first contact has one witness, and relayed peers have nothing in reserve"
    for client in away:
        yield FindingView(
            "rendezvous-away",
            "error" if len(away) == len(agent.clients) else "warning",
            f"the rendezvous at {client.view().endpoint} is not connected ({client.problem}); trying again"
            + lacking * (left == 1),
            "check that it runs and that UDP to it is allowed: covey doctor",
        )


def _way_out(agent: Agent) -> Iterator[FindingView]:
    """Does UDP get through?"""
    connected = [client for client in agent.clients if client.connected]
    if connected and all(client.by_websocket for client in connected):
        yield FindingView(
            "udp-blocked",
            "warning",
            "no rendezvous answers over UDP, only over TCP 443: no path to a peer can be direct",
            change_for("udp-blocked", ""),
        )


def _relays(agent: Agent) -> Iterator[FindingView]:
    """Is there a relay that may carry its traffic?"""
    relays = agent.relays
    allowed = bool(relays.members()) or any(relays.allows(client.identity) for client in agent.clients)
    if relays.refused and not allowed:
        wanted = ", ".join(sorted(relays.policy.jurisdictions))
        yield FindingView(
            "no-relay-allowed",
            "warning",
            f"no relay says that it is in {wanted}, as `relay_jurisdictions` wants it, and {len(relays.refused)} "
            "elsewhere may not be used: peers without a direct path are not reached",
            "name where relays are: covey rendezvous --jurisdiction; or change relay_jurisdictions: covey config show",
        )


def _name(agent: Agent) -> Iterator[FindingView]:
    """Do others find it by its name?"""
    if any(client.connected and client.name_outcome == wire.NAME_TAKEN for client in agent.clients):
        yield FindingView(
            "name-taken",
            "warning",
            f"the name {agent.name} belongs to another agent of this network, so others find this one by address or "
            "identity only",
            "choose another: covey name NAME",
        )


def _witnesses(agent: Agent) -> Iterator[FindingView]:
    """Could a single server lie about names, and cut us off (PROTOCOL 24)?"""
    if len(agent.clients) == 1:
        yield FindingView(
            "single-rendezvous",
            "note",
            "one rendezvous: a first contact is protected by the safety number alone, and while it is away only peers "
            "that were met before are reached",
            "run a second one, covey rendezvous --join TICKET, and give its ticket to every agent",
        )


def _silence(agent: Agent) -> Iterator[FindingView]:
    """Is it connected but of no use?"""
    for client in agent.clients:
        if client.connected and (client.silent or client.draining):
            doing = "is about to stop" if client.draining else "does not answer"
            yield FindingView(
                "rendezvous-stopping" if client.draining else "rendezvous-silent",
                "note" if client.draining else "warning",
                f"the rendezvous at {client.view().endpoint} {doing}; the others are relied upon"
                if len(agent.clients) > 1
                else f"the rendezvous at {client.view().endpoint} {doing}",
                "wait until it is back" if client.draining else "look at it, or restart it: it may hang",
            )


_SAID: Final = {
    "invalid": "said what no honest rendezvous can: wrong signatures, or another agent than was asked for",
    "rollback": "gave an older record or key-event log of {peer} than it gave before",
    "behind": "gave an older record or key-event log of {peer} than another one had two hours ago",
    "two-records": "gave another record of {peer} than was seen elsewhere, of the same age",
    "fork": "gave another rotation of the keys of {peer} than is known",
}
_SAID_HINT: Final = {
    "invalid": "it is broken or lies: replace it by one you trust to run",
    "rollback": "if it was not restored from a backup, it lies: replace it",
    "behind": "if it goes on, see whether {peer} reaches this rendezvous; else it withholds: replace it",
    "two-records": "ask the owner of {peer}: a key of it is in two places",
    "fork": "ask the owner of {peer} for a new identity: a key of it is in foreign hands",
}


def _contradictions(agent: Agent) -> Iterator[FindingView]:
    """Did a rendezvous say what cannot be true?"""
    for found in agent.contradictions:
        client = next((each for each in agent.clients if each.identity == found.rendezvous), None)
        known = agent.book.get(found.peer) if found.peer is not None else None
        name = known.name if known is not None and known.name else identity_text(found.peer or found.rendezvous)
        where = client.view().endpoint if client is not None else identity_text(found.rendezvous)
        yield FindingView(
            "rendezvous-contradiction",
            "note" if found.kind == "behind" else "warning",
            f"the rendezvous at {where} {_SAID[found.kind].format(peer=name)} ({found.kind}, {found.count} times); "
            "it was not believed",
            _SAID_HINT[found.kind].format(peer=name),
        )


def _introduction(agent: Agent) -> Iterator[FindingView]:
    """Can somebody come in by a code?"""
    window = agent.introducer.window
    if window is not None and not window.outcome.done():
        left = max(0.0, window.until - agent.host.now())
        yield FindingView(
            "introduction-open",
            "note",
            f"a one-time code of this agent is good for {left:.0f} s more: whoever has it becomes a peer",
            "to make it worthless: covey introduce, then Ctrl-C",
        )


def _revoked(agent: Agent) -> Iterator[FindingView]:
    """Is somebody trusted whose identity is over?"""
    for peer in agent.book.all():
        log = agent.transport.endpoint.log_of(peer.identity) if peer.trust == "trusted" else None
        if log is not None and log.revoked:
            name = peer.name or identity_text(peer.identity)
            yield FindingView(
                "peer-revoked",
                "warning",
                f"the owner of {name} revoked its identity: it is not connected any more",
                f"covey untrust {name}",
            )


def _storage(agent: Agent) -> Iterator[FindingView]:
    """Can it keep what it promises?"""
    store, trouble = agent.files.store, agent.upkeep.storage_trouble
    if trouble is not None:
        yield FindingView(
            trouble.code,
            "error",
            f"nothing new is accepted, neither to be sent nor from peers, who keep it: {trouble.message}",
            trouble.next_step,
        )
    if store.restored:
        yield FindingView(
            "database-restored",
            "note",
            "the database is a copy, or lost its log, since the last run: what was received after it was made is gone, "
            "though its senders were told that it was delivered; queued messages were numbered anew",
            "trust is as it was then too, so look at covey peers; the note goes with the next start",
        )
    if store.damaged is not None:
        lost = (
            "a new one was begun: earlier trust and messages are in the old one only, and so is the memory of what was "
            "received, so that a message may come a second time"
        )
        yield FindingView(
            "database-damaged",
            "warning" if store.begun_anew else "note",
            f"a damaged database was moved to {store.damaged}; {lost if store.begun_anew else 'another was restored'}",
            f"when you are done with it: rm {store.damaged}*",
        )


def _waiting(agent: Agent) -> Iterator[FindingView]:
    """Is there somebody who does not know yet what was said to it about trust?"""
    waiting = [peer for peer in agent.book.all() if peer.action is not None]
    sealed = [(peer, deposit) for peer in waiting if (deposit := agent.deposits.of(peer)) is not None]
    if sealed:
        single = any(len(deposit.custodians) < CUSTODIANS for _, deposit in sealed)
        where = ", some of it at one rendezvous only, and lost with it" if single else ""
        yield FindingView(
            "trust-waits",
            "note",
            f"what was said about trust waits, sealed, until they are up: {_names(peer for peer, _ in sealed)}{where}",
            "covey peers",
        )
    kept = {peer.identity for peer, _ in sealed}
    unsent = [peer for peer in waiting if peer.identity not in kept and agent.mail.problem(peer.identity)]
    if unsent:
        yield FindingView(
            "trust-unsent",
            "warning",
            f"what was said about trust could not be brought yet, nor left at a rendezvous: {_names(unsent)} "
            f"({agent.mail.problem(unsent[0].identity)})",
            "keep this agent up, and see: covey peers",
        )


def _names(peers: Iterable[Peer]) -> str:
    names = [peer.name or identity_text(peer.identity) for peer in peers]
    return ", ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")


def _mailbox(agent: Agent) -> Iterator[FindingView]:
    """Could it read what waited for it?"""
    aside = agent.mailbox.damaged
    if aside:
        yield FindingView(
            "mailbox-damaged",
            "note",
            f"the mailbox keys were damaged and moved to {aside}; letters that were sealed to them are lost, and their "
            "senders repeat them",
            f"rm {aside}",
        )


def _clock(agent: Agent) -> Iterator[FindingView]:
    """Is the time that we work with the one that the machine shows, and has it gone steadily?"""
    clock, wall_us = agent.clock, agent.host.wall_us()
    if clock.behind_us:
        yield FindingView(
            "clock-behind",
            "error",
            f"this machine's clock shows {date_text(wall_us)}, but it has been {date_text(clock.certain_us)} already, "
            "so that is what is used; what is signed now may be refused elsewhere",
            "set the clock; if it is right: covey daemon stop && covey daemon start --trust-clock",
        )
    elif clock.jumped_us:
        yield FindingView(
            "clock-ahead",
            "warning",
            f"this machine's clock jumped ahead, from about {date_text(clock.certain_us)} to {date_text(wall_us)}; it "
            "is used, and believed for good within a day",
            "set the clock, if that is wrong: others refuse what it signs",
        )


def _keys(agent: Agent) -> Iterator[FindingView]:
    """Will they renew themselves?"""
    credentials, now_us = agent.credentials, agent.now_us()
    left_us = credentials.delegation.until_us - now_us
    if credentials.root is None and left_us < DELEGATE_US:
        days = left_us / 86_400_000_000
        yield FindingView(
            "operational-key-ends",
            "error" if left_us <= 0 else "warning",
            "the operational key is over: peers refuse this agent"
            if days <= 0
            else f"{days:.1f} days are left of the "
            "operational key, and the root key, which alone can name another, is not here",
            "bring the root key back: covey key show",
        )


def _inbox(agent: Agent) -> Iterator[FindingView]:
    """Is there room for what arrives? Read messages make room by themselves."""
    unread = agent.mail.unread
    if unread > MESSAGES_LIMIT * _FILLING:
        yield FindingView(
            "inbox-filling",
            "error" if unread >= MESSAGES_LIMIT else "warning",
            f"{unread:,} of at most {MESSAGES_LIMIT:,} messages are unread; when it is full, senders are refused",
            "read and acknowledge them: covey inbox --follow --ack",
        )


SOURCES: Final[tuple[Callable[[Agent], Iterable[FindingView]], ...]] = (
    _storage,
    _mailbox,
    _network,
    _way_out,
    _silence,
    _relays,
    _contradictions,
    _revoked,
    _introduction,
    _name,
    _witnesses,
    _waiting,
    _clock,
    _keys,
    _inbox,
)
