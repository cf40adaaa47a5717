from __future__ import annotations

import random

import pytest

from covey.base.errors import CoveyError, ParseError, VerifyError
from covey.core import limits
from covey.core.epochs import Epochs
from covey.crypto.packet import InvalidTag, PacketKey

HEADER = bytes(16)


def both(seed: int = 1, now: float = 0.0) -> tuple[Epochs, Epochs]:
    source = random.Random(seed)
    keys, chaining, handshake = (source.randbytes(32), source.randbytes(32)), source.randbytes(32), source.randbytes(32)

    def side(initiator: bool) -> Epochs:
        def encapsulate(public: bytes) -> tuple[bytes, bytes]:
            from covey.crypto.ratchet import encapsulate as real

            return real(public)

        return Epochs(
            initiator=initiator,
            keys=keys,
            chaining_key=chaining,
            handshake_hash=handshake,
            random=source.randbytes,
            encapsulate=encapsulate,
            now=now,
        )

    return side(True), side(False)


def opens(sender: Epochs, receiver: Epochs) -> bool:
    """Whether what one side seals now can be opened by the other."""
    key = receiver.receiving.get(sender.wire_epoch)
    return key is not None and fits(sender.key, key)


def fits(sealing: PacketKey, opening: PacketKey) -> bool:
    sealed = sealing.aead.encrypt(bytes(12), b"hello", HEADER)
    try:
        return opening.aead.decrypt(bytes(12), sealed, HEADER) == b"hello"
    except InvalidTag:
        return False


def ratchet(initiator: Epochs, responder: Epochs, now: float = 0.0) -> None:
    answer = responder.on_offer(initiator.offer(), 0.0)
    initiator.on_answer(answer, now)
    responder.opened(initiator.wire_epoch, now, 1.0)
    initiator.opened(responder.wire_epoch, now, 1.0)


def test_epoch_zero_is_noises() -> None:
    initiator, responder = both()
    assert (initiator.epoch, responder.epoch) == (0, 0)
    assert opens(initiator, responder)
    assert opens(responder, initiator)
    assert not fits(initiator.key, initiator.receiving.get(0))  # type: ignore[arg-type]


def test_ratchet_moves_both_sides_step_by_step() -> None:
    initiator, responder = both()
    offer = initiator.offer()
    answer = responder.on_offer(offer, 0.0)
    # The responder opens the next epoch, and still sends in the old one: the initiator may not have its answer.
    assert (responder.epoch, responder.unproven) == (0, 1)
    assert opens(responder, initiator)
    initiator.on_answer(answer, 5.0)
    assert (initiator.epoch, initiator.since) == (1, 5.0)
    assert opens(initiator, responder)
    assert opens(responder, initiator)
    responder.opened(1, 6.0, 1.0)
    assert (responder.epoch, responder.since, responder.unproven) == (1, 6.0, -1)
    assert opens(responder, initiator)
    initiator.opened(1, 7.0, 1.0)
    for epochs, retired in ((responder, 7.0), (initiator, 8.0)):
        assert epochs.deadline() == retired
        epochs.expire(retired - 0.001)
        assert epochs.receiving.get(0) is not None
        epochs.expire(retired)
        assert epochs.receiving.get(0) is None
        assert epochs.deadline() is None


def test_old_keys_stay_until_the_peer_is_known_to_have_switched() -> None:
    """However long the responder's first packet of the new epoch takes: it still sends in the old one."""
    initiator, responder = both()
    initiator.on_answer(responder.on_offer(initiator.offer(), 0.0), 0.0)
    initiator.expire(170.0)
    assert opens(responder, initiator)
    assert not initiator.due(170.0)


def test_old_keys_live_ten_seconds_at_most() -> None:
    initiator, responder = both()
    ratchet_with_overlap = 100.0
    initiator.on_answer(responder.on_offer(initiator.offer(), 0.0), 0.0)
    responder.opened(1, 0.0, ratchet_with_overlap)
    assert responder.deadline() == limits.OLD_KEY_SECONDS


def test_every_epoch_has_other_keys() -> None:
    initiator, responder = both()
    sealed = set()
    for _ in range(4):
        for side in (initiator, responder):
            sealed.add(side.key.aead.encrypt(bytes(12), b"hello", HEADER))
        ratchet(initiator, responder)
        assert opens(initiator, responder)
        assert opens(responder, initiator)
    assert len(sealed) == 8


def test_wire_epoch_wraps() -> None:
    initiator, responder = both()
    for epochs in (initiator, responder):
        epochs.epoch = epochs._latest = 0xFFFF
        epochs.receiving[0xFFFF] = epochs.receiving.pop(0)
    ratchet(initiator, responder)
    assert (initiator.epoch, initiator.wire_epoch) == (0x10000, 0)
    assert opens(initiator, responder)


def test_due_is_a_matter_of_time_packets_and_bytes() -> None:
    initiator, _ = both(now=10.0)
    assert not initiator.due(10.0 + limits.LIFETIMES.rekey_seconds - 0.001)
    assert initiator.due(10.0 + limits.LIFETIMES.rekey_seconds)
    initiator.packets = limits.LIFETIMES.rekey_packets
    assert initiator.worn
    assert initiator.due(10.0)
    initiator.packets, initiator.bytes = 0, limits.LIFETIMES.rekey_bytes
    assert initiator.due(10.0)
    initiator.offer()
    assert not initiator.due(10.0)


def test_counters_begin_anew_with_a_new_key() -> None:
    initiator, responder = both()
    initiator.packets = initiator.bytes = 5
    ratchet(initiator, responder, 3.0)
    assert (initiator.packets, initiator.bytes, initiator.since) == (0, 0, 3.0)


def test_exhausted_is_a_matter_of_packets_and_time() -> None:
    initiator, _ = both(now=10.0)
    assert not initiator.exhausted(10.0 + limits.LIFETIMES.hard_seconds - 0.001)
    assert initiator.exhausted(10.0 + limits.LIFETIMES.hard_seconds)
    initiator.packets = limits.LIFETIMES.hard_packets
    assert initiator.exhausted(10.0)


def test_key_that_carries_no_data_lives_an_hour_and_a_used_one_is_soon_replaced() -> None:
    times = limits.LIFETIMES
    initiator, responder = both()
    ratchet(initiator, responder, 10.0)
    assert initiator.rekey_at == 10.0 + times.unused_seconds
    assert initiator.hard_at == 10.0 + times.unused_seconds + times.last_seconds
    initiator.use(11.0)
    assert (initiator.rekey_at, initiator.hard_at) == (10.0 + times.rekey_seconds, 10.0 + times.hard_seconds)
    initiator.use(500.0)
    assert initiator.rekey_at == 10.0 + times.rekey_seconds, "only the first use counts"
    responder.use(3000.0)
    assert responder.due(3000.0)
    assert (responder.rekey_at, responder.hard_at) == (3000.0, 3000.0 + times.last_seconds)
    ratchet(initiator, responder, 3001.0)
    assert responder.rekey_at == 3001.0 + times.unused_seconds


def test_packets_of_unknown_epochs_have_no_key() -> None:
    initiator, _ = both()
    assert initiator.receiving.get(1) is None
    initiator.opened(7, 0.0, 1.0)
    assert initiator.deadline() is None


# --- out of turn ----------------------------------------------------------------------------------------------------


def test_initiator_answers_no_offer() -> None:
    initiator, responder = both()
    with pytest.raises(ParseError):
        initiator.on_offer(both(2)[0].offer(), 0.0)
    assert responder.unproven == -1


def test_offer_for_another_epoch_is_refused() -> None:
    initiator, responder = both()
    ratchet(initiator, responder)
    offer = initiator.offer()
    again, _ = both()
    with pytest.raises(ParseError):
        responder.on_offer(again.offer(), 0.0)
    assert responder.on_offer(offer, 0.0)


def test_second_offer_before_the_first_is_proven_is_refused() -> None:
    initiator, responder = both()
    responder.on_offer(initiator.offer(), 0.0)
    with pytest.raises(ParseError):
        responder.on_offer(initiator.offer(), 0.0)


def test_answer_without_an_offer_is_refused() -> None:
    initiator, _ = both()
    with pytest.raises(ParseError):
        initiator.on_answer(bytes(1128), 0.0)


@pytest.mark.parametrize("body", [b"", bytes(100), bytes(1128), b"\0" * 7 + b"\1" + bytes(1120)])
def test_bad_answer_leaves_the_present_epoch(body: bytes) -> None:
    initiator, responder = both()
    initiator.offer()
    with pytest.raises(CoveyError) as info:
        initiator.on_answer(body, 0.0)
    assert isinstance(info.value, ParseError | VerifyError)
    assert initiator.epoch == 0
    assert opens(initiator, responder)


@pytest.mark.parametrize("body", [b"", bytes(100), b"\0" * 7 + b"\1" + b"\xff" * 1216])
def test_bad_offer_leaves_the_present_epoch(body: bytes) -> None:
    initiator, responder = both()
    with pytest.raises(CoveyError) as info:
        responder.on_offer(body, 0.0)
    assert isinstance(info.value, ParseError | VerifyError)
    assert (responder.epoch, responder.unproven) == (0, -1)
    assert opens(responder, initiator)


def test_ratchets_are_answered_as_often_as_anybody_needs_them_and_no_more() -> None:
    """A peer that starts one after the other costs 64 of them at once, then four a second, then it is cut off."""
    initiator, responder = both()

    def ratchet(now: float) -> None:
        initiator.on_answer(responder.on_offer(initiator.offer(), now), now)
        for side in (responder, initiator):
            side.opened(side.unproven, now, 0.0)
            side.expire(now)

    done = 0
    with pytest.raises(ParseError):
        while done < 1000:
            ratchet(0.0)
            done += 1
    assert done == limits.OFFERS_AHEAD_SECONDS / limits.OFFER_SECONDS + 1
    initiator, responder = both(3)
    for number in range(200):
        ratchet(number * limits.OFFER_SECONDS)
    assert responder.epoch == 200
