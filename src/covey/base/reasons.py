"""Why a peer is on the path it is on, and what would change it: the one table of reason codes.

A code is the `reason` of a `base.schema.PathView`, the `why` of a `PeerView` and what `covey netcheck` foretells. The
core decides which one it is (`core/why.py`), the faces print what this table says of it, and `docs/reasons.md` is
made from it. Codes are only ever added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["REASONS", "Reason", "change_for", "reason"]

Standing = Literal["best", "passing", "chosen", "limit"]
"""`best`: nothing to improve. `passing`: it changes by itself. `chosen`: somebody's settings say so. `limit`: it stays
so until somebody changes something."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, as it is explained to people."""

    code: str
    standing: Standing
    says: str
    """What is the case: a sentence without a full stop."""
    change: str = ""
    """What to change so that it ends, in one line; "" if there is nothing to do. `PEER` stands for the peer's name."""


_TABLE: Final = (
    Reason("direct", "best", "packets go straight to the peer"),
    Reason("standby", "best", "it works and is kept in reserve; another path carries the data"),
    Reason("bulk", "best", "it carries the bulk, as a rule of the setting `paths` says"),
    Reason(
        "suspect",
        "passing",
        "data on it got no answer for a while, so data goes another way until it answers",
        "nothing; if it stays so for a minute: covey netcheck",
    ),
    Reason(
        "not-trusted",
        "chosen",
        "addresses are told to trusted peers only, so a stranger is reached over a relay",
        "covey handshake PEER",
    ),
    Reason("probing", "passing", "a direct path is being looked for", "nothing; this takes up to ten seconds"),
    Reason(
        "idle",
        "passing",
        "nothing was sent for a while, so nothing is looked for; the next message begins it",
        "nothing; covey ping PEER, if you want to see it now",
    ),
    Reason(
        "no-candidate",
        "limit",
        "the peer has told no address at which it could be reached directly",
        "on the peer's machine: covey netcheck",
    ),
    Reason(
        "no-common-family",
        "limit",
        "one side has IPv4 only and the other IPv6 only, so no packet of one can reach the other",
        "give one of the two machines an address of the other family",
    ),
    Reason(
        "udp-blocked",
        "limit",
        "this machine's network lets no UDP out, so everything goes through a relay over TCP 443",
        "allow outbound UDP, to any port, in the firewall or security group of this machine",
    ),
    Reason(
        "peer-udp-blocked",
        "limit",
        "the peer's network lets no UDP out, so everything goes through a relay over TCP 443",
        "allow outbound UDP, to any port, in the firewall or security group of PEER",
    ),
    Reason(
        "hard-hard",
        "limit",
        "the NATs of both sides take a new, unforeseeable port for every destination",
        "give one of the two IPv6, a public address, or a NAT that keeps its ports: docs/reasons.md#hard-hard",
    ),
    Reason(
        "birthday-off",
        "chosen",
        "one side's NAT takes unforeseeable ports; birthday probing would get through, but is off on this machine",
        'birthday = "trusted" in config.toml of this machine and of PEER, which needs it too; then restart',
    ),
    Reason(
        "peer-birthday-off",
        "chosen",
        "one side's NAT takes unforeseeable ports; birthday probing would get through, but the peer has it off",
        'birthday = "trusted" in config.toml of PEER; then restart it',
    ),
    Reason(
        "birthday-failed",
        "limit",
        "one side's NAT takes unforeseeable ports, and birthday probing found none that is open",
        "nothing; it is tried again in an hour, or when a network changes",
    ),
    Reason(
        "no-hairpin",
        "limit",
        "both are behind one NAT, which sends no packet back inside, and their private addresses do not meet",
        "let the two machines reach each other's private addresses, or turn hairpin (NAT loopback) on in the router",
    ),
    Reason(
        "nat-unknown",
        "limit",
        "the peer's addresses did not answer, and what one of the NATs does could not be measured",
        "covey netcheck, on this machine and on that of PEER; it says what was not measured",
    ),
    Reason(
        "peer-silent",
        "limit",
        "both NATs would allow a direct path, but nothing answers: a firewall drops the probes",
        "allow outbound UDP from Covey's port, to any port, in the firewalls of this machine and of PEER",
    ),
    Reason(
        "mtu",
        "limit",
        "small packets get through directly, full datagrams of 1,200 bytes do not",
        "raise the MTU of the tunnel or link between the two machines to 1,280 bytes or more",
    ),
    Reason(
        "policy",
        "chosen",
        "a rule of this machine, in its setting `paths`, keeps data off the better way",
        "the rule for PEER in the setting paths: covey config show --origin",
    ),
    Reason(
        "relay-only",
        "chosen",
        "a rule of this machine, in its setting `paths`, puts relays before the direct path that there is",
        "the rule for PEER in the setting paths: covey config show --origin",
    ),
    Reason(
        "direct-only",
        "chosen",
        "a rule of this machine lets no relay carry data to this peer, and there is no direct path yet: data waits",
        "mend the direct path (covey netcheck), or take direct-only for PEER out of the setting paths",
    ),
    Reason(
        "peer-offline",
        "passing",
        "no rendezvous knows the peer to be up now",
        "start it: covey up, on the peer's machine",
    ),
    Reason(
        "no-rendezvous",
        "limit",
        "no rendezvous answers, and the peer is not where it was last",
        "covey netcheck; then see that one of the rendezvous runs",
    ),
    Reason(
        "no-answer",
        "passing",
        "a rendezvous knows the peer to be up, but it does not answer",
        "see what the peer says: covey status, on the peer's machine",
    ),
)

REASONS: Final[dict[str, Reason]] = {each.code: each for each in _TABLE}
"""By code, in the order in which they are explained."""


def reason(code: str) -> Reason:
    """What a code means; one of a newer daemon is explained by its name alone."""
    return REASONS.get(code) or Reason(code, "limit", code.replace("-", " "))


def change_for(code: str, peer: str) -> str:
    """What to change about it in the case of this peer, in one line; "" for nothing."""
    return reason(code).change.replace("PEER", peer)
