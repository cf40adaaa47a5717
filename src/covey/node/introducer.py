"""Meets an agent by a one-time code, on either side of it: `covey introduce` (PROTOCOL 14, ADR 0011).

The core gives a record that somebody who knows the code proved to be theirs. From there on all is as with any other
agent: a session, whose peer's log is fetched and verified, then the book, then the wish for trust, which the couriers
carry. Nothing is written before the log holds.

An *invitation* is what one person gives the other: `CODE@PLACE,PLACE...`. A place is a name, address or identity on a
common network, or `HOST:PORT`. It is a hint where to knock and proves nothing; the code does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from covey.base import errors
from covey.base.errors import CoveyError, NotFoundError, RefusedError, StateError, UnreachableError, UsageError
from covey.base.types import Endpoint, Identity, address_text, endpoint_text, parse_endpoint
from covey.core.events import Introduced, IntroductionFailed
from covey.core.handshake import Target
from covey.core.path import Route
from covey.crypto.address import address
from covey.crypto.one_time_code import CODE_RANDOM_SIZE, CodeKeys, derive_code_keys, make_code, parse_code
from covey.crypto.record import Record
from covey.node.announcement import Announcement
from covey.node.asking import ask
from covey.node.book import PeerBook
from covey.node.directory import Directory
from covey.node.rendezvous_client import RendezvousClient
from covey.node.storage import Peer
from covey.node.transport import Transport

__all__ = ["Introducer", "Meeting"]

PLACES_LIMIT: Final = 8
"""Places of one invitation that are tried."""

_SESSION_SECONDS: Final = 15.0
"""How long the session may take that follows an introduction."""
_SETTLING_SECONDS: Final = 3.0
"""How long a place that nobody knows is asked for again ..."""
_SETTLING_PAUSE: Final = 0.2
"""... this often."""
_SEEK_SECONDS: Final = 2.0
"""Between two questions to the rendezvous where the window is."""
_REASON: Final = "introduced by a one-time code"
_ANY: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_BEYOND: Final[dict[bool, Endpoint]] = {False: ("192.0.2.1", 9), True: ("2001:db8::1", 9)}
"""Documentation addresses (RFC 5737, 3849), by whether they are IPv6: to find which address of ours leads out."""


@dataclass(slots=True)
class Meeting:
    """A code that was given out or is being entered, and what came of it. The code itself is not kept."""

    places: tuple[str, ...]
    until: float
    """Seconds, on the host's clock."""
    ask: bool
    """Trust is left to `approve`."""
    outcome: asyncio.Future[Peer]


class Introducer:
    """At most one window and one code being entered at a time; both are forgotten with the process.

    `may_trust(peer)` raises for an identity that must not be trusted anew. `on_met(peer)` and `on_failed(reason)` tell
    followers; the code is never among what they are told.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        book: PeerBook,
        directory: Directory,
        clients: Sequence[RendezvousClient],
        announcement: Announcement,
        now_us: Callable[[], int],
        may_trust: Callable[[Identity], None],
        on_met: Callable[[Identity], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._transport = transport
        self._book = book
        self._directory = directory
        self._clients = clients
        self._announcement = announcement
        self._now_us = now_us
        self._may_trust = may_trust
        self._on_met = on_met
        self._on_failed = on_failed
        self._machine = transport.endpoint.introduction
        self._entering: Meeting | None = None
        self.window: Meeting | None = None
        """The newest one, until the next."""

    # --- the side that gives the code --------------------------------------------------------------------------------

    async def open(self, seconds: float, *, ask: bool) -> tuple[Meeting, str]:
        """Opens a window; also its code, told here and never again. An older window is closed by it."""
        host = self._transport.host
        code = make_code(host.random(CODE_RANDOM_SIZE))
        keys = await self._keys(code)
        self.close("replaced by another window")
        self._announcement.signed()
        self._machine.open(host.now(), keys, seconds)
        self.window = self._meeting(self._places(), seconds, ask=ask)
        self._transport.wake()
        return self.window, code

    async def wait(self, window: Meeting, seconds: float) -> None:
        """Until something came of a window, at most this long."""
        await asyncio.wait((window.outcome,), timeout=seconds)

    def close(self, why: str = "closed here") -> None:
        """Nobody is answered any more. What was introduced before stays."""
        self._machine.close()
        if self.window is not None:
            _fail(self.window, StateError(f"the window was {why}", code="window-closed"))

    def stop(self) -> None:
        """The node ends, and with it what was begun."""
        for meeting in (self.window, self._entering):
            if meeting is not None:
                _fail(meeting, StateError("the node is closed", code="closed"))

    # --- the side that enters it -------------------------------------------------------------------------------------

    async def enter(self, invitation: str, seconds: float, *, ask: bool) -> Peer:
        """Meets whoever opened the window of this invitation, trying for `seconds`.

        UsageError (`bad-code`, `bad-invitation`), StateError (`introduction-running`), and UnreachableError
        (`no-answer`): a wrong code, a used one, a closed window and a wrong place cannot be told apart, by design.
        """
        code, places = _parse_invitation(invitation)
        if self._entering is not None:
            raise StateError("another code is being tried", code="introduction-running", next_step="wait for it")
        entering = self._entering = self._meeting(tuple(places), seconds, ask=ask)
        seeking: asyncio.Task[None] | None = None
        try:
            keys = await self._keys(code)
            routes = await self._first_routes(places, min(seconds, _SETTLING_SECONDS))
            self._announcement.signed()
            now = self._transport.host.now()
            self._machine.enter(now, keys, routes, entering.until - now)
            self._transport.wake()
            seeking = self._transport.spawn(self._keep_seeking(places), "introduction")
            return await entering.outcome
        finally:
            self._machine.leave()
            self._entering = None
            if seeking is not None:
                seeking.cancel()

    async def _first_routes(self, places: Sequence[str], seconds: float) -> list[Route]:
        """`_routes`, tried for so long: either side may have started only now and be about to publish."""
        host = self._transport.host
        until = host.now() + seconds
        while True:
            try:
                return await self._routes(places)
            except (NotFoundError, UnreachableError):
                if host.now() + _SETTLING_PAUSE > until:
                    raise
            await asyncio.sleep(_SETTLING_PAUSE)

    async def _keep_seeking(self, places: Sequence[str]) -> None:
        """A rendezvous may have introduced us to where the other side was until now."""
        while True:
            await asyncio.sleep(_SEEK_SECONDS)
            try:
                self._machine.add_routes(await self._routes(places))
                self._transport.wake()
            except CoveyError:
                continue

    async def _routes(self, places: Sequence[str]) -> list[Route]:
        """Every way to every place. The first place's error if there is none at all."""
        found = await asyncio.gather(*map(self._routes_to, places), return_exceptions=True)
        routes: list[Route] = []
        problem: CoveyError | None = None
        for each in found:
            if isinstance(each, CoveyError):
                problem = problem or each
            elif isinstance(each, BaseException):
                raise each
            else:
                routes += each
        if not routes:
            raise problem or UnreachableError(
                "no way leads to the place of this invitation",
                code="no-route",
                next_step="ask the other side for another place: an IP:PORT that this machine can reach",
            )
        return list(dict.fromkeys(routes))

    async def _routes_to(self, place: str) -> list[Route]:
        transport = self._transport
        if ":" in place:
            endpoints = await transport.host.resolve(*parse_endpoint(place))
            return [route for route in map(transport.route, endpoints) if route is not None]
        # If the rendezvous disagree about whose the name is, all of them are asked: only one knows the code.
        identities = await self._directory.claimants(place)
        now = transport.host.now
        asked = [ask(self._clients, partial(_introduce, identity), now=now) for identity in identities]
        return [route for answers in await asyncio.gather(*asked) for _, route in answers if route is not None]

    # --- both --------------------------------------------------------------------------------------------------------

    def on_event(self, event: Introduced | IntroductionFailed) -> None:
        """What the core says of our window or entry."""
        meeting = self.window if event.opened else self._entering
        if meeting is None or meeting.outcome.done():
            return
        if isinstance(event, Introduced):
            self._transport.spawn(self._complete(event, meeting), "introduced")
            return
        _fail(meeting, _window_error(event.code) if event.opened else _entry_error(event.code))
        self._on_failed(event.code)

    async def _complete(self, event: Introduced, meeting: Meeting) -> None:
        """A record becomes a peer: session, log, book, wish for trust."""
        try:
            peer = await self._befriend(event, meeting)
        except CoveyError as error:
            _fail(meeting, error)
            self._on_failed(error.code)
            return
        self._on_met(peer.identity)
        if not meeting.outcome.done():
            meeting.outcome.set_result(peer)

    async def _befriend(self, event: Introduced, meeting: Meeting) -> Peer:
        transport, book = self._transport, self._book
        record = Record.parse(event.record)
        identity = record.identity
        if not event.opened:
            transport.connect(Target(identity, record.certificate.public), [event.route])
        try:
            async with asyncio.timeout(_SESSION_SECONDS):
                await transport.wait_live(identity)
        except TimeoutError:
            raise UnreachableError(
                "the other side had the code, and then was not heard of any more",
                code="introduction-broken",
                next_step="try again with a new code: covey introduce",
            ) from None
        log = transport.endpoint.log_of(identity)
        if log is None:  # the session is verified, so only a flood of other logs can have pushed it out
            raise UnreachableError("the other side's log was lost", code="introduction-broken")
        record.verify(log, self._now_us())
        # A name that trust has bound to somebody else here would lead to them: whoever comes by it is shown without.
        taken = any(each.pinned_name == record.name and each.identity != identity for each in book.all())
        await book.remember(record, log, name="" if taken else record.name)
        if not event.route.relayed:
            await book.remember_candidates(identity, [event.route.remote])
        if meeting.outcome.done():
            raise StateError("the user gave it up", code="window-closed")
        if not meeting.ask and not book.trusts(identity):
            self._may_trust(identity)
            await book.apply(identity, "local-request", _REASON)
        peer = book.get(identity)
        assert peer is not None
        return peer

    async def _keys(self, code: str) -> CodeKeys:
        normal = parse_code(code)
        return await self._transport.host.blocking(lambda: derive_code_keys(normal))

    def _meeting(self, places: tuple[str, ...], seconds: float, *, ask: bool) -> Meeting:
        until = self._transport.host.now() + seconds
        return Meeting(places, until, ask, asyncio.get_running_loop().create_future())

    def _places(self) -> tuple[str, ...]:
        """Where we may be found: on the network by address; as others see us; as we see ourselves."""
        transport = self._transport
        credentials = transport.endpoint.credentials
        found: dict[str, None] = {}
        if self._clients:
            found[address_text(address(credentials.identity, credentials.address_nonce))] = None
        for client in self._clients:
            if client.observed is not None:
                found[endpoint_text(client.observed)] = None
        for _, port in transport.ports:
            host, number = port.local
            source = transport.host.source_address(_BEYOND[":" in host]) if host in _ANY else host
            if source is not None:
                found[endpoint_text((source, number))] = None
        return tuple(found)[:PLACES_LIMIT]


async def _introduce(identity: Identity, client: RendezvousClient) -> Route | None:
    return await client.introduce(identity)


def _parse_invitation(text: str) -> tuple[str, list[str]]:
    """Code and places. UsageError, which never repeats them."""
    code, _, rest = text.strip().partition("@")
    parse_code(code)
    places = [place.strip() for place in rest.split(",") if place.strip()]
    if not places:
        raise UsageError(
            "the code does not say where to find the other side",
            code="bad-invitation",
            next_step="covey introduce CODE@PLACE, where PLACE is its IP:PORT, or its name or address on your network",
        )
    if len(places) > PLACES_LIMIT:
        raise UsageError(f"an invitation names at most {PLACES_LIMIT} places", code="bad-invitation")
    return code, places


def _fail(meeting: Meeting, error: CoveyError) -> None:
    if not meeting.outcome.done():
        meeting.outcome.set_exception(error)
        meeting.outcome.exception()  # nobody need be waiting


def _window_error(code: str) -> CoveyError:
    again = "covey introduce, for another code"
    if code == "window-expired":
        return errors.TimeoutError("nobody came before the code's time was over", code=code, next_step=again)
    if code == "too-many-tries":
        return RefusedError("too many tries with this code, all of which broke off", code=code, next_step=again)
    return RefusedError(
        f"somebody had the code but could not prove who they are ({code})",
        code=code,
        next_step=f"check the clocks of both machines; then {again}",
    )


def _entry_error(code: str) -> CoveyError:
    if code == "no-answer":
        return UnreachableError(
            "nobody answers to this code there: it is wrong, used or too old, or that place cannot be reached",
            code=code,
            next_step="ask the other side for another code: covey introduce",
        )
    if code == "self":
        return UsageError("this is a code of this agent itself", code=code, next_step="give it to the other side")
    return RefusedError(
        f"the other side has the code but could not prove who it is ({code})",
        code=code,
        next_step="check the clocks of both machines; then ask for another code",
    )
