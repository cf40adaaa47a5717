"""The keys of one session: Noise's first, then one ratchet after the other (PROTOCOL 18)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from covey.base.errors import ParseError
from covey.core import limits
from covey.crypto.packet import PacketKey
from covey.crypto.ratchet import (
    Encapsulate,
    OfferSecret,
    accept_answer,
    answer_offer,
    chain_0,
    epoch_keys,
    make_offer,
    next_chain,
    offer_epoch,
)

__all__ = ["Epochs"]

_LAST_PACKETS: Final = limits.TRAIN_DATAGRAMS + 1
"""A train, which is never cut short for the limit, and the CLOSE after it."""


class Epochs:
    """Which keys seal and open now.

    The initiator calls `offer` and, with the reply, `on_answer`; the responder calls `on_offer`. Both call `opened`
    when a packet of the epoch `unproven` was opened, and `expire`. The initiator sends in the next epoch as soon as it
    has the answer; the responder once a packet of that epoch has arrived, which proves the initiator has its keys. Old
    packets open until the peer is known to have switched, and for an overlap after that: a side that forgot them
    sooner could never hear again from a peer whose proof was lost. After `ParseError`, `VerifyError` or `CryptoError`
    the present epoch goes on unchanged.
    """

    __slots__ = (
        "_chain",
        "_encapsulate",
        "_hash",
        "_initiator",
        "_latest",
        "_next_send",
        "_offer",
        "_offers_paid",
        "_previous",
        "_random",
        "_retire",
        "_secret",
        "_used",
        "bytes",
        "epoch",
        "hard_at",
        "key",
        "lifetimes",
        "packets",
        "receiving",
        "rekey_at",
        "since",
        "unproven",
    )

    def __init__(
        self,
        *,
        initiator: bool,
        keys: tuple[bytes, bytes],
        chaining_key: bytes,
        handshake_hash: bytes,
        random: Callable[[int], bytes],
        encapsulate: Encapsulate,
        now: float,
        lifetimes: limits.Lifetimes = limits.LIFETIMES,
    ) -> None:
        self.lifetimes = lifetimes
        self._initiator = initiator
        self._random = random
        self._encapsulate = encapsulate
        self._hash = handshake_hash
        self._chain = chain_0(chaining_key)
        sending, receiving = keys if initiator else keys[::-1]
        self.epoch = 0
        """The epoch we send in, all 64 bits of it."""
        self.key = PacketKey(sending)
        self.receiving: dict[int, PacketKey] = {0: PacketKey(receiving)}
        """The keys that open packets now, by wire epoch. Nobody keeps one of them: they are forgotten here."""
        self._retire: list[tuple[float, int]] = []
        self._latest = 0
        self.unproven = -1
        """Wire epoch whose first packet says that the peer has switched to it; -1 for none."""
        self._previous = 0
        self._next_send: PacketKey | None = None
        self._secret: OfferSecret | None = None
        self._offer = b""
        self.packets = 0
        self.bytes = 0
        self._offers_paid = now
        """Until when the peer's offers are paid for, `limits.OFFER_SECONDS` each."""
        self._begin(now)
        self.use(now)  # it is there to be replaced at once

    def _begin(self, now: float) -> None:
        self.since = now
        self._used = False
        self.rekey_at = now + self.lifetimes.unused_seconds
        """When the next ratchet is due at the latest, seconds."""
        self.hard_at = self.rekey_at + self.lifetimes.last_seconds
        """When the key may seal no more, seconds."""

    def use(self, at: float) -> None:
        """The present keys have carried a program's data since `at` at the latest: their short life begins.

        Until then there is nothing that a ratchet would protect. Keys that are older are replaced now.
        """
        if not self._used:
            self._used = True
            times = self.lifetimes
            self.rekey_at = max(self.since + times.rekey_seconds, at)
            self.hard_at = max(self.since + times.hard_seconds, at + times.last_seconds)

    @property
    def wire_epoch(self) -> int:
        return self.epoch & 0xFFFF

    def due(self, now: float) -> bool:
        """Whether it is time for the next ratchet."""
        return self._secret is None and self.unproven < 0 and (now >= self.rekey_at or self.worn)

    @property
    def offered(self) -> bool:
        """Our offer waits for its answer."""
        return self._secret is not None

    @property
    def worn(self) -> bool:
        """The key has sealed as much as one key should."""
        return self.packets >= self.lifetimes.rekey_packets or self.bytes >= self.lifetimes.rekey_bytes

    def exhausted(self, now: float) -> bool:
        """The key may seal no more trains: the AES-GCM limit, or the hard stop in time (DESIGN 4)."""
        return self.packets + _LAST_PACKETS > self.lifetimes.hard_packets or now >= self.hard_at

    def offer(self) -> bytes:
        """Starts the ratchet to the next epoch: the body of an OFFER."""
        self._secret, self._offer = make_offer(self._random(64), self._random(32), self._latest + 1)
        return self._offer

    def on_offer(self, body: bytes, now: float) -> bytes:
        """The body of the ANSWER. From now on packets of the next epoch open. ParseError for another epoch or haste."""
        epoch = self._latest + 1
        if self._initiator or offer_epoch(body) != epoch or self.unproven >= 0:
            raise ParseError("an offer out of turn")
        if self._offers_paid > now + limits.OFFERS_AHEAD_SECONDS:
            raise ParseError("offers too often")
        self._offers_paid = max(self._offers_paid, now) + limits.OFFER_SECONDS
        answer, dh, ss = answer_offer(body, self._random(32), self._encapsulate)
        self._advance(dh, ss, epoch, body, answer)
        return answer

    def on_answer(self, body: bytes, now: float) -> None:
        """Switches to the next epoch. ParseError without an offer."""
        if self._secret is None:
            raise ParseError("an answer to no offer")
        secret, self._secret = self._secret, None
        dh, ss = accept_answer(secret, body)
        self._advance(dh, ss, secret.epoch, self._offer, body)
        self._switch(now)

    def opened(self, wire_epoch: int, now: float, overlap: float) -> None:
        """A packet of this epoch authenticated: if it is `unproven`, old packets open for `overlap` seconds more."""
        if wire_epoch != self.unproven:
            return
        self.unproven = -1
        if self._next_send is not None:
            self._switch(now)
        self._retire.append((now + min(overlap, limits.OLD_KEY_SECONDS), self._previous))

    def expire(self, now: float) -> None:
        """Forgets the receive keys whose time is over."""
        while self._retire and self._retire[0][0] <= now:
            key = self.receiving.pop(self._retire.pop(0)[1], None)
            if key is not None:
                key.forget()

    def forget(self) -> None:
        """The session is over: overwrites every key it has. Nothing can be sealed or opened any more."""
        for key in (self.key, self._next_send, *self.receiving.values()):
            if key is not None:
                key.forget()
        self._chain[:] = bytes(len(self._chain))
        self._next_send = self._secret = None
        self.receiving.clear()

    @property
    def resting(self) -> bool:
        return self.key.resting and all(key.resting for key in self.receiving.values())

    def rest(self) -> None:
        """Gives back what is quickly made again when a packet is sealed or opened."""
        for key in (self.key, *self.receiving.values()):
            key.rest()

    def deadline(self) -> float | None:
        return self._retire[0][0] if self._retire else None

    def _advance(self, dh: bytes, ss: bytes, epoch: int, offer: bytes, answer: bytes) -> None:
        before, self._chain = self._chain, next_chain(self._chain, dh, ss, self._hash, epoch, offer, answer)
        before[:] = bytes(len(before))
        keys = epoch_keys(self._chain)
        sending, receiving = keys if self._initiator else keys[::-1]
        self.receiving[epoch & 0xFFFF] = PacketKey(receiving)
        self._next_send = PacketKey(sending)
        self._latest = epoch
        self.unproven = epoch & 0xFFFF
        self._previous = self.epoch & 0xFFFF

    def _switch(self, now: float) -> None:
        assert self._next_send is not None
        self.key.forget()
        self.key, self._next_send = self._next_send, None
        self.epoch = self._latest
        self._begin(now)
        self.packets = self.bytes = 0
        self._offer = b""
