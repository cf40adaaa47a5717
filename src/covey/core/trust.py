"""Trust between two agents: who asked, who agreed, and what the other side must be told.

Theory. Each user has one will about the other agent, yes or no, and trust is: both yes. Each side keeps its
own will and what it last heard of the other's; the pair is the state:

========= ======= ======== =================================================================
state     ours    theirs   for the user
========= ======= ======== =================================================================
unknown   no      no       nobody asked; or we said no, and forgot what they wanted
requested yes     unknown  we asked and wait
pending   no      yes      they asked, the local user has not answered
trusted   yes     yes      both agreed
rejected  yes     no       they said no to our request, or took their trust back
========= ======= ======== =================================================================

Wills travel as actions: ``request`` and ``approve`` say yes, ``reject`` and ``untrust`` say no. An action is
durable, is repeated until the other side acknowledges it, and a newer one replaces it: at most one waits per
peer. So an event of the far side may arrive twice, and may be the only one of several to arrive. The table is
safe for both, and the two sides agree about `trusted` once nothing waits, because every change of our will
makes an action, and every request is answered with our will if it is yes. Requests that cross need no user:
each finds the other side's yes.

Nothing a peer sends makes it trusted unless the local user asked for it or agreed to it, and did not take
that back. A peer that refuses a service as ``not-trusted`` although we hold it for trusted has lost its state
(a restored backup): let ``remote-untrust`` happen.

`docs` draws its diagram from `TRANSITIONS`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Literal, NamedTuple

from covey.base.errors import StateError
from covey.base.schema import TrustState

__all__ = [
    "ACTIONS",
    "PENDING_LIMIT",
    "REASON_LIMIT",
    "TRANSITIONS",
    "Admission",
    "Decision",
    "TokenBucket",
    "TrustAction",
    "TrustEvent",
    "TrustNotice",
    "clean_reason",
    "decide",
]

TrustAction = Literal["request", "approve", "reject", "untrust"]

ACTIONS: Final[tuple[TrustAction, ...]] = ("request", "approve", "reject", "untrust")

TrustEvent = Literal[
    "local-request",
    "local-approve",
    "local-reject",
    "local-untrust",
    "remote-request",
    "remote-approve",
    "remote-reject",
    "remote-untrust",
]

TrustNotice = Literal["requested", "trusted", "rejected", "revoked", "withdrawn"]
"""What the local user is told: they asked; it is mutual now; they said no; they took it back; they no longer
ask."""

PENDING_LIMIT: Final = 1024
"""Requests of strangers kept; of more, the oldest goes. Ours: far more than a person answers, and under 2
MB."""

REASON_LIMIT: Final = 256
"""Characters of a request's reason. Ours."""

REQUEST_RATE: Final = 0.1
"""Requests per second that one identity may make ..."""
REQUEST_BURST: Final = 3.0
"""... after this many at once."""
GLOBAL_RATE: Final = 20.0
"""Requests per second from all strangers together, and as many at once."""

_TRACKED: Final = 4096
"""Identities whose buckets are remembered. One that is forgotten was refilled long ago: 30 s at
`REQUEST_RATE`, and `GLOBAL_RATE` admits at most 600 in that time."""


class Decision(NamedTuple):
    """What one event leads to. Somebody else enacts it."""

    state: TrustState
    """The new state."""
    action: TrustAction | None = None
    """What to send to the peer, replacing what still waits. None: nothing new."""
    notice: TrustNotice | None = None
    """What to tell the local user."""


TRANSITIONS: Final[dict[tuple[TrustState, TrustEvent], Decision]] = {
    # From unknown. An approval of what we do not ask (any more) is not a request.
    ("unknown", "local-request"): Decision("requested", "request"),
    ("unknown", "remote-request"): Decision("pending", None, "requested"),
    ("unknown", "remote-approve"): Decision("unknown"),
    ("unknown", "remote-reject"): Decision("unknown"),
    ("unknown", "remote-untrust"): Decision("unknown"),
    # From requested.
    ("requested", "local-request"): Decision("requested", "request"),
    ("requested", "local-reject"): Decision("unknown", "untrust"),
    ("requested", "local-untrust"): Decision("unknown", "untrust"),
    ("requested", "remote-request"): Decision("trusted", "approve", "trusted"),
    ("requested", "remote-approve"): Decision("trusted", None, "trusted"),
    ("requested", "remote-reject"): Decision("rejected", None, "rejected"),
    ("requested", "remote-untrust"): Decision("rejected", None, "rejected"),
    # From pending. Asking one who has asked is approving.
    ("pending", "local-request"): Decision("trusted", "approve", "trusted"),
    ("pending", "local-approve"): Decision("trusted", "approve", "trusted"),
    ("pending", "local-reject"): Decision("unknown", "reject"),
    ("pending", "local-untrust"): Decision("unknown", "reject"),
    ("pending", "remote-request"): Decision("pending"),
    ("pending", "remote-approve"): Decision("pending"),
    ("pending", "remote-reject"): Decision("unknown", None, "withdrawn"),
    ("pending", "remote-untrust"): Decision("unknown", None, "withdrawn"),
    # From trusted. Asking again mends a peer that lost its state: it asks its user, or answers at once.
    ("trusted", "local-request"): Decision("trusted", "request"),
    ("trusted", "local-approve"): Decision("trusted"),
    ("trusted", "local-reject"): Decision("unknown", "untrust"),
    ("trusted", "local-untrust"): Decision("unknown", "untrust"),
    ("trusted", "remote-request"): Decision("trusted", "approve"),
    ("trusted", "remote-approve"): Decision("trusted"),
    ("trusted", "remote-reject"): Decision("rejected", None, "revoked"),
    ("trusted", "remote-untrust"): Decision("rejected", None, "revoked"),
    # From rejected. Our yes still stands: whoever wants to end it says untrust.
    ("rejected", "local-request"): Decision("requested", "request"),
    ("rejected", "local-reject"): Decision("unknown", "untrust"),
    ("rejected", "local-untrust"): Decision("unknown", "untrust"),
    ("rejected", "remote-request"): Decision("trusted", "approve", "trusted"),
    ("rejected", "remote-approve"): Decision("trusted", None, "trusted"),
    ("rejected", "remote-reject"): Decision("rejected"),
    ("rejected", "remote-untrust"): Decision("rejected"),
}
"""Every pair but those that are the local user's mistake, which `decide` refuses."""

_REFUSALS: Final[dict[TrustEvent, tuple[str, str, str]]] = {
    "local-approve": ("there is no request of this peer to approve", "nothing-pending", "covey pending"),
    "local-reject": ("there is no request of this peer to reject", "nothing-pending", "covey pending"),
    "local-untrust": ("this peer is not trusted", "not-trusted", "covey peers"),
}


def decide(state: TrustState, event: TrustEvent) -> Decision:
    """What `event` leads to in `state`.

    Raises `StateError` (``nothing-pending``, ``not-trusted``) for a local event that makes no sense in that
    state, and never for a remote one.
    """
    decision = TRANSITIONS.get((state, event))
    if decision is None:
        message, code, next_step = _REFUSALS[event]
        if state == "requested":
            message, next_step = "this peer has not answered our own request yet", "covey peers"
        raise StateError(message, code=code, next_step=next_step)
    return decision


def clean_reason(reason: str) -> str:
    """A stranger's text, fit for a terminal and a table: one line, printable, at most `REASON_LIMIT`
    characters."""
    printable = "".join(character if character.isprintable() else " " for character in reason[: 4 * REASON_LIMIT])
    return " ".join(printable.split())[:REASON_LIMIT]


class TokenBucket:
    """At most `burst` at once and `rate` per second after. `now` is in seconds on any clock that does not go
    back."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token, if there is one."""
        self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = max(self._at, now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Admission:
    """Which trust requests are looked at: per identity `REQUEST_RATE`, over all strangers `GLOBAL_RATE`.

    The global bucket pays only for what the identity's own bucket lets through, so that one loud stranger
    cannot use up the room of the others. Memory is bounded: the identity quiet for longest is forgotten.
    """

    def __init__(self, now: float) -> None:
        self._all = TokenBucket(GLOBAL_RATE, GLOBAL_RATE, now)
        self._each: OrderedDict[bytes, TokenBucket] = OrderedDict()

    def admit(self, identity: bytes, now: float) -> bool:
        """Whether a request of `identity` at `now` (seconds, monotonic) may be processed; else drop it
        silently."""
        bucket = self._each.pop(identity, None) or TokenBucket(REQUEST_RATE, REQUEST_BURST, now)
        self._each[identity] = bucket
        if len(self._each) > _TRACKED:
            self._each.popitem(last=False)
        return bucket.take(now) and self._all.take(now)
