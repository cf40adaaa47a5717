"""The relations between the constants that the protocol depends on."""

from __future__ import annotations

from covey.base import constants as c


def test_a_transport_key_outlives_two_rotations() -> None:
    # Three live at once when every rotation is on time, so at most four with one late (PROTOCOL 5).
    assert c.TRANSPORT_KEY_LIFE_SECONDS == 3 * c.TRANSPORT_KEY_ROTATE_SECONDS


def test_a_record_ends_before_the_transport_key_it_was_made_with() -> None:
    # The newest key is at most one rotation old when a record is made.
    assert c.RECORD_LIFE_SECONDS <= c.TRANSPORT_KEY_LIFE_SECONDS - c.TRANSPORT_KEY_ROTATE_SECONDS


def test_a_handshake_payload_fits_one_datagram() -> None:
    # 1200 bytes are the smallest path MTU (DESIGN 5); IKpsk2 message 1 adds 32 + 48 + 16 bytes.
    assert c.HANDSHAKE_PAYLOAD_LIMIT + 96 < 1200
    assert c.RECORD_LIMIT < 1200
