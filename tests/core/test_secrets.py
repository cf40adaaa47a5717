"""Keys that are over are gone: not only out of reach, but out of the process' memory."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from collections import Counter

import pytest

from covey.core.events import ConnectionLive
from covey.core.limits import Lifetimes
from covey.crypto.packet import PacketKey
from tests.core.pair import Chatter, Wire, admit

Secrets = list[tuple[str, bytes]]
OPENING = ("key", "chain", "ck")
"""What opens packets. The secrets of an exchange (dh, ss) are a library's bytes, which nobody can overwrite, and lead
nowhere without the chain."""


def leftovers(*argv: str) -> tuple[Secrets, Counter[bytes]]:
    """Every secret of `leftovers.py` as it was made, and how often each is in that program's memory at the end."""
    secrets: Secrets = []
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.core.leftovers", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with program:
        assert program.stdout is not None
        for line in program.stdout:
            if line == "ready\n":
                break
            kind, text = line.split()
            secrets.append((kind, bytes.fromhex(text)))
        else:
            raise AssertionError("the program died")
        wanted = re.compile(b"|".join(re.escape(secret) for _, secret in secrets))
        found: Counter[bytes] = Counter()
        for block in writable_memory(program.pid):
            found.update(wanted.findall(block))
    return secrets, found


def writable_memory(pid: int) -> list[bytes]:
    blocks = []
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                span, permissions, *_ = line.split()
                start, end = (int(number, 16) for number in span.split("-"))
                if permissions.startswith("rw") and start < 1 << 63:
                    memory.seek(start)
                    blocks.append(memory.read(end - start))
    except OSError as error:
        pytest.skip(f"the memory of a child cannot be read here: {error}")
    return blocks


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_memory_holds_no_key_of_an_epoch_that_is_over() -> None:
    secrets, found = leftovers()
    keys = [secret for kind, secret in secrets if kind == "key"]
    chains = [secret for kind, secret in secrets if kind == "chain"]
    assert len(set(keys)) == 2 * 6
    assert len(set(chains)) == 6
    # What is in use is found, so the search works.
    assert all(found[secret] for secret in (*keys[-2:], chains[-1]))
    over = [(kind, secret) for kind, secret in secrets if secret not in (*keys[-2:], chains[-1])]
    assert [kind for kind, secret in over if found[secret] and kind in OPENING] == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_memory_holds_no_key_of_a_session_that_ended() -> None:
    secrets, found = leftovers("ended")
    last = [secret for kind, secret in secrets if kind in ("chain", "key")][-3:]
    assert [kind for kind, secret in secrets if found[secret] and kind in OPENING and secret not in last] == []
    # A library's own buffer keeps the last result, freed, until it derives the next one.
    assert max(found[secret] for secret in last) <= 1


def test_past_keys_have_no_referrer_and_no_cipher() -> None:
    others = len(live_keys())  # of tests before this one
    wire = Wire(1, lifetimes=Lifetimes(rekey_bytes=20_000))
    a, b = wire.side("a"), wire.side("b")
    for side in (a, b):
        side.on_event = admit
    a.connect(b)
    assert wire.run(5, until=lambda: bool(a.of(ConnectionLive) and b.of(ConnectionLive)))
    wire.run(2)
    chatter = Chatter(wire, a, b)
    most = 0
    for _ in range(10):
        wire.run(3)
        most = max(most, len(live_keys()) - others)
    chatter.stop()
    wire.run(11)
    # Each side has one to seal with and one to open with, and during the overlap one of the peer's old ones.
    assert len(live_keys()) - others == 4
    assert most <= 4 + 2
    assert a.connection(b).session.epochs.epoch > 5


def live_keys() -> list[PacketKey]:
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, PacketKey)]


def test_forgotten_key_seals_nothing() -> None:
    key = PacketKey(b"k" * 32)
    assert len(key.aead.encrypt(bytes(12), b"x", None)) == 17
    key.forget()
    with pytest.raises(ValueError, match="128, 192, or 256"):
        _ = key.aead
