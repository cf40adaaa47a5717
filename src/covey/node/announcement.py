"""What this node says about itself: its keys, its signed record, and where it may be reached directly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from covey.base.declared import Declared
from covey.base.paths import Home
from covey.crypto.certificates import CLOCK_SKEW_US
from covey.crypto.credentials import Credentials
from covey.crypto.record import NO_MAILBOX, RECORD_LIFE_US, Record
from covey.crypto.record import Home as RecordHome
from covey.crypto.renewal import renewed
from covey.net.host import Host
from covey.node.homes import HOMES, choose_homes
from covey.node.rendezvous_client import RendezvousClient
from covey.node.storage import save
from covey.node.transport import Transport
from covey.wire.control import Candidate, CandidateKind, NatTraits
from covey.wire.rendezvous import Signed
from covey.wire.ticket import Ticket

__all__ = ["Announcement", "renew"]

_ANY: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_INTERFACES_LIMIT: Final = 8
"""Addresses of our interfaces that peers are told, of each family."""
_FRESH_US: Final = 3600 * 1_000_000
"""Age at which a record that nobody takes is made anew, microseconds; one that is published is made every 5 min."""


class Announcement:
    """`transport.endpoint.credentials` is what it speaks for."""

    def __init__(self, transport: Transport, *, name: str, ticket: Ticket | None, now_us: Callable[[], int]) -> None:
        self._transport = transport
        self.name = name
        """What this agent calls itself."""
        self.homes = [entry.identity for entry in (ticket.entries[:HOMES] if ticket else ())]
        """Rendezvous that the record names as those to ask for us, at most two."""
        self.mailbox_key_id = NO_MAILBOX
        """Of the key that letters may be sealed to."""
        self.traits = NatTraits()
        """What our NAT does, as far as it was measured."""
        self.consents = False
        """Trusted peers may look for our port by birthday probing."""
        self.declared: tuple[Declared, ...] = ()
        """What the operator says that leads to us."""
        self._now_us = now_us
        self._sequence = 0
        self.clients: Sequence[RendezvousClient] = ()
        """Those who see us."""
        self._found: dict[str, tuple[Candidate, ...]] = {}

    def signed(self) -> Signed:
        """Our record as of now, with a higher sequence than any before, and our log."""
        credentials = self._transport.endpoint.credentials
        now_us = self._now_us()
        # After a clock that was ahead: what it numbered, others refused as from the future.
        ahead = self._sequence > now_us + CLOCK_SKEW_US
        self._sequence = now_us if ahead else max(now_us, self._sequence + 1)
        certificate = credentials.current.certificate
        record = Record.make(
            credentials.operational,
            credentials.log,
            credentials.delegation,
            certificate,
            address_nonce=credentials.address_nonce,
            sequence=self._sequence,
            expires_us=min(now_us + RECORD_LIFE_US, certificate.until_us),
            homes=map(RecordHome, self.homes),
            name=self.name,
            mailbox_key_digest=self.mailbox_key_id,
        )
        self._transport.endpoint.record = record.raw
        return Signed(record.raw, credentials.log.raw)

    def keep_fresh(self) -> None:
        """Whoever asks for our record gets one that is not old, also while no rendezvous takes it or there is none."""
        endpoint = self._transport.endpoint
        if endpoint.record:
            record = Record.parse(endpoint.record)
            same = (record.certificate.raw, record.name) == (endpoint.credentials.current.certificate.raw, self.name)
            if same and abs(self._now_us() - record.sequence) < _FRESH_US:
                return
        self.signed()

    def settle_homes(self, clients: Sequence[RendezvousClient]) -> bool:
        """A home that is away or about to stop is replaced by a rendezvous that is there, one that is far by one that
        is clearly nearer. Whether one was."""
        there = {client.identity: client.measured_rtt for client in clients if client.connected and not client.draining}
        gone = {client.identity for client in clients if client.tried} - set(there)
        homes = choose_homes(self.homes, there, gone)
        if set(homes) == set(self.homes):
            return False
        self.homes = homes
        return True

    def offer(self, source: str, candidates: Sequence[Candidate]) -> None:
        """What `source` found (`port mapping`, `interfaces`), in place of what it found before. Peers are told."""
        if self._found.get(source, ()) != tuple(candidates):
            self._found[source] = tuple(candidates)
            self.refresh_candidates()

    def refresh_candidates(self) -> None:
        """The address we use towards each rendezvous, how it sees us, and what others found."""
        transport = self._transport
        found: dict[Candidate, None] = {}
        for _, port in transport.ports:
            host, number = port.local
            for client in self.clients:
                if client.endpoint is None or (":" in client.endpoint[0]) != (":" in host):
                    continue
                source = transport.host.source_address(client.endpoint) if host in _ANY else host
                if source is not None:
                    found[Candidate(CandidateKind.HOST, (source, number))] = None
                if client.observed is not None:
                    found[Candidate(CandidateKind.REFLEXIVE, client.observed)] = None
        for source in sorted(self._found):
            found.update(dict.fromkeys(self._found[source]))
        found.update(dict.fromkeys(self._of_operator()))
        # Last, because of more than 32 the first count, and these are the least likely to be of use.
        found.update(dict.fromkeys(self._of_interfaces()))
        transport.endpoint.set_candidates(list(found), self.traits, consents=self.consents)
        transport.wake()

    def _of_operator(self) -> list[Candidate]:
        """What was declared; without a port, with the one that we listen at in that address family."""
        own: dict[bool, int] = {}
        for _, port in self._transport.ports:
            own.setdefault(":" in port.local[0], port.local[1])
        found = []
        for host, number, label, cost in self.declared:
            kind = CandidateKind.INTERCONNECT if label else CandidateKind.DECLARED
            port_number = number or own.get(":" in host)
            if port_number:
                found.append(Candidate(kind, (host, port_number), cost, label))
        return found

    def _of_interfaces(self) -> list[Candidate]:
        """Every address of this machine that a port of ours listens at: peers may be in a network beside."""
        addresses = self._transport.host.local_addresses()
        found = []
        for _, port in self._transport.ports:
            host, number = port.local
            hosts = [each for each in addresses if (":" in each) == (":" in host)] if host in _ANY else []
            found += [Candidate(CandidateKind.HOST, (each, number)) for each in hosts[:_INTERFACES_LIMIT]]
        return found


def renew(credentials: Credentials, home: Home, host: Host, now_us: int) -> Credentials:
    """With the keys that are due. Changed credentials are on disk before they are returned."""
    fresh = renewed(credentials, host.random, now_us)
    if fresh is not credentials:
        save(home, fresh)
    return fresh
