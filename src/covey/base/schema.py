"""What a node tells its faces: the structures of the local API, the CLI's `--json` and the SDK.

Schema version 1. Fields are only ever added. Times are seconds since the epoch (UTC, float), durations milliseconds
when the name ends in `_ms`. Identities are 52 base32 characters, addresses `7f3a.91c0.d2e4`, binary bodies base64.
"""

from __future__ import annotations

from typing import Final, Generic, Literal, TypeVar, get_args

import msgspec

__all__ = [
    "SCHEMA_VERSION",
    "SEVERITIES",
    "CandidateView",
    "CheckView",
    "CountView",
    "ErrorView",
    "FindingView",
    "ForetoldView",
    "IntroductionState",
    "IntroductionView",
    "Items",
    "KeyView",
    "KeysView",
    "MessageType",
    "MessageView",
    "NameView",
    "NatBehaviour",
    "NatPorts",
    "NetcheckView",
    "NetworkView",
    "NodeView",
    "ObserverView",
    "PathView",
    "PeerReachView",
    "PeerView",
    "PingView",
    "PortMappingView",
    "ReachView",
    "RelayView",
    "RelayedView",
    "RendezvousView",
    "SendResult",
    "SendView",
    "SettingView",
    "Severity",
    "StreamView",
    "Told",
    "TrustState",
]

SCHEMA_VERSION = 1

TrustState = Literal["unknown", "requested", "pending", "trusted", "rejected"]
"""`requested`: we asked and wait. `pending`: they asked, we have not answered. `rejected`: they said no to us."""

MessageType = Literal["text", "json", "binary"]

Told = Literal["", "queued", "sealed", "delivered"]
"""`delivered`: the peer has it on disk and said so. `sealed`: it waits at a rendezvous for a peer that is away, closed
to all others. `queued`: it is on our disk and will be brought. "" for nothing said."""

SendResult = Literal["delivered", "queued", "expired", "refused", "cancelled"]
"""`delivered`: the recipient has it on disk and said so. `queued`: it is on our disk and will be retried."""

IntroductionState = Literal["open", "introduced", "expired", "closed", "failed"]
"""`introduced`: somebody entered the code and is a peer now. `failed`: somebody had the code, and `problem` says why it
came to nothing."""

Item = TypeVar("Item")


class Items(msgspec.Struct, Generic[Item], frozen=True):
    """A list, wrapped so that it can grow fields."""

    items: list[Item]


class CountView(msgspec.Struct, frozen=True):
    """How many things a command changed."""

    count: int


class ErrorView(msgspec.Struct, frozen=True):
    """The body of every failed API call and of `--json` on failure (under the key `error`)."""

    code: str
    message: str
    next_step: str = ""


Severity = Literal["error", "warning", "note"]
"""`error`: something does not work. `warning`: it works less well than it should, or soon will not. `note`: it works,
with less protection or reach than it could have."""

SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
"""The worst first."""


class FindingView(msgspec.Struct, frozen=True):
    """Something that is not as it should be: of `covey status`, `covey doctor` and `covey store check`."""

    code: str
    """Stable, like that of an error."""
    severity: Severity
    what: str
    """What it is and what it means."""
    hint: str = ""
    """What to do: a command, or a few words."""


class PathView(msgspec.Struct, frozen=True):
    """One way to a peer."""

    kind: Literal["direct", "relay"]
    remote: str
    """HOST:PORT that packets are sent to; of a relay its own."""
    active: bool
    """The data goes this way."""
    rtt_ms: float | None = None
    mtu: int = 0
    """UDP payload of a full datagram that we send, bytes: what the path was found to carry."""
    loss: float = 0.0
    """Share of the bytes sent on it that were lost, 0 to 1."""
    sent_bytes: int = 0
    received_bytes: int = 0
    reason: str = ""
    """Why it is used as it is, a code of `base.reasons`: of the active one why the data goes there (for a relay: why
    there is no direct path), of others `standby`, `suspect` or `policy`."""
    transport: Literal["udp", "websocket"] = "udp"
    since: float | None = None
    """When it was proven for this session."""
    relay: str = ""
    """Of a relay: the name of the member that relays, or `rendezvous`."""
    label: str = ""
    """Of a declared interconnect: what its owner calls it."""
    cost: int = 0
    """Of a declared interconnect: what its owner says it costs; 0 for all others."""


class PeerView(msgspec.Struct, frozen=True):
    """A peer as this node knows it."""

    identity: str
    address: str
    name: str
    trust: TrustState
    safety_number: str
    connected: bool = False
    paths: list[PathView] = []
    reason: str = ""
    """The reason text of the trust request, theirs or ours."""
    since: float | None = None
    """When the trust state last changed."""
    queued: int = 0
    """Messages waiting for this peer in the outbox."""
    witnesses: int = 0
    """How many rendezvous answered for the name at first contact; 1 means only the safety number protects it."""
    warning: str = ""
    told: Told = ""
    """Where our last word about trust is."""
    told_at: list[str] = []
    """If `sealed`: the rendezvous at which it waits ..."""
    told_until: float | None = None
    """... and until when; it is sealed again before that, as long as the peer takes letters."""
    told_problem: str = ""
    """If `queued`: what stood in the way."""
    why: str = ""
    """Why it is reached the way it is, or not at all: a code of `base.reasons`. "" for a stranger that nobody tried."""
    why_text: str = ""
    """The same in words."""
    change: str = ""
    """What to change so that it is reached better, in one line; "" if there is nothing to do."""


class IntroductionView(msgspec.Struct, frozen=True):
    """A one-time code that this agent gave out, and what came of it."""

    state: IntroductionState
    code: str = ""
    """Only in the answer to the request that opened the window."""
    invitation: str = ""
    """What the other side enters: `CODE@PLACE,PLACE...`. Only there, too."""
    places: list[str] = []
    """Where the other side may find this agent: its address on the network, and IP:PORT."""
    expires: float | None = None
    peer: PeerView | None = None
    """Who came."""
    problem: ErrorView | None = None
    """Why nobody did."""


class RendezvousView(msgspec.Struct, frozen=True):
    """One rendezvous of this node's network."""

    identity: str
    endpoint: str
    connected: bool
    rtt_ms: float | None = None
    observed: str = ""
    """Our own endpoint as it sees it."""
    problem: str = ""
    silent: bool = False
    """It has not answered a request for longer than we are patient: the others are relied upon."""
    contradictions: int = 0
    """How often it said what cannot be true, since the node started."""
    home: bool = False
    """Our record names it as one of the (two) places where to ask for us."""
    name: str = ""
    """What became of our name there: `held`, `taken` by another agent, `none` asked for; "" if it is not connected."""
    transport: Literal["udp", "websocket"] = "udp"


class RelayedView(msgspec.Struct, frozen=True):
    """What this node relays for the peers it trusts."""

    circuits: int
    """Pairs of peers that asked for one, and used it in the last ten minutes."""
    forwarded_bytes: int
    dropped_bytes: int
    """Since the start, relay headers included."""
    rate: int = 0
    """Bytes per second for each peer; 0: no limit."""
    jurisdiction: str = ""


class RelayView(msgspec.Struct, frozen=True):
    """A peer that relays for this node."""

    identity: str
    name: str
    connected: bool
    rtt_ms: float | None = None
    rate: int = 0
    """Bytes per second that it relays for us; 0: no limit."""
    jurisdiction: str = ""
    """Where it says that it is."""


class NodeView(msgspec.Struct, frozen=True):
    """`covey status` and `covey id`."""

    identity: str
    address: str
    name: str
    version: str
    profile: str
    started: float
    pid: int
    listen: list[str]
    network: str
    """The ticket, or ""."""
    rendezvous: list[RendezvousView] = []
    relays: list[RelayView] = []
    """The peers that relay for us, the nearest first."""
    relayed: RelayedView | None = None
    """None: it relays for nobody (setting `relay`)."""
    peers_trusted: int = 0
    peers_connected: int = 0
    peers_direct: int = 0
    """Of these, those whose data does not go through a relay."""
    peers_pending: int = 0
    inbox_unread: int = 0
    outbox_queued: int = 0
    findings: list[FindingView] = []
    """What is degraded and what to do, the worst first; `note`s are advice."""

    @property
    def degraded(self) -> list[FindingView]:
        """The findings that are more than a note."""
        return [finding for finding in self.findings if finding.severity != "note"]


NatBehaviour = Literal[
    "unknown", "none", "endpoint-independent", "address-dependent", "address-and-port-dependent", "blocked"
]
"""How a NAT maps, and how it filters, in the words of RFC 4787. `none`: it does not. `blocked`: no UDP gets out."""

NatPorts = Literal["unknown", "preserved", "sequential", "random"]
"""Which external port a new mapping gets: that of the socket, the last one and a step, any."""


class ObserverView(msgspec.Struct, frozen=True):
    """Somebody who sees where our packets come from."""

    kind: Literal["rendezvous", "second-port", "peer"]
    """`second-port`: the same rendezvous, asked at another of its ports."""
    endpoint: str
    """Where it was asked."""
    seen: str
    """Our endpoint as it sees it: of the node's own socket, or of one that was opened for the question."""
    rtt_ms: float | None = None


class CandidateView(msgspec.Struct, frozen=True):
    """Where trusted peers are told that they may reach us directly."""

    kind: Literal["host", "reflexive", "mapped", "declared", "interconnect"]
    endpoint: str
    cost: int = 0
    label: str = ""


class PortMappingView(msgspec.Struct, frozen=True):
    """How it stands with one port that the router is asked to let peers in at."""

    gateway: str
    """The router; "" if there is none."""
    internal: str
    method: Literal["", "pcp", "nat-pmp", "upnp"] = ""
    """How it was mapped; "" if it is not."""
    external: str = ""
    """Where peers reach it."""
    problem: str = ""
    """Why it is not mapped: `no-gateway`, `no-answer`, `not-authorized`, `double-nat`... `docs/operations.md`."""


class NetworkView(msgspec.Struct, frozen=True):
    """What this node knows of the network it is in: what stands between it and its peers."""

    mapping: NatBehaviour = "unknown"
    """Whether everybody sees us at one endpoint. `none`: there is no NAT, we are seen at our own address."""
    filtering: NatBehaviour = "unknown"
    """Whose packets get in. `none`: everybody's, also before we sent anything."""
    ports: NatPorts = "unknown"
    step: int = 0
    """From one mapping to the next, if `ports` is `sequential`."""
    udp: bool | None = None
    """A rendezvous answered over UDP, or none did; None: nobody was asked yet."""
    hairpin: bool | None = None
    """Two behind our NAT reach each other at its external address; None: not measured, or there is no NAT."""
    ipv6: bool = False
    """This machine has an IPv6 address that others can reach."""
    public: list[str] = []
    """The IP addresses at which others see us."""
    observers: list[ObserverView] = []
    candidates: list[CandidateView] = []
    port_mapping: list[PortMappingView] = []
    """Empty: off, or no rendezvous outside this machine was reached yet."""
    birthday: bool = False
    """Trusted peers are told that they may look for our port by trying many."""
    measured: float | None = None
    """When; None: not yet."""


class ReachView(msgspec.Struct, frozen=True):
    """One rendezvous, as `covey netcheck` found it from sockets of its own."""

    identity: str
    endpoint: str
    udp_ms: float | None = None
    """Round trip over UDP; None: no answer."""
    websocket_ms: float | None = None
    """Until a WebSocket over TLS stood; None: there is none, or it was not tried."""
    ahead_s: float = 0.0
    """Our clock is at least so far ahead of its own; behind it, if negative. 0: they may agree."""
    problem: str = ""
    """Why UDP got no answer."""
    websocket_problem: str = ""


class ForetoldView(msgspec.Struct, frozen=True):
    """What this machine's network means for peers behind one kind of NAT."""

    nat: str
    why: str
    """`direct`, or the code of what stands in the way (`base.reasons`)."""
    why_text: str


class PeerReachView(msgspec.Struct, frozen=True):
    """How a trusted peer is reached, and how the two networks would allow it to be."""

    identity: str
    name: str
    path: Literal["", "direct", "relay"]
    """What the data takes now; "" if there is no connection."""
    nat: str
    """What stands before the peer, as it says: `none`, `full-cone`, `port-restricted`, `symmetric`... or `unknown`."""
    expected: str
    """What the two networks allow: `direct`, or the code of what stands in the way. "" if the peer was not reached."""
    why: str
    why_text: str
    change: str


class NetcheckView(msgspec.Struct, frozen=True):
    """`covey netcheck`: what the network around this machine allows."""

    daemon: bool
    """Told by the running daemon, with its peers; otherwise by a program that started from the ticket."""
    nat: str
    """`none`, `full-cone`, `address-restricted`, `port-restricted`, `cone` (filtering not known), `sequential` or
    `symmetric`, `udp-blocked`, `unknown`."""
    network: NetworkView
    rendezvous: list[ReachView] = []
    proxies: list[str] = []
    """`HTTPS_PROXY=http://proxy:3128`, without credentials."""
    routers: dict[str, list[str]] | None = None
    """Of each default router how it can be asked to let peers in (`pcp`, `nat-pmp`, `upnp`); null: not asked."""
    foretold: list[ForetoldView] = []
    peers: list[PeerReachView] = []
    unmeasured: list[str] = []
    """What could not be measured, and why."""
    findings: list[FindingView] = []
    elapsed_ms: float = 0.0


class NameView(msgspec.Struct, frozen=True):
    """This agent's name and who holds it for us; a rendezvous that is away hears of it when it is back."""

    name: str
    chosen: bool
    """False: made up from the identity, because nobody chose one or it was released."""
    rendezvous: int
    """Of the network."""
    held: int
    """Those that lease the name to this agent: for seven days after it was last published."""
    taken: int
    """Those that lease it to another agent, who came first there."""


class MessageView(msgspec.Struct, frozen=True):
    """One message of the inbox."""

    number: int
    """Position in this inbox: 1, 2, 3... never reused; what `covey inbox show` takes."""
    id: str
    """The sender's message id, 32 hex digits."""
    sender: str
    """Identity."""
    sender_name: str
    type: MessageType
    received: float
    size: int
    body: str = ""
    """Text, JSON text, or base64 for `binary`. Empty in listings made with bodies=false."""
    acknowledged: bool = False


class SendView(msgspec.Struct, frozen=True):
    """The truth about one message."""

    id: str
    peer: str
    name: str
    result: SendResult
    reason: str = ""
    elapsed_ms: float = 0.0


class KeyView(msgspec.Struct, frozen=True):
    """A public key, or the commitment to one, as people compare it."""

    fingerprint: str
    """The beginning of its SHA-256."""
    since: float | None = None
    until: float | None = None


class KeysView(msgspec.Struct, frozen=True):
    """`covey key show`. No private byte is in it."""

    identity: str
    address: str
    log_sequence: int
    """Of the last event in the key-event log; 0: it was never rotated."""
    log_head: str
    """The digest of that event, 64 hex digits."""
    revoked: bool
    root: KeyView
    root_here: bool
    """The root key is in the identity file, so that operational keys renew themselves."""
    next_root: KeyView
    """The commitment: only the key with this digest can rotate the identity."""
    operational: KeyView
    transport: list[KeyView]
    """Those alive, the newest, which is announced, first."""
    next_operational: float | None
    """When it renews itself at the latest; None: it cannot, the root is elsewhere."""
    next_transport: float | None
    recovery_file: str
    recovery_here: bool
    findings: list[FindingView]


class CheckView(msgspec.Struct, frozen=True):
    """One thing that `covey doctor` looked at."""

    name: str
    detail: str
    """What was measured or found, in a few words."""
    findings: list[FindingView]

    @property
    def result(self) -> Severity | Literal["ok"]:
        """`ok`, or the worst of its findings."""
        return min((each.severity for each in self.findings), key=SEVERITIES.index, default="ok")


class SettingView(msgspec.Struct, frozen=True):
    """One setting in force."""

    key: str
    value: str
    """"" if there is none."""
    origin: Literal["flag", "environment", "file", "remembered", "default"]
    where: str = ""
    """The option, the variable, or `PATH:LINE`."""


class PingView(msgspec.Struct, frozen=True):
    """One round trip over the session with a peer."""

    identity: str
    name: str
    rtt_ms: float
    path: PathView


class StreamView(msgspec.Struct, frozen=True):
    """An open stream that waits to be attached: connect to `socket` and send `token` and a newline."""

    token: str
    socket: str
    expires_in: float
